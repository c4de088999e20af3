import { Backoff, Deadline, pause, Trials } from "./backoff.js";
import { VirtrpcError, type Kind } from "./errors.js";
import type { Call } from "./wire.js";

const REFUSALS: readonly Kind[] = ["NotFound", "InvalidArgument", "AmbiguousName", "PermissionDenied", "Unauthenticated", "Unimplemented"];

/** What a watch tells. */
export interface Batch {
  resumeToken: string;
  reset: boolean;
}

/** A stream of batches. */
export interface BatchStream<B extends Batch> {
  read(silenceMs: number): Promise<B | undefined>;
  close(): void;
}

/**
 * A watch. Iterating gives batches, heartbeats included, until you leave: by `break`, or by the call's signal, whose reason is then thrown.
 *
 * On any status it resumes after the last batch that was taken. Where the server no longer knows that point, the next batch has `reset` set: forget
 * everything you hold before you apply it. A server that cannot be reached at the very first, for as long as the call's `timeoutMs`, is thrown as
 * ServerUnavailable; so is a refusal, such as PermissionDenied. One iteration at a time; the next one resumes where that ended.
 */
export class Watch<B extends Batch> implements AsyncIterable<B> {
  /** Where it stands: a watch that begins with this token in its request goes on from here. */
  resumeToken: string;

  readonly #pauses = new Backoff();
  readonly #trials: Trials;
  #stream: BatchStream<B> | undefined;
  #begun = false;
  #lost = false; // the server threw our token away: the next batch is a reset, whatever it says

  /** @internal `watchDomains` and `watchJobs` make watches. */
  constructor(
    private readonly open: (resumeToken: string) => BatchStream<B>,
    resumeToken: string,
    private readonly silence: number,
    private readonly call: Call,
  ) {
    this.resumeToken = resumeToken;
    this.#trials = new Trials(new Deadline(call.timeoutMs));
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<B, void, undefined> {
    try {
      for (;;) {
        const batch = await this.#next();
        if (batch !== undefined) {
          yield batch;
        }
      }
    } finally {
      this.#drop();
    }
  }

  /** The next batch; undefined where there was none, and another attempt is due. */
  async #next(): Promise<B | undefined> {
    let broken: VirtrpcError | undefined;
    try {
      this.call.signal.throwIfAborted();
      this.#stream ??= this.open(this.resumeToken);
      const batch = await this.#stream.read(this.silence);
      if (batch !== undefined) {
        return this.#taken(batch);
      }
    } catch (error) {
      if (!(error instanceof VirtrpcError)) {
        throw error;
      }
      broken = error;
    }
    await this.#pause(broken);
    return undefined;
  }

  #taken(batch: B): B {
    batch.reset ||= this.#lost;
    this.resumeToken = batch.resumeToken;
    this.#begun = true;
    this.#lost = false;
    this.#pauses.reset();
    return batch;
  }

  async #pause(broken: VirtrpcError | undefined): Promise<void> {
    this.#drop();
    const ms = broken === undefined ? this.#pauses.next() : this.#retry(broken);
    this.call.onBroken?.(broken);
    await pause(ms, this.call.signal);
  }

  /** Milliseconds until the next attempt; throws the error where there is to be none. */
  #retry(error: VirtrpcError): number {
    if (error.reason === "RESUME_TOKEN_INVALID" && this.resumeToken) {
      this.resumeToken = "";
      this.#lost = true;
    } else if (!this.#begun) {
      return this.#trials.pause(error);
    } else if (error.retryDelay === undefined && REFUSALS.some((kind) => error.is(kind))) {
      throw error;
    }
    return this.#pauses.next(error.retryDelay);
  }

  #drop(): void {
    this.#stream?.close();
    this.#stream = undefined;
  }
}
