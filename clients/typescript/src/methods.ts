import type { DescMessage, DescMethodServerStreaming, DescMethodUnary, DescService, MessageInitShape, MessageShape } from "@bufbuild/protobuf";

import type { JobUpdateSchema } from "./gen/virtrpc/v1/types_pb.js";
import type { JobHandle } from "./jobs.js";
import type { Listing, Page } from "./listing.js";
import type { Batch, Watch } from "./watch.js";
import type { CallOptions } from "./wire.js";

/**
 * The RPCs of a service as methods, by their names in the contract. What each does, who may call it and what it throws stands at the RPC, whose
 * comment an editor shows with the method.
 *
 * - A question gives the answer.
 * - A list is a {@link Listing}: iterate its entries; the pages are asked for as they are needed.
 * - A verb gives a {@link JobHandle} as soon as the server has accepted it.
 * - `watchDomains` and `watchJobs` give a {@link Watch}, which resumes by itself; `watchJob` a JobHandle on a job that somebody has started.
 * - What comes in pieces, such as a screenshot, is iterated.
 */
export type Methods<S extends DescService> = { [M in keyof S["method"]]: Method<S["method"][M]> };

type Method<M> =
  M extends DescMethodUnary<infer I, infer O>
    ? (request?: MessageInitShape<I>, options?: CallOptions) => Unary<MessageShape<O>>
    : M extends DescMethodServerStreaming<infer I, infer O>
      ? (request?: MessageInitShape<I>, options?: CallOptions) => Streamed<I, O>
      : never;

type Unary<O> = O extends Page ? Listing<O> : Promise<O>;

type Streamed<I extends DescMessage, O extends DescMessage> = O extends typeof JobUpdateSchema
  ? "options" extends keyof MessageShape<I>
    ? Promise<JobHandle>
    : JobHandle
  : MessageShape<O> extends Batch
    ? Watch<MessageShape<O>>
    : AsyncIterable<MessageShape<O>>;
