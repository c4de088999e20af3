/** A server and, in front of it, a real Envoy with the shipped configuration: tests/mesh/stage.py, played until the test ends. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";

import { PYTHON, ROOT } from "../server.js";

/** Where both are, as `HOST:PORT`, and how it all ends. */
export interface Stage {
  envoy: string;
  direct: string;
  /** Kills Envoy, and starts it again where it was. */
  restart: () => Promise<void>;
  end: () => Promise<void>;
}

/** Two hosts: saves on `lab` take seconds, on `slow` they take for ever. With a directory for them, both sides ask for certificates. */
export async function stage(certificates?: string): Promise<Stage> {
  const hosts = ["lab=sim://lab/?domains=6&running=6&save_seconds=2", "slow=sim://slow/?domains=4&running=4&save_seconds=3600"];
  const secured = certificates === undefined ? [] : ["--secured", certificates];
  const words = ["-m", "tests.mesh.stage", ...secured, ...hosts.flatMap((host) => ["--host", host])];
  const play = spawn(PYTHON, words, { cwd: ROOT, stdio: ["pipe", "pipe", "inherit"] });
  const ended = once(play, "exit");
  const said = createInterface(play.stdout)[Symbol.asyncIterator]();
  const line = async (): Promise<string> => {
    const next = await Promise.race([said.next(), ended.then(() => ({ done: true, value: "" }))]);
    if (next.done === true) {
      throw new Error(`tests.mesh.stage has ended: ${String(play.exitCode)}`);
    }
    return next.value;
  };
  const { envoy, direct } = JSON.parse(await line()) as { envoy: string; direct: string };
  const restart = async (): Promise<void> => {
    play.stdin.write("restart\n");
    await line();
  };
  const end = async (): Promise<void> => {
    play.stdin.end();
    await ended;
  };
  return { envoy, direct, restart, end };
}
