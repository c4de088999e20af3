/** The real `virtrpcd` as a process, simulated hosts that outlive it, and a proxy whose connections can be cut. */
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { connect as dial, createServer, type Server as NetServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { env } from "node:process";
import { fileURLToPath } from "node:url";

import { Freshness } from "../src/v1.js";
import { placeOf, type Place } from "../src/address.js";
import { VirtrpcError, type Client } from "../src/index.js";
import { connect, type ConnectOptions } from "../src/node.js";

export const ROOT = fileURLToPath(new URL("../../../", import.meta.url));
export const PYTHON = join(ROOT, ".venv/bin/python");
/** Milliseconds after which a wait is called a hang. */
export const GUARD = 60_000;

/** Waits until a condition holds, asking again and again. */
export async function eventually<T>(what: string, condition: () => Promise<T> | T): Promise<NonNullable<T>> {
  const end = performance.now() + GUARD;
  for (;;) {
    const held = await condition();
    if (held) {
      return held;
    }
    if (performance.now() > end) {
      throw new Error(`gave up waiting: ${what}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** A program in the background, whose output goes to a file. */
export class Program {
  #process: ChildProcess | undefined;

  constructor(
    private readonly command: readonly string[],
    readonly logFile: string,
  ) {}

  get log(): string {
    return readFileSync(this.logFile, "utf8");
  }

  get pid(): number {
    return this.#process?.pid ?? 0;
  }

  /** Starts it, and returns once it has said this. */
  async start(sign: string): Promise<void> {
    const log = openSync(this.logFile, "a");
    const heard = this.log.length;
    const [program = "", ...words] = this.command;
    const clean = Object.fromEntries(Object.entries(env).filter(([name]) => !name.startsWith("VIRTRPC_")));
    const child = spawn(program, words, { stdio: ["ignore", log, log], env: clean, cwd: ROOT });
    closeSync(log);
    this.#process = child;
    await eventually(`${program} to say "${sign}"`, () => {
      if (child.exitCode !== null || child.signalCode !== null) {
        throw new Error(`${program} ended:\n${this.log}`);
      }
      return this.log.slice(heard).includes(sign);
    });
  }

  /** Sends it a signal, and waits for its end. */
  async end(signal: NodeJS.Signals = "SIGTERM"): Promise<void> {
    const child = this.#process;
    if (child?.exitCode === null && child.signalCode === null) {
      const ended = once(child, "exit");
      child.kill(signal);
      await ended;
    }
  }
}

/** Keys of the configuration file. */
export type Settings = Record<string, unknown> & { jwt?: Record<string, unknown> };

/** What a test starts, ended and removed in reverse order. */
export class Bench {
  readonly path = mkdtempSync(join(tmpdir(), "virtrpc-ts-"));
  readonly #ends: (() => Promise<void> | void)[] = [];

  /** Does this at the end. */
  atEnd(end: () => Promise<void> | void): void {
    this.#ends.push(end);
  }

  async end(): Promise<void> {
    const faults: unknown[] = [];
    // One that fails must not leave the others running.
    for (const end of this.#ends.reverse()) {
      await Promise.resolve()
        .then(end)
        .catch((error: unknown) => faults.push(error));
    }
    rmSync(this.path, { recursive: true });
    if (faults.length > 0) {
      throw new AggregateError(faults, "not everything could be ended");
    }
  }

  /** `virtrpcd serve` with these hosts by name. `settings` are further lines of the configuration file, before the hosts. */
  async server(hosts: Record<string, string>, settings: Settings = {}, ...options: string[]): Promise<Server> {
    const server = new Server(this.path, hosts, settings, options);
    await server.start();
    this.atEnd(() => server.stop());
    return server;
  }

  /** A file of rules: callers by their names with the role that they have, for the setting `policy`. */
  policy(roles: Record<string, "viewer" | "operator" | "admin">): string {
    const file = join(this.path, "policy.cedar");
    const rules = Object.entries(roles).map(([name, role]) => `permit(principal == Caller::"${name}", action in Action::"${role}", resource);`);
    writeFileSync(file, rules.join("\n"));
    return file;
  }

  /** Simulated hosts in a process of their own; what they are called by in a server's configuration. */
  async simulated(): Promise<(host: string, options: Record<string, string>) => string> {
    const socket = join(this.path, "sim");
    const command = [PYTHON, "-m", "virtrpc_drivers.sim.daemon", "--socket", socket];
    const daemon = new Program(command, join(this.path, "sim.log"));
    await daemon.start("simulated hosts on");
    this.atEnd(() => daemon.end("SIGKILL"));
    return (host, options) => `sim://${host}/?${new URLSearchParams({ daemon: socket, ...options }).toString()}`;
  }

  /** A proxy in front of a server's address. */
  async proxy(address: string): Promise<Proxy> {
    const proxy = new Proxy(placeOf(address));
    await proxy.open();
    this.atEnd(() => proxy.close());
    return proxy;
  }

  /** A client of an address, closed at the end. */
  client(address: string, options: ConnectOptions = {}): Client {
    const client = connect(address, { timeoutMs: GUARD, ...options });
    this.atEnd(() => client.close());
    return client;
  }
}

/** The server. A killed one is started again with its journal. */
export class Server {
  readonly socket: string;
  readonly #program: Program;

  constructor(path: string, hosts: Record<string, string>, settings: Settings, options: string[]) {
    this.socket = join(path, "s");
    const config = join(path, "virtrpcd.toml");
    // What JSON writes for texts, numbers and booleans is TOML too.
    const { jwt, ...plain } = { drain_timeout: 5, state_dir: join(path, "state"), ...settings };
    const lines = Object.entries(plain).map(([key, value]) => line(key, value));
    if (jwt !== undefined) {
      lines.push("[jwt]", ...Object.entries(jwt).map(([key, value]) => line(key, value)));
    }
    const tables = Object.entries(hosts).flatMap(([name, uri]) => ["[[hosts]]", line("name", name), line("uri", uri)]);
    writeFileSync(config, [...lines, ...tables, ""].join("\n"));
    const command = [join(ROOT, ".venv/bin/virtrpcd"), "serve", "--socket", this.socket, "--config", config, ...options];
    this.#program = new Program(command, join(path, "virtrpcd.log"));
  }

  get address(): string {
    return `unix://${this.socket}`;
  }

  get log(): string {
    return this.#program.log;
  }

  /** Where it listens that was told to take any port. */
  get tcp(): string {
    return /127\.0\.0\.1:[1-9]\d*/.exec(this.log)?.[0] ?? "";
  }

  async start(): Promise<void> {
    await this.#program.start(" listens on ");
  }

  async kill(): Promise<void> {
    await this.#program.end("SIGKILL");
  }

  async stop(): Promise<void> {
    await this.#program.end();
  }
}

/** What this work fails with. */
export async function failure(work: Promise<unknown>): Promise<VirtrpcError> {
  const error: unknown = await work.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (!(error instanceof VirtrpcError)) {
    throw new Error("it failed with no error of ours", { cause: error });
  }
  return error;
}

/** Returns once every host is LIVE. */
export async function live(client: Client): Promise<void> {
  await eventually("the hosts to be LIVE", async () => (await client.listHosts().all()).every((host) => host.state === Freshness.LIVE));
}

/** TCP in front of a server's socket; every connection can be cut at once. */
export class Proxy {
  readonly #callers = new Set<Socket>();
  readonly #server: NetServer;

  constructor(place: Place) {
    this.#server = createServer((caller) => {
      const server = dial(place);
      this.#callers.add(caller);
      caller.on("error", () => caller.destroy()).on("close", () => server.destroy());
      server
        .on("error", () => server.destroy())
        .on("close", () => {
          this.#callers.delete(caller);
          caller.destroy();
        });
      caller.pipe(server).pipe(caller);
    });
  }

  get address(): string {
    const address = this.#server.address();
    return address !== null && typeof address === "object" ? `127.0.0.1:${String(address.port)}` : "";
  }

  async open(): Promise<void> {
    this.#server.listen(0, "127.0.0.1");
    await once(this.#server, "listening");
  }

  /** Cuts every connection, and returns once that is done. */
  async cut(): Promise<void> {
    const cut = [...this.#callers].map(async (caller) => {
      caller.resetAndDestroy();
      await once(caller, "close");
    });
    await Promise.all(cut);
  }

  async close(): Promise<void> {
    this.#server.close();
    await this.cut();
  }
}

function line(key: string, value: unknown): string {
  return `${key} = ${JSON.stringify(value)}`;
}
