"""WatchDomains and WatchJobs: what each follows, and how it tells of it."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from virtrpc.v1 import job_pb2, query_pb2, types_pb2
from virtrpc_drivers.values import Group
from virtrpc_server.domains import Entry, Key
from virtrpc_server.feed import ALL
from virtrpc_server.following import Pace, Shared, View, Watch
from virtrpc_server.heartbeats import Heartbeats
from virtrpc_server.hosts import Freshness
from virtrpc_server.job_filter import job_filter, job_topics
from virtrpc_server.jobs import Jobs
from virtrpc_server.lookup import Lookup
from virtrpc_server.messages.domains import watched_domain_message
from virtrpc_server.messages.hosts import unreachable_message
from virtrpc_server.paging import fingerprint
from virtrpc_server.policy.actions import SEE_DOMAIN
from virtrpc_server.policy.job_sight import JobSight
from virtrpc_server.records import Job
from virtrpc_server.serialised import Serialised

WATCH = "WatchDomains"


@dataclass(frozen=True, slots=True)
class Trace:
    """What is kept of a domain that a stream was shown."""

    name: str
    generation: int


class Watches:
    """Opens streams.

    Their messages are bytes already, which the transport sends as they are: many streams tell the same changes.
    """

    def __init__(self, jobs: Jobs, lookup: Lookup, seen: JobSight, heartbeats: Heartbeats) -> None:
        self._hosts = jobs.hosts
        self._domains = jobs.domains
        self._jobs = jobs
        self._lookup = lookup
        self._heartbeats = heartbeats
        self._sight = seen.sight
        self._seen = seen
        self._streams = itertools.count()
        self.open: dict[str, set[Watch[Any, Any, Any]]] = {"domains": set(), "jobs": set()}
        """The streams that are out, by what they watch."""
        self._pace = Pace()
        self._all_jobs: Shared[str] = Shared()
        self._domain_changes: Serialised[Key, bytes] = Serialised()

    async def domains(self, request: query_pb2.WatchDomainsRequest) -> AsyncIterator[bytes]:
        """Follow the domains that fit: encoded WatchDomainsResponses. Raises INVALID_ARGUMENT, HOST_NOT_CONFIGURED, RESUME_TOKEN_INVALID."""
        view = View(
            feed=self._domains.feed,
            fits=self._lookup.fitting(request.filter, WATCH) if request.filter.ListFields() or self._sight.policed else None,
            current=self._domain,
            trace=lambda entry: Trace(entry.name, entry.generation),
            removed=_domain_removed,
            unreachable=self._unreachable,
            pace=self._pace,
            topics=self._lookup.topics(request.filter) or (ALL,),
            complete=self._heard_of_all_hosts,
            standing=self._sight.standing(SEE_DOMAIN, WATCH),
            ready=self._learn if self._sight.policed else None,
        )
        watch = Watch(view, request.resume_token, fingerprint(request), self._heartbeats.silence(request), next(self._streams))
        async with self._counted("domains", watch), contextlib.aclosing(watch.batches()) as batches:
            async for batch in batches:
                rest = query_pb2.WatchDomainsResponse(
                    resume_token=batch.resume_token,
                    reset=batch.reset,
                    unreachable=batch.unreachable,
                    caught_up=batch.caught_up,
                )
                yield b"".join([*batch.changes, rest.SerializeToString()])

    async def jobs(self, request: job_pb2.WatchJobsRequest) -> AsyncIterator[bytes]:
        """Follow the jobs that fit: encoded WatchJobsResponses. Raises INVALID_ARGUMENT, HOST_NOT_CONFIGURED, RESUME_TOKEN_INVALID."""
        self._jobs.check_read()
        whole = None if request.filter.ListFields() or self._sight.policed else self._all_jobs
        view = View(
            feed=self._jobs.feed,
            fits=job_filter(request.filter, self._lookup, self._seen) if whole is None else None,
            current=self._job,
            trace=lambda _job: None,
            removed=_job_removed,
            unreachable=self._unreachable,
            pace=self._pace,
            topics=job_topics(request.filter) or (ALL,),
            shared=whole,
            standing=self._seen.standing(),
            ready=self._seen.learn if self._sight.policed else None,
        )
        watch = Watch(view, request.resume_token, fingerprint(request), self._heartbeats.silence(request), next(self._streams))
        async with self._counted("jobs", watch), contextlib.aclosing(watch.batches()) as batches:
            async for batch in batches:
                rest = job_pb2.WatchJobsResponse(
                    resume_token=batch.resume_token,
                    reset=batch.reset,
                    unreachable=batch.unreachable,
                    caught_up=batch.caught_up,
                )
                yield b"".join([*batch.changes, rest.SerializeToString()])

    @contextlib.asynccontextmanager
    async def _counted(self, of: str, watch: Watch[Any, Any, Any]) -> AsyncIterator[None]:
        self.open[of].add(watch)
        try:
            yield
        finally:
            self.open[of].discard(watch)

    def _unreachable(self) -> list[types_pb2.UnreachableHost]:
        return [unreachable_message(host) for host in self._hosts.not_live if self._sight.sees_host(host.name)]

    async def _learn(self, entries: Sequence[Entry]) -> None:
        await self._sight.learn(map(self._sight.resource, entries), SEE_DOMAIN, WATCH)

    def _heard_of_all_hosts(self) -> bool:
        return all(host.listed or host.fault is not None for host in self._hosts)

    def _domain(self, entry: Entry) -> tuple[bytes, bool]:
        # The feed holds an entry as of its last visible change: the present one says the same, read more recently. Where it has
        # changed again since the stream looked, the filter has not seen that, and it comes with the next batch.
        if self._domains.feed.get(entry.key) is entry:
            entry = self._domains.get(entry.key) or entry
        host = self._hosts[entry.host]
        fresh = [host.own_freshness(entry, group) for group in (Group.STATE, Group.CONFIG)]
        version = (entry.name, entry.generation, entry.state, entry.config, *fresh)
        # A read that is due, and finds nothing new, makes it LIVE again without a change.
        return self._domain_changes.get(entry.key, version, lambda: _domain_change(entry, *fresh)), Freshness.STALE not in fresh

    def _job(self, job: Job) -> tuple[bytes, bool]:
        return self._seen.bytes(job).change, True


def _domain_change(entry: Entry, state: Freshness, config: Freshness) -> bytes:
    change = query_pb2.DomainChange(current=watched_domain_message(entry, state, config))
    return query_pb2.WatchDomainsResponse(changes=[change]).SerializeToString()


def _domain_removed(key: Key, trace: Trace | None, remains: Entry | None) -> bytes:
    named = trace or remains
    identity = types_pb2.DomainIdentity(host=key[0], uuid=key[1], name=named.name if named is not None else "")
    # Another one may have come and gone since an earlier stream showed it: who resumes holds nobody knows which.
    generation = str(trace.generation) if trace is not None else ""
    removal = query_pb2.DomainRemoval(domain=identity, generation=generation)
    return query_pb2.WatchDomainsResponse(changes=[query_pb2.DomainChange(removed=removal)]).SerializeToString()


def _job_removed(job_id: str, _trace: None, _remains: Job | None) -> bytes:
    return job_pb2.WatchJobsResponse(changes=[job_pb2.JobChange(removed=job_pb2.JobRemoval(job_id=job_id))]).SerializeToString()
