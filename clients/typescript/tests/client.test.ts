import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { DomainMirror, domainRef, JobMirror, seconds, type Client, type JobHandle } from "../src/index.js";
import { CancelOutcome, DomainState, JobState, OnDisconnect, type Job } from "../src/v1.js";
import { Bench, eventually, failure, GUARD, live, type Server } from "./server.js";

const bench = new Bench();
let server: Server;
let client: Client;

beforeAll(async () => {
  server = await bench.server({ lab: "sim://lab/?domains=5&running=5&save_seconds=1", slow: "sim://slow/?domains=9&running=9&save_seconds=3600" });
  client = bench.client(server.address);
  await live(client);
});
afterAll(() => bench.end());

const unused = new Map<string, string[]>();

/** A running domain that no other test has had. */
async function guest(host: string): Promise<string> {
  if (!unused.has(host)) {
    unused.set(
      host,
      (await client.listDomains({ filter: { hosts: [host] } }).all()).map((domain) => `${host}/${domain.name}`),
    );
  }
  return unused.get(host)?.pop() ?? "";
}

async function begun(handle: JobHandle): Promise<Job> {
  for await (const job of handle) {
    if (job.state === JobState.RUNNING && job.abortable) {
      return job;
    }
  }
  throw new Error("it ended");
}

async function state(name: string): Promise<DomainState | undefined> {
  return (await client.getDomain({ target: { case: "domain", value: domainRef(name) } })).domain?.state;
}

describe("a job", () => {
  test("is followed to its end by iterating, and tells what it brought", async () => {
    const name = await guest("lab");
    const save = await client.managedSaveDomain({ domain: domainRef(name) });
    const seen: Job[] = [];
    for await (const job of save) {
      seen.push(job);
    }
    const ended = await save.wait();
    expect(seen.at(-1)).toBe(ended);
    expect(seen.some((job) => job.state === JobState.RUNNING)).toBe(true);
    expect(ended).toMatchObject({ jobId: save.jobId, state: JobState.SUCCEEDED });
    expect(ended.result).toMatchObject({ case: "domainResult", value: { domain: { state: DomainState.SHUTOFF } } });
    expect(await state(name)).toBe(DomainState.SHUTOFF);
  });

  test("is followed by several at once, each of whom sees its end", async () => {
    const save = await client.managedSaveDomain({ domain: domainRef(await guest("lab")) });
    const last = async (): Promise<Job | undefined> => {
      let told: Job | undefined;
      for await (const job of save) {
        told = job;
      }
      return told;
    };
    const ends = await Promise.all([save.wait(), last(), last()]);
    expect(new Set(ends).size).toBe(1);
  });

  test("is cancelled by its handle: the end is an error with the job, and the guest runs on", async () => {
    const name = await guest("slow");
    const save = await client.managedSaveDomain({ domain: domainRef(name) });
    await begun(save);
    const answer = await save.cancel();
    expect(answer.outcome).toBe(CancelOutcome.ABORTING);
    const error = await failure(save.wait());
    expect(error).toMatchObject({ kind: "Cancelled", reason: "CANCELLED", job: { state: JobState.CANCELLED } });
    expect(await state(name)).toBe(DomainState.RUNNING);
    expect((await save.cancel()).outcome).toBe(CancelOutcome.ALREADY_FINISHED);
  });

  test("is found again under its request_id, and no second one is made", async () => {
    const request = { domain: domainRef(await guest("slow")), options: { requestId: "the same" } };
    const [first, second] = [await client.managedSaveDomain(request), await client.managedSaveDomain(request)];
    expect(second.jobId).toBe(first.jobId);
    const other = await client.managedSaveDomain({ domain: domainRef(await guest("slow")) });
    await begun(other);
    expect(other.job?.requestId).toMatch(/^[0-9a-f]{32}$/);
    expect(request.options).toEqual({ requestId: "the same" });
  });

  test("goes on for others when one wait is given up by its own signal", async () => {
    const save = await client.managedSaveDomain({ domain: domainRef(await guest("slow")) });
    await begun(save);
    const leaving = new AbortController();
    const given = save.wait({ signal: leaving.signal });
    const other = save.wait();
    leaving.abort("enough");
    await expect(given).rejects.toBe("enough");
    await save.cancel();
    expect((await failure(other)).kind).toBe("Cancelled");
  });

  test("hears that its caller has left, by the signal that the verb was given", async () => {
    const leaving = new AbortController();
    const request = { domain: domainRef(await guest("slow")), options: { onDisconnect: OnDisconnect.CANCEL } };
    const save = await client.managedSaveDomain(request, { signal: leaving.signal });
    await begun(save);
    const waiting = save.wait();
    leaving.abort("gone");
    await expect(waiting).rejects.toBe("gone");
    const error = await failure(client.watchJob({ jobId: save.jobId }).wait());
    expect(error.kind).toBe("Cancelled");
  });

  test("is watched by whoever knows its id, and closing that handle leaves it alone", async () => {
    const save = await client.managedSaveDomain({ domain: domainRef(await guest("slow")) });
    const other = client.watchJob({ jobId: save.jobId });
    await begun(other);
    const waiting = failure(other.wait());
    other.close();
    expect((await waiting).message).toBe("this handle was closed");
    expect((await client.getJob({ jobId: save.jobId })).job?.state).toBe(JobState.RUNNING);
    await save.cancel();
    expect((await failure(save.wait())).kind).toBe("Cancelled");
  });
});

describe("an error", () => {
  test("of a refused verb says its kind, reason and metadata", async () => {
    const error = await failure(client.startDomain({ domain: domainRef("lab/none-such") }));
    expect(error).toMatchObject({ kind: "NotFound", reason: "DOMAIN_NOT_FOUND", metadata: { domain: "none-such", host: "lab" } });
    expect(error.message).toContain("none-such");
    expect(error.job).toBeUndefined();
  });

  test("of a domain in the wrong state names that state", async () => {
    const error = await failure(client.startDomain({ domain: domainRef(await guest("lab")) }));
    expect(error).toMatchObject({ kind: "WrongState", reason: "WRONG_STATE", metadata: { state: "running" } });
  });

  test("of who may not queue, or waited in vain, names who is in the way", async () => {
    const domain = domainRef(await guest("slow"));
    const save = await client.managedSaveDomain({ domain });
    await begun(save);
    const busy = await failure(client.suspendDomain({ domain, options: { waitTimeout: seconds(0) } }));
    expect(busy).toMatchObject({ kind: "Busy", reason: "BUSY", metadata: { holder_job_id: save.jobId } });
    const queued = await client.suspendDomain({ domain, options: { waitTimeout: seconds(0.2) } });
    const late = await failure(queued.wait());
    expect(late).toMatchObject({
      kind: "WaitTimeout",
      reason: "WAIT_TIMEOUT",
      metadata: { holder_job_id: save.jobId },
      job: { state: JobState.FAILED },
    });
    await save.cancel();
  });

  test("of a job that nobody knows is final", async () => {
    const error = await failure(client.watchJob({ jobId: "none-such" }).wait());
    expect(error).toMatchObject({ kind: "JobNotFound", reason: "JOB_NOT_FOUND" });
  });

  test("of a server that is not there comes after the timeout, as ServerUnavailable", async () => {
    const nobody = bench.client(`unix://${bench.path}/nobody`, { timeoutMs: 300 });
    const told: unknown[] = [];
    const onBroken = (error: unknown): unknown => told.push(error);
    const works = [nobody.getHost({}), nobody.startDomain({ domain: domainRef("web") }, { onBroken }), nobody.watchJob({ jobId: "1" }).wait()];
    const errors = await Promise.all(works.map(failure));
    expect(errors.map((error) => error.kind)).toEqual(["ServerUnavailable", "ServerUnavailable", "ServerUnavailable"]);
    expect(told).not.toEqual([]);
  });

  test("of a signal is that signal's reason", async () => {
    await expect(client.listHosts({}, { signal: AbortSignal.abort("no") }).all()).rejects.toBe("no");
    await expect(client.startDomain({ domain: domainRef("x") }, { signal: AbortSignal.abort("no") })).rejects.toBe("no");
  });

  test("of a client that was closed says so", async () => {
    const other = bench.client(server.address);
    const watch = other.watchDomains()[Symbol.asyncIterator]();
    await watch.next();
    const waiting = failure(watch.next());
    other.close();
    expect((await waiting).message).toBe("this client was closed");
    expect((await failure(other.getHost({}))).message).toBe("this client was closed");
  });
});

describe("a list", () => {
  test("is asked for page by page, and gives every entry", async () => {
    const all = await client.listDomains().all();
    const listing = client.listDomains({ pageSize: 3 });
    const pages = [];
    for await (const page of listing.pages()) {
      pages.push(page.domains.length);
    }
    expect(pages).toEqual([3, 3, 3, 3, 2]);
    expect((await listing.all()).map((domain) => domain.uuid)).toEqual(all.map((domain) => domain.uuid));
  });
});

describe("what comes in pieces", () => {
  test("is iterated, and ends", async () => {
    const domain = domainRef(await guest("lab"));
    let bytes = 0;
    let total = 0n;
    for await (const piece of client.takeScreenshot({ domain })) {
      bytes += piece.data.length;
      total ||= piece.totalBytes;
    }
    expect(bytes).toBeGreaterThan(0);
    expect(BigInt(bytes)).toBe(total);
  });
});

describe("a watch", () => {
  test("tells the present, then changes, and goes on from its token", async () => {
    const name = await guest("lab");
    const mirror = new DomainMirror();
    const paused = (): boolean => [...mirror.domains.values()].some((one) => `lab/${one.name}` === name && one.state === DomainState.PAUSED);
    const watch = client.watchDomains({ filter: { hosts: ["lab"] } }, { signal: AbortSignal.timeout(GUARD) });
    for await (const batch of watch) {
      mirror.apply(batch);
      if (mirror.caughtUp) {
        break;
      }
    }
    expect(mirror.domains.size).toBe(5);
    await (await client.suspendDomain({ domain: domainRef(name) })).wait();
    const resets: boolean[] = [];
    for await (const batch of client.watchDomains({ filter: { hosts: ["lab"] }, resumeToken: watch.resumeToken })) {
      mirror.apply(batch);
      resets.push(batch.reset);
      if (paused()) {
        break;
      }
    }
    expect(resets).not.toContain(true);
  });

  test("of jobs holds those that run", async () => {
    const save = await client.managedSaveDomain({ domain: domainRef(await guest("slow")) });
    const mirror = new JobMirror();
    for await (const batch of client.watchJobs()) {
      mirror.apply(batch);
      if (mirror.jobs.get(save.jobId)?.state === JobState.RUNNING) {
        break;
      }
    }
    await save.cancel();
    await failure(save.wait());
    await eventually("the job to be over", async () => (await client.getJob({ jobId: save.jobId })).job?.state === JobState.CANCELLED);
  });

  test("is refused with a token that is none", async () => {
    const told: string[] = [];
    const watch = client.watchDomains({ resumeToken: "nonsense" }, { onBroken: (error) => told.push(error?.reason ?? "") });
    for await (const batch of watch) {
      expect(batch.reset).toBe(true);
      break;
    }
    expect(told).toEqual(["RESUME_TOKEN_INVALID"]);
  });
});
