import { clone, create, type DescMessage, type MessageInitShape, type MessageShape } from "@bufbuild/protobuf";
import type { DescMethodServerStreaming, DescMethodUnary } from "@bufbuild/protobuf";
import { Code, type StreamResponse, type Transport } from "@connectrpc/connect";

import { fromConnect, VirtrpcError } from "./errors.js";

/** Told what broke a call that is tried again; undefined where a stream ended that should not have. */
export type OnBroken = (error: VirtrpcError | undefined) => void;

/** What may be said with any call. */
export interface CallOptions {
  /** Ends the call, or the whole following of a job or a watch: it then throws this signal's reason. To the server you leave. */
  signal?: AbortSignal;
  /**
   * Bounds a read, in milliseconds (10 s unless the client has another default; Infinity is without limit). It is also how long a server that is
   * away or draining is tried: by a verb until it is accepted, by a job or a watch until it was heard of once; later they try for ever.
   */
  timeoutMs?: number;
  /** Why you call: the server notes it down with what you change. */
  reason?: string;
  /** Further metadata, sent again with every repetition. */
  headers?: HeadersInit;
  /** Called each time something broke and is tried again. */
  onBroken?: OnBroken;
  /** Called once the job is heard of again after that, also where it is as it was. */
  onMended?: () => void;
}

/** Options with nothing left open. */
export interface Call {
  readonly signal: AbortSignal;
  readonly timeoutMs: number;
  readonly headers: Headers;
  readonly onBroken: OnBroken | undefined;
  readonly onMended: (() => void) | undefined;
}

/** A message of one's own: what is given may be changed by its owner, and is changed by nobody here. */
export function own<D extends DescMessage>(schema: D, given: MessageInitShape<D> | undefined): MessageShape<D> {
  return clone(schema, create(schema, given));
}

/** One answer, within `timeoutMs`. Throws VirtrpcError, or the reason of the signal. */
export async function ask<I extends DescMessage, O extends DescMessage>(
  transport: Transport,
  method: DescMethodUnary<I, O>,
  request: MessageShape<I>,
  call: Call,
  timeoutMs: number,
): Promise<MessageShape<O>> {
  const bound = Number.isFinite(timeoutMs) ? Math.max(1, timeoutMs) : undefined;
  try {
    return (await transport.unary(method, call.signal, bound, call.headers, request)).message;
  } catch (error) {
    call.signal.throwIfAborted();
    throw fromConnect(error);
  }
}

/** The answers of one open call. */
export class Stream<I extends DescMessage, O extends DescMessage> {
  readonly #closing = new AbortController();
  readonly #signal: AbortSignal;
  readonly #opening: Promise<StreamResponse<I, O>>;
  #messages: AsyncIterator<MessageShape<O>> | undefined;

  constructor(transport: Transport, method: DescMethodServerStreaming<I, O>, request: MessageShape<I>, call: Call) {
    this.#signal = call.signal;
    const signal = AbortSignal.any([call.signal, this.#closing.signal]);
    this.#opening = transport.stream(method, signal, undefined, call.headers, once(request as MessageInitShape<I>));
    // Whoever reads is told; a stream that is closed before must not become an unhandled rejection.
    this.#opening.catch(() => undefined);
  }

  /** Waits for the server's first sign of life. Throws as `read` does. */
  async header(silenceMs: number): Promise<Headers> {
    return (await this.#heard(this.#opening, silenceMs))?.header ?? new Headers();
  }

  /**
   * The next answer; undefined where the call ended with OK, or was closed here.
   *
   * Throws VirtrpcError for every other end, and ServerUnavailable where nothing came in `silenceMs`: the call is over then. Throws the signal's
   * reason where that is why.
   */
  async read(silenceMs: number): Promise<MessageShape<O> | undefined> {
    const next = await this.#heard(this.#next(), silenceMs);
    return next === undefined || next.done === true ? undefined : next.value;
  }

  /** Ends the call: to the server, the caller leaves. Harmless after its end. */
  close(): void {
    this.#closing.abort();
  }

  async #next(): Promise<IteratorResult<MessageShape<O>>> {
    this.#messages ??= (await this.#opening).message[Symbol.asyncIterator]();
    return this.#messages.next();
  }

  async #heard<T>(work: Promise<T>, silenceMs: number): Promise<T | undefined> {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const silence = new Promise<never>((_, reject) => {
      timer = setTimeout(() => {
        reject(new VirtrpcError(Code.Unavailable, `nothing was heard for ${String(silenceMs / 1000)} s`));
      }, silenceMs);
    });
    try {
      return await Promise.race([work, silence]);
    } catch (error) {
      this.#signal.throwIfAborted();
      if (this.#closing.signal.aborted) {
        return undefined;
      }
      this.close();
      throw error instanceof VirtrpcError ? error : fromConnect(error);
    } finally {
      clearTimeout(timer);
    }
  }
}

// eslint-disable-next-line @typescript-eslint/require-await -- Connect takes an asynchronous iterable, and here is one message
async function* once<T>(message: T): AsyncGenerator<T> {
  yield message;
}
