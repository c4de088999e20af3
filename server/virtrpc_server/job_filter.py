"""Which jobs a list or a watch is about."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator
from typing import Literal

from google.protobuf.timestamp_pb2 import Timestamp

from virtrpc.v1 import job_pb2, types_pb2
from virtrpc_server.errors import refuse
from virtrpc_server.jobs import Jobs, first_id
from virtrpc_server.lookup import Lookup, all_of, uuid_of
from virtrpc_server.messages.common import MAX_TIMESTAMP, MIN_TIMESTAMP, NANOS
from virtrpc_server.messages.jobs import JOB_STATES
from virtrpc_server.messages.verbs import kind_of
from virtrpc_server.paging import Key
from virtrpc_server.policy.job_sight import JobSight
from virtrpc_server.records import Job

Predicate = Callable[[Job], bool]
UNFINISHED = frozenset({types_pb2.JOB_STATE_QUEUED, types_pb2.JOB_STATE_RUNNING})


def job_filter(wanted: job_pb2.JobFilter, lookup: Lookup, seen: JobSight) -> Predicate:
    """Whether a job fits: all fields that are set must match, and the caller must see it. Raises INVALID_ARGUMENT, HOST_NOT_CONFIGURED.

    A domain is compared as it stands in the job: its jobs are found after it is gone, too. Nothing but the job decides, so a job that does not
    change neither begins nor stops to fit.
    """
    tests: list[Predicate] = []
    names = {host.name for host in lookup.covered(wanted.hosts)} if wanted.hosts else set()
    if names:
        tests.append(lambda job: job.host in names)
    if wanted.HasField("domain"):
        tests.append(_domain(wanted, lookup))
    if wanted.kinds:
        kinds = set(wanted.kinds)
        tests.append(lambda job: kind_of(job.verb) in kinds)
    if wanted.states:
        states = set(wanted.states)
        tests.append(lambda job: JOB_STATES[job.state] in states)
    if wanted.owner:
        tests.append(lambda job: job.owner == wanted.owner)
    tests += _between(wanted, "created", lambda job: job.created)
    tests += _between(wanted, "ended", lambda job: job.ended)
    # Last: it takes the longest.
    if seen.sight.policed:
        tests.append(seen.sees)
    return tests[0] if len(tests) == 1 else all_of(tests)


def job_topics(wanted: job_pb2.JobFilter) -> list[str]:
    """The topics of `Jobs.feed` that have all jobs that fit; none where they may be any."""
    ref = wanted.domain
    if not wanted.HasField("domain"):
        return []
    return [ref.uuid.lower() or ref.name] if ref.uuid or ref.name else []


def job_ids(wanted: job_pb2.JobFilter, jobs: Jobs) -> list[str]:
    """The ids, in order of acceptance, of the jobs that may fit: where few can, a list needs not look at all that are remembered."""
    order = jobs.ids()
    if wanted.states and UNFINISHED.issuperset(wanted.states):
        order = jobs.unfinished()
    elif topics := job_topics(wanted):
        order = sorted(jobs.feed.filed(topics))
    since = _moment(wanted, "created_after")
    # An id begins with the microsecond of its acceptance, or a later one where the clock was set back.
    return order if since is None else order[bisect_left(order, first_id(since // 1000 - 1)) :]


def newest_first(ids: list[str], after: Key | None) -> Iterator[str]:
    """The part of a list of ids that comes after the key of a page's last row."""
    end = len(ids) if after is None else bisect_left(ids, str(after[0]))
    return (ids[place] for place in range(end - 1, -1, -1))


def _between(wanted: job_pb2.JobFilter, which: Literal["created", "ended"], time_of: Callable[[Job], float | None]) -> Iterator[Predicate]:
    since, until = _moment(wanted, f"{which}_after"), _moment(wanted, f"{which}_before")
    if since is not None and until is not None and since >= until:
        raise refuse("INVALID_ARGUMENT", f"filter.{which}_after is not before filter.{which}_before: no job fits", field=f"filter.{which}_before")

    def fits(job: Job) -> bool:
        time = time_of(job)
        # As the job's message says it: a bound that is taken from there means that very job.
        return time is not None and (since is None or round(time * NANOS) >= since) and (until is None or round(time * NANOS) < until)

    if since is not None or until is not None:
        yield fits


def _moment(wanted: job_pb2.JobFilter, field: str) -> int | None:
    """A bound in nanoseconds since the epoch."""
    bound: Timestamp = getattr(wanted, field)
    if not (MIN_TIMESTAMP <= bound.seconds <= MAX_TIMESTAMP and 0 <= bound.nanos < NANOS):
        raise refuse("INVALID_ARGUMENT", f"{bound.seconds} s and {bound.nanos} ns are no time of the years 1 to 9999", field=f"filter.{field}")
    return bound.seconds * NANOS + bound.nanos if wanted.HasField(field) else None  # type: ignore[arg-type] # a field's name


def _domain(wanted: job_pb2.JobFilter, lookup: Lookup) -> Predicate:
    ref = wanted.domain
    if ref.host:
        lookup.host(ref.host)
    uuid = uuid_of(ref.uuid, "filter.domain.uuid") if ref.WhichOneof("ref") == "uuid" else ""
    return lambda job: (not ref.host or job.host == ref.host) and (not uuid or job.uuid == uuid) and (not ref.name or job.name == ref.name)
