import type { UnreachableHost } from "./gen/virtrpc/v1/types_pb.js";

/** An answer that is a page of a list. */
export interface Page {
  nextPageToken: string;
  unreachable?: UnreachableHost[];
}
/** What the pages of a list are full of. */
export type Entry<P> = { [K in keyof P]-?: K extends "unreachable" ? never : P[K] extends readonly (infer E)[] ? E : never }[keyof P];

/**
 * A list that is asked for page by page while it is iterated; every iteration asks anew. Throws what the RPC names; PAGE_TOKEN_INVALID where the list
 * began too long ago: iterate again.
 */
export class Listing<P extends Page> implements AsyncIterable<Entry<P>> {
  /** The hosts that are not LIVE, as the last page named them: their entries are STALE or missing. */
  unreachable: readonly UnreachableHost[] = [];

  /** @internal The client's list methods make listings. */
  constructor(
    private readonly fetch: (token: string | undefined) => Promise<P>,
    private readonly field: string,
  ) {}

  async *[Symbol.asyncIterator](): AsyncGenerator<Entry<P>, void, undefined> {
    for await (const page of this.pages()) {
      yield* page[this.field as keyof P] as Iterable<Entry<P>>;
    }
  }

  /** The answers themselves, one for each page. */
  async *pages(): AsyncGenerator<P, void, undefined> {
    let token: string | undefined;
    do {
      const page = await this.fetch(token);
      this.unreachable = page.unreachable ?? [];
      yield page;
      token = page.nextPageToken;
    } while (token);
  }

  /** Every entry of every page. */
  async all(): Promise<Entry<P>[]> {
    const entries: Entry<P>[] = [];
    for await (const entry of this) {
      entries.push(entry);
    }
    return entries;
  }
}
