import type { JobChange, WatchJobsResponse } from "./gen/virtrpc/v1/job_pb.js";
import type { DomainChange, WatchDomainsResponse } from "./gen/virtrpc/v1/query_pb.js";
import type { Domain, Job, UnreachableHost } from "./gen/virtrpc/v1/types_pb.js";

/** The domains of a watch as last told, by {@link domainKey}, and the hosts that are not LIVE: take their domains for STALE. */
export class DomainMirror {
  readonly domains = new Map<string, Domain>();
  unreachable: ReadonlyMap<string, UnreachableHost> = new Map();
  /** Everything that there was at the beginning has been told. */
  caughtUp = false;

  /** Takes a batch over. */
  apply(batch: WatchDomainsResponse): void {
    if (batch.reset) {
      this.domains.clear();
    }
    for (const { change } of batch.changes) {
      this.#apply(change);
    }
    this.unreachable = byHost(batch.unreachable);
    this.caughtUp = batch.caughtUp;
  }

  #apply(change: DomainChange["change"]): void {
    if (change.case === "current") {
      this.domains.set(domainKey(change.value), change.value);
    } else if (change.case === "removed" && change.value.domain !== undefined) {
      const key = domainKey(change.value.domain);
      // A domain that came anew under its uuid stays.
      if (["", this.domains.get(key)?.generation].includes(change.value.generation)) {
        this.domains.delete(key);
      }
    }
  }
}

/** The jobs of a watch as last told, by id, and the hosts that are not LIVE. */
export class JobMirror {
  readonly jobs = new Map<string, Job>();
  unreachable: ReadonlyMap<string, UnreachableHost> = new Map();
  /** Everything that there was at the beginning has been told. */
  caughtUp = false;

  /** Takes a batch over. */
  apply(batch: WatchJobsResponse): void {
    if (batch.reset) {
      this.jobs.clear();
    }
    for (const { change } of batch.changes) {
      this.#apply(change);
    }
    this.unreachable = byHost(batch.unreachable);
    this.caughtUp = batch.caughtUp;
  }

  #apply(change: JobChange["change"]): void {
    if (change.case === "current") {
      this.jobs.set(change.value.jobId, change.value);
    } else if (change.case === "removed") {
      this.jobs.delete(change.value.jobId);
    }
  }
}

/** What {@link DomainMirror} holds a domain under: its host and its uuid. */
export function domainKey({ host, uuid }: { host: string; uuid: string }): string {
  return `${host}/${uuid}`;
}

function byHost(hosts: readonly UnreachableHost[]): ReadonlyMap<string, UnreachableHost> {
  return new Map(hosts.map((host) => [host.host, host]));
}
