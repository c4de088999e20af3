/** A server and, in front of it, a real Envoy with the shipped configuration: tests/mesh/stage.py, played until the test ends. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";

import { PYTHON, ROOT } from "../server.js";

/** Where both are, as `HOST:PORT`, and how it all ends. */
export interface Stage {
  envoy: string;
  direct: string;
  end: () => Promise<void>;
}

/** Two hosts: saves on `lab` take seconds, on `slow` they take for ever. */
export async function stage(): Promise<Stage> {
  const hosts = ["lab=sim://lab/?domains=4&running=4&save_seconds=2", "slow=sim://slow/?domains=4&running=4&save_seconds=3600"];
  const words = ["-m", "tests.mesh.stage", ...hosts.flatMap((host) => ["--host", host])];
  const play = spawn(PYTHON, words, { cwd: ROOT, stdio: ["pipe", "pipe", "inherit"] });
  const ended = once(play, "exit");
  const said = createInterface(play.stdout)[Symbol.asyncIterator]();
  const line = await Promise.race([said.next(), ended.then(() => ({ done: true, value: "" }))]);
  if (line.done === true) {
    throw new Error(`tests.mesh.stage ended before it began: ${String(play.exitCode)}`);
  }
  const { envoy, direct } = JSON.parse(line.value) as { envoy: string; direct: string };
  const end = async (): Promise<void> => {
    play.stdin.end();
    await ended;
  };
  return { envoy, direct, end };
}
