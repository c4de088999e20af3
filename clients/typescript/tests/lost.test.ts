import { afterEach, beforeEach, describe, expect, test } from "vitest";

import { DomainMirror, domainRef, seconds, type Client } from "../src/index.js";
import { DomainState, JobState } from "../src/v1.js";
import { Bench, eventually, failure, GUARD, live, type Proxy, type Server } from "./server.js";

let bench: Bench;
let server: Server;
let proxy: Proxy;
let client: Client;

beforeEach(async () => {
  bench = new Bench();
  // It outlives the server, as QEMU's guests do.
  const uri = await bench.simulated();
  server = await bench.server({ lab: uri("lab", { domains: "3", running: "3", save_seconds: "4" }) });
  proxy = await bench.proxy(server.address);
  client = bench.client(proxy.address);
  await live(client);
});
afterEach(() => bench.end());

async function first(): Promise<string> {
  const [domain] = await client.listDomains().all();
  return `lab/${domain?.name ?? ""}`;
}

/** The events of a job, and what brings them about. */
function listener(): { told: string[]; options: { onBroken: () => void; onMended: () => void } } {
  const told: string[] = [];
  return { told, options: { onBroken: () => told.push("broken"), onMended: () => told.push("mended") } };
}

async function jobs(): Promise<string[]> {
  return (await client.listJobs().all()).map((job) => job.jobId);
}

describe("a connection that is cut", () => {
  test("leaves a job to be followed on a new one, to its end, and no state comes twice", async () => {
    const { told, options } = listener();
    const save = await client.managedSaveDomain({ domain: domainRef(await first()) }, options);
    const revisions: bigint[] = [];
    for await (const job of save) {
      revisions.push(job.revision);
      if (revisions.length === 2) {
        await proxy.cut();
      }
    }
    expect((await save.wait()).state).toBe(JobState.SUCCEEDED);
    expect(told.slice(0, 1)).toEqual(["broken"]);
    expect(told.at(-1)).toBe("mended");
    expect(revisions).toEqual([...new Set(revisions)].sort((a, b) => Number(a - b)));
    expect(await jobs()).toEqual([save.jobId]);
  });

  test("leaves a watch to go on where it was: nothing is missed, and nothing told anew", async () => {
    const name = await first();
    const mirror = new DomainMirror();
    const told: unknown[] = [];
    const resets: boolean[] = [];
    for await (const batch of client.watchDomains({}, { onBroken: (error) => told.push(error?.kind), signal: AbortSignal.timeout(GUARD) })) {
      const begun = mirror.caughtUp;
      mirror.apply(batch);
      if (begun) {
        resets.push(batch.reset);
      }
      if (mirror.caughtUp && !begun) {
        await proxy.cut();
        await (await client.suspendDomain({ domain: domainRef(name) })).wait();
      }
      if ([...mirror.domains.values()].some((domain) => domain.state === DomainState.PAUSED)) {
        break;
      }
    }
    expect(told).toContain("ServerUnavailable");
    expect(resets).not.toContain(true);
    expect(mirror.domains.size).toBe(3);
  });
});

describe("a server that is killed", () => {
  test("is found again by a job's handle, and the job goes on: its journal knows it, and the guest's host ran on", async () => {
    const { told, options } = listener();
    const save = await client.managedSaveDomain({ domain: domainRef(await first()) }, options);
    const waiting = save.wait();
    await eventually("the save to run", () => save.job?.state === JobState.RUNNING);
    await server.kill();
    await eventually("the handle to notice", () => told.includes("broken"));
    await server.start();
    const ended = await waiting;
    expect(ended).toMatchObject({ jobId: save.jobId, state: JobState.SUCCEEDED });
    expect(told.at(-1)).toBe("mended");
    expect(await jobs()).toEqual([save.jobId]);
  });

  test("is tried until it accepts a verb, which runs once", async () => {
    const name = await first();
    await server.kill();
    const { told, options } = listener();
    const starting = client.suspendDomain({ domain: domainRef(name) }, options);
    await eventually("a few attempts", () => told.length > 2);
    await server.start();
    const ended = await (await starting).wait();
    expect(ended.state).toBe(JobState.SUCCEEDED);
    expect(await jobs()).toEqual([ended.jobId]);
  });

  test("takes up a watch again with the present state", async () => {
    const mirror = new DomainMirror();
    let killed = false;
    let reset = false;
    for await (const batch of client.watchDomains()) {
      mirror.apply(batch);
      reset ||= killed && batch.reset;
      if (reset && mirror.caughtUp) {
        break;
      }
      if (mirror.caughtUp && !killed) {
        await server.kill();
        await server.start();
        killed = true;
      }
    }
    expect(mirror.domains.size).toBe(3);
  });
});

describe("a server that drains", () => {
  test("refuses verbs with a delay, which the next server's callers have waited for", async () => {
    const domain = domainRef(await first());
    const save = await client.managedSaveDomain({ domain });
    await eventually("the save to run", async () => (await client.getJob({ jobId: save.jobId })).job?.state === JobState.RUNNING);
    const stopping = server.stop();
    const error = await eventually("a refusal", async () => {
      const refused = await failure(client.startDomain({ domain, options: { waitTimeout: seconds(1) } }, { timeoutMs: 1 }));
      return refused.reason === "DRAINING" ? refused : undefined;
    });
    expect(error).toMatchObject({ kind: "ServerUnavailable" });
    expect(error.retryDelay).toBeGreaterThan(0);
    await stopping;
    await server.start();
    expect((await save.wait()).state).toBe(JobState.SUCCEEDED);
  });
});
