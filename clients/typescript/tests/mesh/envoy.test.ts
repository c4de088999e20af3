import { afterAll, beforeAll, expect, test } from "vitest";

import { DomainMirror, domainRef, VirtrpcError, type Client } from "../../src/index.js";
import { connect as connectByGrpc } from "../../src/node.js";
import { connect as connectByWeb } from "../../src/web.js";
import { CancelOutcome, DomainState, JobState } from "../../src/v1.js";
import { Bench, failure, GUARD } from "../server.js";
import { stage, type Stage } from "./stage.js";

let play: Stage;
const clients = new Map<string, Client>();
const PROTOCOLS = ["gRPC", "gRPC-Web"];

beforeAll(async () => {
  play = await stage();
  clients.set("gRPC", connectByGrpc(play.envoy, { timeoutMs: GUARD }));
  clients.set("gRPC-Web", connectByWeb(`http://${play.envoy}`, { timeoutMs: GUARD }));
});
afterAll(async () => {
  clients.forEach((client) => client.close());
  await play.end();
});

function by(protocol: string): Client {
  const client = clients.get(protocol);
  if (client === undefined) {
    throw new Error(protocol);
  }
  return client;
}

/** Each protocol has a guest of each host to itself. */
function guest(host: string, protocol: string): string {
  return `${host}/guest-${String(PROTOCOLS.indexOf(protocol) + 1)}`;
}

test.each(PROTOCOLS)("the main job runs through Envoy by %s", async (protocol) => {
  const save = await by(protocol).managedSaveDomain({ domain: domainRef(guest("lab", protocol)) });
  const states = new Set<JobState>();
  for await (const job of save) {
    states.add(job.state);
  }
  expect([...states].slice(-2)).toEqual([JobState.RUNNING, JobState.SUCCEEDED]);
  expect((await save.wait()).result).toMatchObject({ case: "domainResult", value: { domain: { state: DomainState.SHUTOFF } } });
});

test.each(PROTOCOLS)("a job is cancelled through Envoy by %s", async (protocol) => {
  const save = await by(protocol).managedSaveDomain({ domain: domainRef(guest("slow", protocol)) });
  for await (const job of save) {
    if (job.abortable) {
      break;
    }
  }
  expect((await save.cancel()).outcome).toBe(CancelOutcome.ABORTING);
  expect(await failure(save.wait())).toMatchObject({ kind: "Cancelled", reason: "CANCELLED", job: { state: JobState.CANCELLED } });
});

test.each(PROTOCOLS)("errors come through Envoy with their reasons by %s", async (protocol) => {
  const lost = await failure(by(protocol).startDomain({ domain: domainRef("lab/none-such") }));
  expect(lost).toMatchObject({ kind: "NotFound", reason: "DOMAIN_NOT_FOUND", metadata: { domain: "none-such" } });
  const wrong = await failure(by(protocol).startDomain({ domain: domainRef("slow/guest-4") }));
  expect(wrong).toMatchObject({ kind: "WrongState", metadata: { host: "slow" } });
  const read = await failure(by(protocol).getHost({ host: "none-such" }));
  expect(read).toMatchObject({ kind: "NotFound", reason: "HOST_NOT_CONFIGURED" });
  expect(read).toBeInstanceOf(VirtrpcError);
});

test.each(PROTOCOLS)("a job is followed on when its connection to Envoy is cut, by %s", async (protocol) => {
  const bench = new Bench();
  const proxy = await bench.proxy(play.envoy);
  const told: string[] = [];
  const options = { timeoutMs: GUARD, onBroken: () => told.push("broken"), onMended: () => told.push("mended") };
  const client = protocol === "gRPC" ? connectByGrpc(proxy.address, options) : connectByWeb(`http://${proxy.address}`, options);
  const save = await client.managedSaveDomain({ domain: domainRef(`lab/guest-${String(PROTOCOLS.indexOf(protocol) + 3)}`) });
  for await (const job of save) {
    if (job.state === JobState.RUNNING) {
      await proxy.cut();
      break;
    }
  }
  expect((await save.wait()).state).toBe(JobState.SUCCEEDED);
  expect([told[0], told.at(-1)]).toEqual(["broken", "mended"]);
  client.close();
  await bench.end();
});

test.each(PROTOCOLS)("jobs and watches go on when Envoy is killed and comes back, by %s", async (protocol) => {
  const client = by(protocol);
  const name = `guest-${String(PROTOCOLS.indexOf(protocol) + 5)}`;
  const saved = (async () => {
    const mirror = new DomainMirror();
    for await (const batch of client.watchDomains({ filter: { hosts: ["lab"] } }, { signal: AbortSignal.timeout(GUARD) })) {
      mirror.apply(batch);
      if ([...mirror.domains.values()].find((domain) => domain.name === name)?.stateReason === "saved") {
        return true;
      }
    }
    return false;
  })();
  const save = await client.managedSaveDomain({ domain: domainRef(name, "lab") });
  for await (const job of save) {
    if (job.abortable) {
      await play.restart();
      break;
    }
  }
  expect((await save.wait()).state).toBe(JobState.SUCCEEDED);
  expect(await saved).toBe(true);
});

test.each(PROTOCOLS)("a watch tells of changes through Envoy by %s", async (protocol) => {
  const [mirror, name] = [new DomainMirror(), `guest-${String(PROTOCOLS.indexOf(protocol) + 3)}`];
  for await (const batch of by(protocol).watchDomains({ filter: { hosts: ["slow"] } }, { signal: AbortSignal.timeout(GUARD) })) {
    const begun = mirror.caughtUp;
    mirror.apply(batch);
    if (mirror.caughtUp && !begun) {
      await (await by(protocol).suspendDomain({ domain: domainRef(name, "slow") })).wait();
    }
    if ([...mirror.domains.values()].find((domain) => domain.name === name)?.state === DomainState.PAUSED) {
      break;
    }
  }
  expect(mirror.domains.size).toBe(4);
});
