import { clone, getOption, type DescMessage, type DescMethod, type MessageInitShape, type MessageShape } from "@bufbuild/protobuf";
import type { DescMethodServerStreaming, DescMethodUnary } from "@bufbuild/protobuf";
import type { Duration } from "@bufbuild/protobuf/wkt";
import { Code, type Transport } from "@connectrpc/connect";

import { Deadline, pause, Trials } from "./backoff.js";
import { VirtrpcError } from "./errors.js";
import { JobService, type WatchJobRequest } from "./gen/virtrpc/v1/job_pb.js";
import { QueryService } from "./gen/virtrpc/v1/query_pb.js";
import { SnapshotService } from "./gen/virtrpc/v1/snapshot_pb.js";
import { JobUpdateSchema, waits_for, WaitsFor, type JobOptions } from "./gen/virtrpc/v1/types_pb.js";
import { accept, JobHandle } from "./jobs.js";
import { Listing, type Page } from "./listing.js";
import type { Methods } from "./methods.js";
import { silenceOf } from "./silence.js";
import { Watch, type Batch } from "./watch.js";
import { ask, own, Stream, type Call, type CallOptions } from "./wire.js";

const DEFAULT_TIMEOUT_MS = 10_000;
const REASON_HEADER = "virtrpc-reason";
/** How often a read is tried at a server that cannot be reached, where no delay is asked for. */
const ATTEMPTS = 3;

/** What holds for every call of a client that does not say otherwise. */
export type ClientOptions = CallOptions;

/** A virtrpc server: every RPC of the contract as a method. */
export type Client = Methods<typeof QueryService> &
  Methods<typeof JobService> &
  Methods<typeof SnapshotService> & {
    /** Ends all calls and the connection: what is under way throws VirtrpcError with code Canceled. */
    close(): void;
  };

/** A client on a transport of Connect's. `virtrpc/node` and `virtrpc/web` make the usual ones. */
export function createClient(transport: Transport, options: ClientOptions = {}, closeTransport?: () => void): Client {
  const core = new Core(transport, options);
  const services = [QueryService, JobService, SnapshotService];
  const methods = services.flatMap((service) => service.methods).map((method) => [method.localName, core.method(method)]);
  const close = (): void => {
    core.close();
    closeTransport?.();
  };
  return { ...(Object.fromEntries(methods) as Omit<Client, "close">), close };
}

type Given = MessageInitShape<DescMessage>;

/** A transport, and what is said with every call. */
class Core {
  readonly #closing = new AbortController();

  constructor(
    private readonly transport: Transport,
    private readonly defaults: ClientOptions,
  ) {}

  close(): void {
    this.#closing.abort(new VirtrpcError(Code.Canceled, "this client was closed"));
  }

  /** What stands in the client for an RPC: by the shape of its messages, as `Methods` has it. */
  method(method: DescMethod): (request?: Given, options?: CallOptions) => unknown {
    if (isUnary(method)) {
      return "nextPageToken" in method.output.field ? this.#lister(method) : this.#reader(method);
    }
    if (!isServerStreaming(method)) {
      throw new TypeError(`${method.name} streams its requests, which this client cannot`);
    }
    if (method.output.typeName === JobUpdateSchema.typeName) {
      return "options" in method.input.field ? this.#verb(method) : this.#follower(method);
    }
    return "resumeToken" in method.output.field ? this.#watcher(method) : this.#pieces(method);
  }

  #reader(method: DescMethodUnary) {
    return (request?: Given, options?: CallOptions) => this.#ask(method, own(method.input, request), this.#call(options));
  }

  #lister(method: DescMethodUnary) {
    const field = method.output.fields.find((candidate) => candidate.fieldKind === "list" && candidate.localName !== "unreachable");
    return (request?: Given, options?: CallOptions) => {
      const first = own(method.input, request);
      const call = this.#call(options);
      const fetch = async (token?: string): Promise<Page> => {
        const asked = clone(method.input, first);
        return (await this.#ask(method, token === undefined ? asked : Object.assign(asked, { pageToken: token }), call)) as unknown as Page;
      };
      return new Listing(fetch, field?.localName ?? "");
    };
  }

  #verb(method: DescMethodServerStreaming) {
    const verb = method as DescMethodServerStreaming<DescMessage, typeof JobUpdateSchema>;
    return (request?: Given, options?: CallOptions) =>
      accept(this.transport, verb, own(method.input, request) as MessageShape<DescMessage> & { options?: JobOptions }, this.#call(options));
  }

  #follower(method: DescMethodServerStreaming) {
    return (request?: Given, options?: CallOptions) =>
      new JobHandle(this.transport, own(method.input, request) as WatchJobRequest, this.#call(options));
  }

  #watcher(method: DescMethodServerStreaming) {
    return (request?: Given, options?: CallOptions) => {
      const first = own(method.input, request) as MessageShape<DescMessage> & { resumeToken: string; heartbeat?: Duration };
      const silence = silenceOf(first);
      const call = this.#call(options);
      const open = (resumeToken: string) => {
        const asked = Object.assign(clone(method.input, first), { resumeToken });
        return new Stream(this.transport, method, asked, call) as unknown as Stream<DescMessage, DescMessage> & {
          read(silenceMs: number): Promise<(MessageShape<DescMessage> & Batch) | undefined>;
        };
      };
      return new Watch(open, first.resumeToken, silence, call);
    };
  }

  #pieces(method: DescMethodServerStreaming) {
    const { transport } = this;
    return (request?: Given, options?: CallOptions) => {
      const call = this.#call(options);
      const asked = own(method.input, request);
      return (async function* () {
        const deadline = new Deadline(call.timeoutMs);
        let stream: Stream<DescMessage, DescMessage> | undefined;
        const open = () => (stream = new Stream(transport, method, asked, call)).read(deadline.left);
        try {
          for (let piece = await tried(method, call, deadline, open); piece !== undefined; piece = await stream?.read(deadline.left)) {
            yield piece;
          }
        } finally {
          stream?.close();
        }
      })();
    };
  }

  async #ask<O extends DescMessage>(
    method: DescMethodUnary<DescMessage, O>,
    request: MessageShape<DescMessage>,
    call: Call,
  ): Promise<MessageShape<O>> {
    const deadline = new Deadline(call.timeoutMs);
    return tried(method, call, deadline, () => ask(this.transport, method, request, call, deadline.left));
  }

  #call(given: CallOptions = {}): Call {
    const { signal, headers, reason, onBroken, onMended, timeoutMs = DEFAULT_TIMEOUT_MS } = { ...this.defaults, ...given };
    const all = both(this.defaults.headers, headers);
    if (reason) {
      // Metadata is printable ASCII; the rest goes as in URLs.
      all.set(REASON_HEADER, reason.replace(/[^\x20-\x24\x26-\x7e]+/gu, encodeURIComponent));
    }
    const signals = [this.#closing.signal, signal, this.defaults.signal].filter((one) => one !== undefined);
    return { signal: AbortSignal.any(signals), timeoutMs, headers: all, onBroken, onMended };
  }
}

/** A server that is going down, just up, or has too much to do, says when to come again; a read does no harm twice. */
async function tried<T>(method: DescMethod, call: Call, deadline: Deadline, work: () => Promise<T>): Promise<T> {
  const trials = new Trials(deadline);
  for (let attempt = 1; ; attempt++) {
    try {
      return await work();
    } catch (error) {
      if (!(error instanceof VirtrpcError) || !(error.retryDelay !== undefined || (attempt < ATTEMPTS && isHarmless(method, error)))) {
        throw error;
      }
      const ms = trials.pause(error);
      call.onBroken?.(error);
      await pause(ms, call.signal);
    }
  }
}

function isUnary(method: DescMethod): method is DescMethodUnary & DescMethod {
  return method.methodKind === "unary";
}

function isServerStreaming(method: DescMethod): method is DescMethodServerStreaming & DescMethod {
  return method.methodKind === "server_streaming";
}

/** The server was not reached, and to ask it twice changes nothing. */
function isHarmless(method: DescMethod, error: VirtrpcError): boolean {
  const reads = getOption(method, waits_for) === WaitsFor.NOTHING || method.name === JobService.method.cancelJob.name;
  return reads && error.code === Code.Unavailable;
}

function both(first: HeadersInit | undefined, second: HeadersInit | undefined): Headers {
  const headers = new Headers(first);
  new Headers(second).forEach((value, name) => {
    headers.set(name, value);
  });
  return headers;
}
