/** What a real server cannot be brought to on demand: silence, delays, and answers that nobody knows yet. Time is virtual. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, createRouterTransport, type ConnectRouter } from "@connectrpc/connect";
import { afterEach, beforeEach, expect, test, vi } from "vitest";

import { ErrorInfoSchema, RetryInfoSchema } from "../src/gen/google/rpc/error_details_pb.js";
import { createClient, domainRef, seconds, type Client } from "../src/index.js";
import { JobService, JobState, JobUpdateSchema, QueryService, type StartDomainRequest, type WatchJobRequest } from "../src/v1.js";
import { failure } from "./server.js";

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

const domain = domainRef("web");

function client(routes: (router: ConnectRouter) => void): Client {
  return createClient(createRouterTransport(routes));
}

function job(state: JobState, revision: number, more: object = {}): MessageInitShape<typeof JobUpdateSchema> {
  return create(JobUpdateSchema, { job: { jobId: "job-1", state, revision: BigInt(revision), ...more } });
}

function refusal(code: Code, reason: string, delayMs?: number): ConnectError {
  const details: ConnectError["details"] = [{ desc: ErrorInfoSchema, value: { domain: "virtrpc", reason } }];
  if (delayMs !== undefined) {
    details.push({ desc: RetryInfoSchema, value: { retryDelay: durationFromMs(delayMs) } });
  }
  const error = new ConnectError("as told", code);
  error.details = details;
  return error;
}

const forever = (signal: AbortSignal): Promise<never> =>
  new Promise((_, reject) => {
    signal.addEventListener("abort", () => {
      reject(new ConnectError("left", Code.Canceled));
    });
  });

test("a job whose stream is silent for three heartbeats is attached to again, and no state comes twice", async () => {
  const asked: (StartDomainRequest | WatchJobRequest)[] = [];
  const broken: (string | undefined)[] = [];
  const handle = await client(({ service }) => {
    service(JobService, {
      async *startDomain(request, context) {
        asked.push(request);
        yield job(JobState.RUNNING, 1);
        await forever(context.signal);
      },
      async *watchJob(request) {
        asked.push(request);
        yield job(JobState.RUNNING, 1);
        await Promise.resolve();
        yield job(JobState.SUCCEEDED, 2);
      },
    });
  }).startDomain({ domain, options: { heartbeat: seconds(4) } }, { onBroken: (error) => broken.push(error?.message) });
  const revisions: bigint[] = [];
  const following = (async () => {
    for await (const told of handle) {
      revisions.push(told.revision);
    }
  })();
  await vi.advanceTimersByTimeAsync(11_900);
  expect(asked).toHaveLength(1);
  await vi.advanceTimersByTimeAsync(300);
  await following;
  expect(revisions).toEqual([1n, 2n]);
  expect(broken).toEqual(["nothing was heard for 12 s"]);
  expect(asked[1]).toMatchObject({ jobId: "job-1", heartbeat: { seconds: 4n } });
});

test("heartbeats keep a quiet job: they are asked for, and are not given to who iterates", async () => {
  let beat = 0n;
  const handle = await client(({ service }) => {
    service(JobService, {
      async *startDomain(request) {
        beat = request.options?.heartbeat?.seconds ?? 0n;
        for (let beats = 0; beats < 10; beats++) {
          yield job(JobState.RUNNING, 1);
          await new Promise((resolve) => setTimeout(resolve, 15_000));
        }
        yield job(JobState.SUCCEEDED, 2);
      },
    });
  }).startDomain({ domain });
  const waiting = handle.wait();
  await vi.advanceTimersByTimeAsync(151_000);
  expect((await waiting).state).toBe(JobState.SUCCEEDED);
  expect(beat).toBe(15n);
});

test("a verb that is refused with a delay is sent again after it, under the same id", async () => {
  const sent: { id: string | undefined; at: number }[] = [];
  const starting = client(({ service }) => {
    service(JobService, {
      // eslint-disable-next-line @typescript-eslint/require-await -- the contract's verbs stream
      async *startDomain(request) {
        sent.push({ id: request.options?.requestId, at: Date.now() });
        if (sent.length === 1) {
          throw refusal(Code.Unavailable, "DRAINING", 2_000);
        }
        yield job(JobState.SUCCEEDED, 1);
      },
    });
  }).startDomain({ domain });
  await vi.advanceTimersByTimeAsync(10_000);
  expect((await (await starting).wait()).state).toBe(JobState.SUCCEEDED);
  const [first, second] = sent;
  expect((second?.at ?? 0) - (first?.at ?? 0)).toBeGreaterThanOrEqual(2_000);
  expect(first?.id).toBe(second?.id);
});

test("a read is asked again where the server says when, for as long as its timeout; else what a hypervisor lacks is final", async () => {
  let asked = 0;
  const api = client(({ service }) => {
    service(QueryService, {
      getHost: ({ host }) => {
        asked += 1;
        throw refusal(Code.FailedPrecondition, "HOST_UNREACHABLE", host === "soon" ? 500 : undefined);
      },
    });
  });
  expect((await failure(api.getHost({ host: "never" }))).kind).toBe("HostUnreachable");
  expect(asked).toBe(1);
  const patient = failure(api.getHost({ host: "soon" }, { timeoutMs: 5_000 }));
  await vi.advanceTimersByTimeAsync(6_000);
  expect(await patient).toMatchObject({ kind: "HostUnreachable", retryDelay: 500 });
  expect(asked).toBeGreaterThan(5);
});

test("a read that reached nobody is tried three times, a change that is no job once", async () => {
  const asked: string[] = [];
  const away = (name: string) => (): never => {
    asked.push(name);
    throw new ConnectError("upstream connect error", Code.Unavailable);
  };
  const api = client(({ service }) => {
    service(QueryService, { getHost: away("read") });
    service(JobService, { setJobSpeed: away("change") });
  });
  const errors = [failure(api.getHost()), failure(api.setJobSpeed())];
  await vi.advanceTimersByTimeAsync(10_000);
  expect((await Promise.all(errors)).map((error) => error.kind)).toEqual(["ServerUnavailable", "ServerUnavailable"]);
  expect(asked.sort()).toEqual(["change", "read", "read", "read"]);
});

test("a watch whose token was thrown away begins anew, with a reset whatever the server says", async () => {
  const tokens: string[] = [];
  const watch = client(({ service }) => {
    service(JobService, {
      // eslint-disable-next-line @typescript-eslint/require-await -- the contract's watches stream
      async *watchJobs(request) {
        tokens.push(request.resumeToken);
        if (tokens.length === 2) {
          throw refusal(Code.InvalidArgument, "RESUME_TOKEN_INVALID");
        }
        yield { resumeToken: String(tokens.length) };
      },
    });
  }).watchJobs();
  const resets: boolean[] = [];
  const following = (async () => {
    for await (const batch of watch) {
      resets.push(batch.reset);
      if (resets.length === 3) {
        break;
      }
    }
  })();
  await vi.advanceTimersByTimeAsync(60_000);
  await following;
  expect(tokens).toEqual(["", "1", "", "3"]);
  expect(resets).toEqual([false, true, false]);
});

test("why somebody calls goes with the call, in printable ASCII", async () => {
  const heard: (string | null)[] = [];
  const api = client(({ service }) => {
    service(QueryService, {
      getHost: (_, context) => {
        heard.push(context.requestHeader.get("virtrpc-reason"), context.requestHeader.get("traceparent"));
        return {};
      },
    });
  });
  await api.getHost({}, { reason: "100 % of Königsberg", headers: { traceparent: "00-1-2-01" } });
  expect(heard).toEqual(["100 %25 of K%C3%B6nigsberg", "00-1-2-01"]);
});

test("a status without a reason has the kind of its code, a reason of a newer server too", async () => {
  const found: Record<string, string> = {};
  const cases: [string, ConnectError][] = [
    ["plain", new ConnectError("no", Code.PermissionDenied)],
    ["crash", new ConnectError("oops", Code.Unknown)],
    ["newer", refusal(Code.ResourceExhausted, "OF_A_NEWER_SERVER")],
    ["unknown", refusal(Code.Unknown, "OF_A_NEWER_SERVER")],
  ];
  const api = client(({ service }) => {
    service(QueryService, {
      getHost: ({ host }) => {
        throw cases.find(([name]) => name === host)?.[1] ?? new Error();
      },
    });
  });
  for (const [host] of cases) {
    found[host] = (await failure(api.getHost({ host }))).kind;
  }
  expect(found).toEqual({ plain: "PermissionDenied", crash: "Internal", newer: "LimitExceeded", unknown: "OutcomeUnknown" });
});
