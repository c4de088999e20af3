export { createClient, type Client, type ClientOptions } from "./client.js";
export { VirtrpcError, type Kind, type Reason } from "./errors.js";
export { isFinal, JobHandle } from "./jobs.js";
export { Listing, type Entry, type Page } from "./listing.js";
export type { Methods } from "./methods.js";
export { DomainMirror, domainKey, JobMirror } from "./mirror.js";
export { domainRef, seconds } from "./refs.js";
export { Watch, type Batch } from "./watch.js";
export type { CallOptions, OnBroken } from "./wire.js";
