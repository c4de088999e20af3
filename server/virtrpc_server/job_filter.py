"""Which jobs a list or a watch is about."""

from __future__ import annotations

from collections.abc import Callable

from virtrpc.v1 import job_pb2
from virtrpc_server.lookup import Lookup, all_of, uuid_of
from virtrpc_server.messages.jobs import JOB_STATES
from virtrpc_server.messages.verbs import kind_of
from virtrpc_server.records import Job

Predicate = Callable[[Job], bool]


def job_filter(wanted: job_pb2.JobFilter, lookup: Lookup) -> Predicate:
    """Whether a job fits: all fields that are set must match. Raises INVALID_ARGUMENT, HOST_NOT_CONFIGURED.

    A domain is compared as it stands in the job: its jobs are found after it is gone, too.
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
    return tests[0] if len(tests) == 1 else all_of(tests)


def job_topics(wanted: job_pb2.JobFilter) -> list[str]:
    """The topics of `Jobs.feed` that have all jobs that fit; none where they may be any."""
    ref = wanted.domain
    if not wanted.HasField("domain"):
        return []
    return [ref.uuid.lower() or ref.name] if ref.uuid or ref.name else []


def _domain(wanted: job_pb2.JobFilter, lookup: Lookup) -> Predicate:
    ref = wanted.domain
    if ref.host:
        lookup.host(ref.host)
    uuid = uuid_of(ref.uuid, "filter.domain.uuid") if ref.WhichOneof("ref") == "uuid" else ""
    return lambda job: (not ref.host or job.host == ref.host) and (not uuid or job.uuid == uuid) and (not ref.name or job.name == ref.name)
