import { Code } from "@connectrpc/connect";

import { isPassing, type VirtrpcError } from "./errors.js";

const FIRST = 100;
const LONGEST = 5_000;
/** Between two attempts for which a caller waits. */
const LONGEST_TRIAL = 1_000;

/** Growing pauses in milliseconds with full jitter, so that the watchers of a restarted server do not come back all at once. */
export class Backoff {
  #attempts = 0;

  constructor(private readonly longest: number = LONGEST) {}

  /** The next pause; at least a tenth of what the jitter is drawn from. `least` is what the server asks for: jitter comes on top. */
  next(least?: number): number {
    const bound = Math.min(this.longest, FIRST * 2 ** this.#attempts);
    this.#attempts = Math.min(this.#attempts + 1, 30);
    return least === undefined ? between(bound / 10, bound) : least + between(0, Math.max(bound, least));
  }

  /** It works again: the next pause is a short one. */
  reset(): void {
    this.#attempts = 0;
  }
}

/** A moment, so many milliseconds from now; Infinity never comes. */
export class Deadline {
  readonly #at: number;

  constructor(ms: number) {
    this.#at = performance.now() + ms;
  }

  /** Whole milliseconds until then, not below zero. */
  get left(): number {
    return Math.max(0, Math.ceil(this.#at - performance.now()));
  }
}

/** Attempts to reach a server that was not heard of yet, for as long as a deadline allows. */
export class Trials {
  readonly #backoff = new Backoff(LONGEST_TRIAL);
  #cut: VirtrpcError | undefined;

  constructor(private readonly deadline: Deadline) {}

  /** Milliseconds until the next attempt. Throws the error where there is to be none, or what it was before time ran out. */
  pause(error: VirtrpcError): number {
    if (!isPassing(error)) {
      throw this.#cut !== undefined && error.code === Code.DeadlineExceeded ? this.#cut : error;
    }
    this.#cut = error;
    const ms = this.#backoff.next(error.retryDelay);
    if (this.deadline.left <= ms) {
      throw error;
    }
    return ms;
  }
}

/** Pauses; rejects with the signal's reason as soon as it is aborted. */
export async function pause(ms: number, signal: AbortSignal): Promise<void> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const passed = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, ms);
  });
  try {
    await abortable(passed, signal);
  } finally {
    clearTimeout(timer);
  }
}

/** What `work` gives; rejects with the signal's reason as soon as it is aborted, while the work goes on. */
export async function abortable<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  signal.throwIfAborted();
  let leave = (): void => undefined;
  const left = new Promise<never>((_, reject) => {
    leave = () => {
      // eslint-disable-next-line @typescript-eslint/prefer-promise-reject-errors -- a signal's reason is thrown as it is, everywhere
      reject(signal.reason);
    };
    signal.addEventListener("abort", leave, { once: true });
  });
  try {
    return await Promise.race([work, left]);
  } finally {
    signal.removeEventListener("abort", leave);
  }
}

function between(least: number, most: number): number {
  return least + Math.random() * (most - least);
}
