"""One caller has too much, and another, by its own certificate, lacks nothing: on a real server, with the limits that its configuration has."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from tests.e2e.server import Channel
from tests.hostile.bed import GUARD, Target, target
from virtrpc.errors import VirtrpcError, from_status
from virtrpc.v1 import job_pb2 as j
from virtrpc.v1 import query_pb2 as q
from virtrpc.v1 import types_pb2 as t

CALLS, STREAMS, JOBS = 20, 3, 2
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def bed() -> Iterator[Target]:
    """A server that gives each caller little."""
    with target(tls=True, calls_per_second=CALLS, burst=2 * CALLS, streams=STREAMS, jobs=JOBS) as made:
        yield made


@asynccontextmanager
async def channels(bed: Target) -> AsyncIterator[tuple[Channel, Channel]]:
    """The greedy caller's, and another's; each time callers that have not called before."""
    assert bed.authority is not None
    pairs = [bed.authority.issue(name, dns=[name]) for name in (f"{who}-{next(_numbers)}" for who in ("greedy", "other"))]
    async with bed.channel(pairs[0]) as greedy, bed.channel(pairs[1]) as other:
        yield greedy, other


async def end(call: Any) -> VirtrpcError | None:
    """How a call, or the first word of a stream, ended: None where it was answered."""
    try:
        await (call.read() if hasattr(call, "read") else call)
    except grpc.aio.AioRpcError as error:
        return from_status(error.code(), error.details() or "", error.trailing_metadata())
    return None


def assert_refused(problems: list[VirtrpcError | None], reason: str, limit: int) -> None:
    """Some were refused, and all of those for this reason, with when to come again."""
    refused = [problem for problem in problems if problem is not None]
    assert {(problem.reason, problem.code) for problem in refused} == {(reason, grpc.StatusCode.RESOURCE_EXHAUSTED)}
    assert all(problem.retry_after and problem.metadata["limit"] == str(limit) for problem in refused)


async def test_calls_of_one_are_not_taken_from_another(bed: Target) -> None:
    """Of a flood all but a few are RATE_LIMITED; meanwhile another caller, within its own limit, is refused nothing."""
    async with channels(bed) as (greedy, other), asyncio.timeout(GUARD):
        ask = q.ListHostsRequest()
        flood = asyncio.gather(*(end(greedy.query.ListHosts(ask)) for _ in range(40 * CALLS)))
        assert [await end(other.query.ListHosts(ask)) for _ in range(CALLS)] == [None] * CALLS
        assert_refused(await flood, "RATE_LIMITED", CALLS)


async def test_streams_of_one_are_not_taken_from_another(bed: Target) -> None:
    """Who has all the streams that it may have is refused TOO_MANY_STREAMS, and another caller opens as many."""
    async with channels(bed) as (greedy, other), asyncio.timeout(GUARD):
        watch = q.WatchDomainsRequest()
        mine = [greedy.query.WatchDomains(watch) for _ in range(STREAMS)]
        assert [await end(stream) for stream in mine] == [None] * STREAMS
        assert_refused([await end(greedy.query.WatchDomains(watch))], "TOO_MANY_STREAMS", STREAMS)
        theirs = [other.query.WatchDomains(watch) for _ in range(STREAMS)]
        assert [await end(stream) for stream in theirs] == [None] * STREAMS
        assert await end(other.query.ListHosts(q.ListHostsRequest())) is None
        for stream in (*mine, *theirs):
            stream.cancel()


async def test_jobs_of_one_are_not_taken_from_another(bed: Target) -> None:
    """Who has all the jobs that it may have is refused TOO_MANY_JOBS, and another caller's job is accepted and done."""
    options = t.JobOptions(on_disconnect=t.ON_DISCONNECT_DETACH)
    async with channels(bed) as (greedy, other), asyncio.timeout(GUARD):
        # The first holds its domain for longer than any test, and the second waits for it.
        held = [greedy.job.ManagedSaveDomain(j.ManagedSaveDomainRequest(domain=t.DomainRef(name="guest-1"), options=options)) for _ in range(JOBS)]
        assert [await end(stream) for stream in held] == [None] * JOBS
        suspend = j.SuspendDomainRequest(domain=t.DomainRef(name="guest-2"))
        assert_refused([await end(greedy.job.SuspendDomain(suspend))], "TOO_MANY_JOBS", JOBS)
        updates = [update async for update in other.job.SuspendDomain(suspend)]
        assert updates[-1].job.state == t.JOB_STATE_SUCCEEDED
        for stream in held:
            stream.cancel()
