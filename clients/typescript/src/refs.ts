import { create } from "@bufbuild/protobuf";
import { durationFromMs, type Duration } from "@bufbuild/protobuf/wkt";

import { DomainRefSchema, type Domain, type DomainIdentity, type DomainRef } from "./gen/virtrpc/v1/types_pb.js";

// Only the form with hyphens: 32 bare digits are a legal name.
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

/**
 * The reference for a name, a UUID, HOST/NAME or HOST/UUID, or for a domain out of an earlier answer (by host and UUID). `host` stands where the text
 * names none. Throws a TypeError where the two name different hosts.
 */
export function domainRef(domain: string | Domain | DomainIdentity, host = ""): DomainRef {
  if (typeof domain !== "string") {
    return create(DomainRefSchema, { host: domain.host, ref: { case: "uuid", value: domain.uuid } });
  }
  const slash = domain.lastIndexOf("/");
  const [before, value] = [domain.slice(0, Math.max(0, slash)), domain.slice(slash + 1)];
  if (slash >= 0 && host && before !== host) {
    throw new TypeError(`"${domain}" is on host "${before}", and "${host}" was named as well`);
  }
  return create(DomainRefSchema, { host: slash < 0 ? host : before, ref: { case: UUID.test(value) ? "uuid" : "name", value } });
}

/** A length of time, in seconds, as the contract's Duration. */
export function seconds(length: number): Duration {
  return durationFromMs(Math.round(length * 1000));
}
