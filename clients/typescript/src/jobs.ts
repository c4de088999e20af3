import { create, type DescMessage, type MessageShape } from "@bufbuild/protobuf";
import type { DescMethodServerStreaming } from "@bufbuild/protobuf";
import { Code, type Transport } from "@connectrpc/connect";

import { abortable, Backoff, Deadline, pause, Trials } from "./backoff.js";
import { fromJob, VirtrpcError, type Kind } from "./errors.js";
import {
  CancelJobRequestSchema,
  JobService,
  type CancelJobResponse,
  type WatchJobRequest,
  type WatchJobRequestSchema,
} from "./gen/virtrpc/v1/job_pb.js";
import { JobOptionsSchema, JobState, type Job, type JobOptions, type JobUpdate, type JobUpdateSchema } from "./gen/virtrpc/v1/types_pb.js";
import { silenceOf } from "./silence.js";
import { ask, Stream, type Call } from "./wire.js";

const JOB_ID_HEADER = "virtrpc-job-id";
/** To ask twice does no harm: a server that is away is tried for so long. */
const CANCEL_MS = 10_000;
// After the final state the server ends the call by itself; a proxy that keeps it open must not keep the caller.
const END_OF_STREAM_MS = 2_000;

const FINAL: ReadonlySet<JobState> = new Set([
  JobState.SUCCEEDED,
  JobState.FAILED,
  JobState.CANCELLED,
  JobState.PREEMPTED,
  JobState.INTERRUPTED,
  JobState.OUTCOME_UNKNOWN,
]);
// Answers of WatchJob that stay the same however often it is asked.
const REFUSALS: readonly Kind[] = ["NotFound", "InvalidArgument", "PermissionDenied", "Unauthenticated", "Unimplemented"];

/** The job has ended; its state changes no more. */
export function isFinal(job: Job): boolean {
  return FINAL.has(job.state);
}

/** A stream of a job: the verb's own, or WatchJob's. */
export type JobStream = Pick<Stream<DescMessage, typeof JobUpdateSchema>, "header" | "read" | "close">;

/**
 * One job. Iterating gives the job each time it changes, its present state first and its final state last, and never throws for a job that failed;
 * `wait` does. Several may iterate and wait at once: each sees the newest state, and the last one in any case.
 *
 * A call that ends without a final state, for whatever reason, is taken up again with WatchJob, with growing pauses. Where the server refuses even
 * that, its error is thrown: JobNotFound means that it has forgotten the job. A server that was never heard of is tried for the call's `timeoutMs`.
 */
export class JobHandle implements AsyncIterable<Job> {
  /** The server's id for the job. */
  readonly jobId: string;
  /** The job as last seen. */
  job: Job | undefined;

  readonly #closing = new AbortController();
  readonly #call: Call;
  readonly #silence: number;
  readonly #pauses = new Backoff();
  readonly #trials: Trials;
  #stream: JobStream | undefined;
  #attached: boolean; // the next call to end is WatchJob, whose refusals count
  #begun: boolean;
  #broken = false;
  #step: Promise<void> | undefined;
  #end: Promise<void> | undefined;

  /** @internal Verbs and `watchJob` make handles. */
  constructor(
    private readonly transport: Transport,
    private readonly request: WatchJobRequest,
    call: Call,
    stream?: JobStream,
    job?: Job,
  ) {
    this.jobId = request.jobId;
    this.job = job;
    this.#call = { ...call, signal: AbortSignal.any([call.signal, this.#closing.signal]) };
    this.#silence = silenceOf(request);
    this.#trials = new Trials(new Deadline(call.timeoutMs));
    this.#stream = stream;
    this.#attached = stream === undefined;
    this.#begun = stream !== undefined;
  }

  /** The final state has been seen. */
  get done(): boolean {
    return this.job !== undefined && isFinal(this.job);
  }

  [Symbol.asyncIterator](): AsyncGenerator<Job, void, undefined> {
    return this.updates();
  }

  /** What iterating gives. A `signal` of its own ends this iteration, with its reason, and leaves the job to others who follow it. */
  async *updates({ signal }: { signal?: AbortSignal } = {}): AsyncGenerator<Job, void, undefined> {
    let told: Job | undefined;
    for (;;) {
      if (this.job !== undefined && this.job !== told) {
        yield (told = this.job);
      } else if (this.done || this.#closing.signal.aborted) {
        return await this.#end;
      } else {
        await abortable(this.#advance(), signal ?? this.#call.signal);
      }
    }
  }

  /**
   * Follows the job to its end. The job that SUCCEEDED; throws the VirtrpcError of one that did not, with the job in `error.job`: Busy and
   * WaitTimeout where it waited in vain, Cancelled, Preempted, Interrupted and OutcomeUnknown (look at the domain before you repeat it), or what
   * the verb names. A `signal` of its own ends this wait, with its reason, and leaves the job to others who follow it.
   */
  async wait(options: { signal?: AbortSignal } = {}): Promise<Job> {
    for await (const job of this.updates(options)) {
      if (isFinal(job)) {
        await this.#end;
        if (job.state !== JobState.SUCCEEDED) {
          throw fromJob(job);
        }
        return job;
      }
    }
    throw new VirtrpcError(Code.Canceled, "this handle was closed", { job: this.job });
  }

  /**
   * Asks the job to stop, and is answered at once. The outcome says what could be done; go on waiting to see what becomes of it. A server that is
   * away is tried for 10 s. Throws JobNotFound where it is forgotten, PermissionDenied where you may not.
   */
  async cancel({ signal = new AbortController().signal }: { signal?: AbortSignal } = {}): Promise<CancelJobResponse> {
    const deadline = new Deadline(CANCEL_MS);
    const trials = new Trials(deadline);
    const request = create(CancelJobRequestSchema, { jobId: this.jobId });
    for (;;) {
      try {
        return await ask(this.transport, JobService.method.cancelJob, request, { ...this.#call, signal }, deadline.left);
      } catch (error) {
        await pause(trials.pause(ours(error)), signal);
      }
    }
  }

  /** Stops listening, and ends iterations that are under way. What becomes of the job is up to its on_disconnect. */
  close(): void {
    this.#closing.abort(CLOSED);
  }

  // One step for all who follow: whoever comes meanwhile waits for the same one.
  #advance(): Promise<void> {
    if (this.#step === undefined) {
      this.#step = this.#next().finally(() => (this.#step = undefined));
      // Where all who followed have left meanwhile, nobody is to be told.
      this.#step.catch(() => undefined);
    }
    return this.#step;
  }

  async #next(): Promise<void> {
    try {
      while (!(await this.#heard()));
    } catch (error) {
      this.#drop();
      if (error !== CLOSED) {
        throw error;
      }
    }
  }

  /** Reads once; true where the job has changed. */
  async #heard(): Promise<boolean> {
    let update: JobUpdate | undefined;
    try {
      update = await this.#open().read(this.#silence);
    } catch (error) {
      const broken = ours(error);
      await this.#pause(this.#begun ? this.#retry(broken) : this.#trials.pause(broken), broken);
      return false;
    }
    if (update === undefined) {
      await this.#pause(this.#pauses.next());
      return false;
    }
    this.#tellMended();
    return this.#take(update.job);
  }

  #open(): JobStream {
    this.#call.signal.throwIfAborted();
    if (this.#stream === undefined) {
      this.#stream = new Stream<typeof WatchJobRequestSchema, typeof JobUpdateSchema>(
        this.transport,
        JobService.method.watchJob,
        this.request,
        this.#call,
      );
      this.#attached = true;
    }
    return this.#stream;
  }

  #retry(error: VirtrpcError): number {
    // What says when to come again, such as the end of a token, is none.
    if (this.#attached && error.retryDelay === undefined && REFUSALS.some((kind) => error.is(kind))) {
      throw error.of(this.job);
    }
    return this.#pauses.next(error.retryDelay);
  }

  async #pause(ms: number, error?: VirtrpcError): Promise<void> {
    this.#drop();
    this.#broken = true;
    this.#call.onBroken?.(error);
    await pause(ms, this.#call.signal);
  }

  #tellMended(): void {
    if (this.#broken) {
      this.#call.onMended?.();
    }
    this.#broken = false;
    this.#begun = true;
  }

  #take(job: Job | undefined): boolean {
    if (job === undefined || (this.job !== undefined && job.revision <= this.job.revision && !isFinal(job))) {
      return false;
    }
    this.#pauses.reset();
    this.job = job;
    if (isFinal(job)) {
      this.#end = this.#finish();
    }
    return true;
  }

  // Reading to the end lets meshes record the verb's own status instead of a caller that left.
  async #finish(): Promise<void> {
    try {
      await this.#stream?.read(END_OF_STREAM_MS);
    } catch {
      // The job's error as an RPC status, or somebody who left: `wait` throws it from the job.
    }
    this.#drop();
  }

  #drop(): void {
    this.#stream?.close();
    this.#stream = undefined;
  }
}

const CLOSED = new Error("this handle was closed");

/**
 * Sends a verb, and returns as soon as the server has accepted it; throws where it refuses.
 *
 * The request gets a request_id where it has none, so that a call which breaks before its acceptance is known can be repeated safely. That is done
 * for `timeoutMs`: a server that is started again is away for seconds.
 */
export async function accept<I extends DescMessage>(
  transport: Transport,
  method: DescMethodServerStreaming<I, typeof JobUpdateSchema>,
  request: MessageShape<I> & { options?: JobOptions },
  call: Call,
): Promise<JobHandle> {
  const options = (request.options ??= create(JobOptionsSchema));
  options.requestId ||= newRequestId();
  const silence = silenceOf(options);
  const trials = new Trials(new Deadline(call.timeoutMs));
  for (;;) {
    const stream = new Stream(transport, method, request, call);
    try {
      return await accepted(transport, stream, options, call, silence);
    } catch (error) {
      stream.close();
      const broken = ours(error);
      const ms = trials.pause(broken);
      call.onBroken?.(broken);
      await pause(ms, call.signal);
    }
  }
}

async function accepted(transport: Transport, stream: JobStream, options: JobOptions, call: Call, silence: number): Promise<JobHandle> {
  const jobId = (await stream.header(silence)).get(JOB_ID_HEADER) ?? "";
  // Without the id nothing was accepted, unless a proxy dropped the header or a browser may not see it: then the first message has it.
  const job = jobId ? undefined : (await stream.read(silence))?.job;
  if (!jobId && !job) {
    throw new VirtrpcError(Code.Internal, "the server ended the call without a job");
  }
  return new JobHandle(transport, watchRequest(jobId || (job?.jobId ?? ""), options), call, stream, job);
}

function watchRequest(jobId: string, { heartbeat }: JobOptions): WatchJobRequest {
  return create(JobService.method.watchJob.input, heartbeat ? { jobId, heartbeat } : { jobId });
}

/** The error where it is ours; throws any other, such as the reason of a signal. */
function ours(error: unknown): VirtrpcError {
  if (error instanceof VirtrpcError) {
    return error;
  }
  throw error;
}

// crypto.randomUUID is missing in pages that came by plain HTTP.
function newRequestId(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
