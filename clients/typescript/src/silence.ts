import { durationFromMs, durationMs, type Duration } from "@bufbuild/protobuf/wkt";

/** What is asked for where the caller does not say: the server's own setting is not known here. */
const HEARTBEAT = 15_000;
/** Heartbeats in a row that did not come. */
const MISSED = 3;
/** A machine that is busy is no dead connection. */
const LEAST = 5_000;

/**
 * Milliseconds of silence that end a stream which asks for this heartbeat, and asks for one where it does not say: proxies swallow HTTP/2's pings,
 * and no end of a dead stream may ever come.
 */
export function silenceOf(asked: { heartbeat?: Duration | undefined }): number {
  asked.heartbeat ??= durationFromMs(HEARTBEAT);
  return Math.max(LEAST, MISSED * durationMs(asked.heartbeat));
}
