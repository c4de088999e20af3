"""Watches: they resume where they were, and say when what is held must be forgotten."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

import virtrpc.silence
from tests.clients.fake import IDENTITY, WEB, Context, Fake, in_turn, job, refuse
from virtrpc import AsyncClient, DomainMirror, JobMirror, errors
from virtrpc.v1 import job_pb2 as j
from virtrpc.v1 import query_pb2 as q
from virtrpc.v1 import types_pb2 as t

NOT_LIVE = t.UnreachableHost(host="b", freshness=t.FRESHNESS_STALE, reason="HOST_UNREACHABLE")


def batch(token: str, *, reset: bool = False) -> q.WatchDomainsResponse:
    """A batch with web in it."""
    return q.WatchDomainsResponse(changes=[q.DomainChange(current=WEB)], resume_token=token, reset=reset)


def sending(*batches: Any, code: grpc.StatusCode | None = None, reason: str = "") -> Any:
    """Sends the batches and ends with `code`; None ends it OK."""

    async def answer(_: Any, context: Context) -> AsyncIterator[Any]:
        for one in batches:
            yield one
        if code is not None:
            await refuse(context, code, reason)

    return answer


def silent(*batches: Any) -> Any:
    """Sends the batches and then nothing more."""

    async def answer(*_: Any) -> AsyncIterator[Any]:
        for one in batches:
            yield one
        await asyncio.Event().wait()

    return answer


async def test_a_watch_resumes_after_the_last_batch(fake: Fake, client: AsyncClient) -> None:
    """However a watch ends, OK included, it is opened again with the last token and the same filter; the caller sees one sequence of batches."""
    fake.on["WatchDomains"] = in_turn(
        sending(batch("1"), batch("2"), code=grpc.StatusCode.UNAVAILABLE), sending(batch("3")), silent(batch("4")), silent()
    )
    seen = await take(client.watch_domains(filter=t.DomainFilter(name_glob="w*")), 4)
    assert [one.resume_token for one in seen] == ["1", "2", "3", "4"]
    assert [request.resume_token for request in fake.asked("WatchDomains")][:3] == ["", "2", "3"]
    assert {request.filter.name_glob for request in fake.asked("WatchDomains")} == {"w*"}


async def test_a_token_that_is_refused_means_a_reset(fake: Fake, client: AsyncClient) -> None:
    """Where the server does not take the token, the watch begins afresh and the next batch says reset, whatever the server says."""
    fake.on["WatchDomains"] = in_turn(
        sending(batch("1")), sending(code=grpc.StatusCode.INVALID_ARGUMENT, reason="RESUME_TOKEN_INVALID"), silent(batch("9"), batch("10"))
    )
    seen = await take(client.watch_domains(), 3)
    assert [one.reset for one in seen] == [False, True, False]
    assert [request.resume_token for request in fake.asked("WatchDomains")] == ["", "1", ""]


async def test_a_callers_own_token_is_used(fake: Fake, client: AsyncClient) -> None:
    """A token kept from an earlier run is where the watch begins."""
    fake.on["WatchJobs"] = silent(j.WatchJobsResponse(resume_token="8"))
    await take(client.watch_jobs(resume_token="7"), 1)
    assert fake.asked("WatchJobs")[0].resume_token == "7"


@pytest.mark.parametrize(
    ("code", "reason", "kind"),
    [
        (grpc.StatusCode.NOT_FOUND, "HOST_NOT_CONFIGURED", errors.NotFound),
        (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT", errors.InvalidArgument),
        (grpc.StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED", errors.PermissionDenied),
    ],
)
async def test_a_refusal_ends_a_watch(fake: Fake, client: AsyncClient, code: grpc.StatusCode, reason: str, kind: type[errors.VirtrpcError]) -> None:
    """What asking again cannot mend is raised."""
    fake.on["WatchDomains"] = sending(batch("1"), code=code, reason=reason)
    with pytest.raises(kind):
        await take(client.watch_domains(), 2)


async def test_no_server_at_the_beginning(client: AsyncClient, fake: Fake) -> None:
    """A watch that never got through ends with ServerUnavailable instead of trying for ever."""
    await fake.stop()
    with pytest.raises(errors.ServerUnavailable):
        await take(client.within(timeout=0.5).watch_domains(), 1)


async def test_silence_is_a_dead_connection(fake: Fake, client: AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where not even heartbeats come, the watch is opened again with the last token."""
    monkeypatch.setattr(virtrpc.silence, "HEARTBEAT_SECONDS", 0.1)
    monkeypatch.setattr(virtrpc.silence, "LEAST_SECONDS", 0.1)
    after = {"": batch("1"), "1": batch("2")}
    fake.on["WatchDomains"] = lambda request, context: silent(*filter(None, [after.get(request.resume_token)]))(request, context)
    assert [one.resume_token for one in await take(client.watch_domains(), 2)] == ["1", "2"]


async def test_a_watch_ends_when_its_time_is_up(fake: Fake, client: AsyncClient) -> None:
    """listen_timeout ends the iteration without an error."""
    fake.on["WatchDomains"] = silent(batch("1"))
    assert len([one async for one in client.within(listen_timeout=1).watch_domains()]) == 1


async def test_closing_a_watch_ends_its_iteration(fake: Fake, client: AsyncClient) -> None:
    """`close` ends the iteration without an error."""
    fake.on["WatchDomains"] = silent(batch("1"))
    watch = client.watch_domains()
    async for _ in watch:
        watch.close()


def test_a_mirror_of_domains() -> None:
    """A mirror holds what was told last, forgets everything at a reset, and keeps a newer generation when an older one is removed.

    A removal that names none is of whatever is held.
    """
    mirror = DomainMirror()
    mirror.apply(q.WatchDomainsResponse(changes=[q.DomainChange(current=WEB)], unreachable=[NOT_LIVE], caught_up=True))
    assert (list(mirror.domains), list(mirror.unreachable), mirror.caught_up) == ([("local", WEB.uuid)], ["b"], True)
    mirror.apply(q.WatchDomainsResponse(changes=[q.DomainChange(removed=q.DomainRemoval(domain=IDENTITY, generation="older"))]))
    assert len(mirror.domains) == 1
    mirror.apply(q.WatchDomainsResponse(changes=[q.DomainChange(removed=q.DomainRemoval(domain=IDENTITY, generation="g1"))]))
    assert not mirror.domains
    mirror.apply(q.WatchDomainsResponse(changes=[q.DomainChange(current=WEB)]))
    mirror.apply(q.WatchDomainsResponse(changes=[q.DomainChange(removed=q.DomainRemoval(domain=IDENTITY))]))
    assert not mirror.domains
    mirror.apply(batch("1"))
    mirror.apply(q.WatchDomainsResponse(reset=True))
    assert not mirror.domains


def test_a_mirror_of_jobs() -> None:
    """A mirror of jobs holds the last revision of each, and forgets what is removed or reset."""
    mirror = JobMirror()
    mirror.apply(j.WatchJobsResponse(changes=[j.JobChange(current=job(t.JOB_STATE_QUEUED, 1))]))
    mirror.apply(j.WatchJobsResponse(changes=[j.JobChange(current=job(t.JOB_STATE_RUNNING, 2))]))
    assert mirror.jobs["job-1"].revision == 2
    mirror.apply(j.WatchJobsResponse(changes=[j.JobChange(removed=j.JobRemoval(job_id="job-1"))]))
    assert not mirror.jobs
    mirror.apply(j.WatchJobsResponse(changes=[j.JobChange(current=job(t.JOB_STATE_RUNNING, 2))]))
    mirror.apply(j.WatchJobsResponse(reset=True))
    assert not mirror.jobs


async def take(watch: Any, count: int) -> list[Any]:
    """The first batches of a watch."""
    seen = []
    async for one in watch:
        seen.append(one)
        if len(seen) == count:
            break
    watch.close()
    return seen
