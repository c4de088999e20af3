"""WatchDomains and WatchJobs: what each follows, and how it tells of it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from virtrpc.v1 import job_pb2, query_pb2, types_pb2
from virtrpc_server.domains import Domains, Entry, Key
from virtrpc_server.following import HEARTBEAT_SECONDS, View, Watch
from virtrpc_server.hosts import Hosts
from virtrpc_server.job_filter import job_filter
from virtrpc_server.jobs import Jobs
from virtrpc_server.lookup import Lookup
from virtrpc_server.messages.domains import watched_domain_message
from virtrpc_server.messages.hosts import unreachable_message
from virtrpc_server.messages.jobs import job_message
from virtrpc_server.paging import fingerprint
from virtrpc_server.records import Job


@dataclass(frozen=True, slots=True)
class Trace:
    """What is kept of a domain that a stream was shown."""

    name: str
    generation: int


class Watches:
    """Opens streams. `heartbeat` is the longest silence of one, in seconds."""

    def __init__(self, hosts: Hosts, domains: Domains, jobs: Jobs, lookup: Lookup, heartbeat: float = HEARTBEAT_SECONDS) -> None:
        self._hosts = hosts
        self._domains = domains
        self._jobs = jobs
        self._lookup = lookup
        self._heartbeat = heartbeat

    async def domains(self, request: query_pb2.WatchDomainsRequest) -> AsyncIterator[query_pb2.WatchDomainsResponse]:
        """Follow the domains that fit. Raises INVALID_ARGUMENT, HOST_NOT_CONFIGURED, RESUME_TOKEN_INVALID."""
        view = View(
            feed=self._domains.feed,
            fits=self._lookup.filter(request.filter),
            current=self._domain,
            trace=lambda entry: Trace(entry.name, entry.generation),
            removed=_domain_removed,
            unreachable=self._unreachable,
        )
        watch = Watch(view, request.resume_token, fingerprint(request), self._heartbeat)
        async with contextlib.aclosing(watch.batches()) as batches:
            async for batch in batches:
                yield query_pb2.WatchDomainsResponse(
                    changes=batch.changes,
                    resume_token=batch.resume_token,
                    reset=batch.reset,
                    unreachable=batch.unreachable,
                    caught_up=batch.caught_up,
                )

    async def jobs(self, request: job_pb2.WatchJobsRequest) -> AsyncIterator[job_pb2.WatchJobsResponse]:
        """Follow the jobs that fit. Raises INVALID_ARGUMENT, HOST_NOT_CONFIGURED, RESUME_TOKEN_INVALID."""
        view = View(
            feed=self._jobs.feed,
            fits=job_filter(request.filter, self._lookup),
            current=self._job,
            trace=lambda _job: None,
            removed=_job_removed,
            unreachable=self._unreachable,
        )
        watch = Watch(view, request.resume_token, fingerprint(request), self._heartbeat)
        async with contextlib.aclosing(watch.batches()) as batches:
            async for batch in batches:
                yield job_pb2.WatchJobsResponse(
                    changes=batch.changes,
                    resume_token=batch.resume_token,
                    reset=batch.reset,
                    unreachable=batch.unreachable,
                    caught_up=batch.caught_up,
                )

    def _unreachable(self) -> list[types_pb2.UnreachableHost]:
        return [unreachable_message(host) for host in self._hosts.not_live]

    def _domain(self, entry: Entry) -> tuple[query_pb2.DomainChange, bool]:
        # The feed holds an entry as of its last visible change: the present one says the same, read more recently.
        entry = self._domains.get(entry.key) or entry
        domain = watched_domain_message(entry, self._hosts[entry.host])
        # A read that is due, and finds nothing new, makes it LIVE again without a change.
        stale = types_pb2.FRESHNESS_STALE in (domain.state_observation.freshness, domain.configuration_observation.freshness)
        return query_pb2.DomainChange(current=domain), not stale

    def _job(self, job: Job) -> tuple[job_pb2.JobChange, bool]:
        return job_pb2.JobChange(current=job_message(job, self._hosts)), True


def _domain_removed(key: Key, trace: Trace | None) -> query_pb2.DomainChange:
    identity = types_pb2.DomainIdentity(host=key[0], uuid=key[1], name=trace.name if trace is not None else "")
    generation = str(trace.generation) if trace is not None else ""
    return query_pb2.DomainChange(removed=query_pb2.DomainRemoval(domain=identity, generation=generation))


def _job_removed(job_id: str, _trace: None) -> job_pb2.JobChange:
    return job_pb2.JobChange(removed=job_pb2.JobRemoval(job_id=job_id))
