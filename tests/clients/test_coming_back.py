"""Clients of a server that goes away and comes back: they try again by themselves, neither at once nor all together, and say so."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import grpc
import pytest

import virtrpc.silence
from tests.clients.fake import WEB, Context, Fake, accepted, draining, in_turn, job, refuse, then, until
from tests.virtual_time import on_virtual_time
from virtrpc import AsyncClient, AsyncJobHandle, Client, errors, job_options
from virtrpc.backoff import Deadline
from virtrpc.v1 import job_pb2 as j
from virtrpc.v1 import query_pb2 as q
from virtrpc.v1 import snapshot_pb2 as s
from virtrpc.v1 import types_pb2 as t

RUNNING, SUCCEEDED = t.JOB_STATE_RUNNING, t.JOB_STATE_SUCCEEDED
SILENCE = 1.5
"""Seconds without a word that are taken for the end of a connection: more than a machine that is busy makes of an answer."""
AWAY = errors.make_error(grpc.StatusCode.UNAVAILABLE, message="connection refused")


async def leave(_: Any, context: Context) -> AsyncIterator[t.JobUpdate]:
    """What a server that goes down says instead of an answer."""
    nothing: tuple[t.JobUpdate, ...] = ()
    for update in nothing:
        yield update
    await context.abort(grpc.StatusCode.UNAVAILABLE, "going down", draining(0.25))


def silent_after(*states: t.Job) -> Any:
    """Accepted, then these states, then nothing ever again."""

    async def answer(_: Any, context: Context) -> AsyncIterator[t.JobUpdate]:
        await accepted(context)
        for state in states:
            yield t.JobUpdate(job=state)
        await asyncio.Event().wait()

    return answer


async def test_a_verb_waits_for_a_server_that_is_started_again(fake: Fake, client: AsyncClient, tmp_path: Path) -> None:
    """While nothing listens it is sent again under its id, within the client's timeout, and each failure is told."""
    told: list[errors.VirtrpcError | None] = []
    client.on_broken = told.append
    await fake.stop()
    starting = asyncio.ensure_future(client.within(timeout=60).start_domain("web"))
    await until(lambda: len(told) > 2)
    await fake.start(Path(fake.address.removeprefix("unix://")))
    assert (await (await starting).wait()).state == SUCCEEDED
    assert all(isinstance(error, errors.ServerUnavailable) for error in told)
    assert len(fake.asked("StartDomain")) == 1


async def test_a_draining_server_is_left_alone_for_as_long_as_it_says(fake: Fake, client: AsyncClient) -> None:
    """The delay of RetryInfo is the least pause, for verbs and for handles; the exception tells it."""
    told: list[errors.VirtrpcError | None] = []
    client.on_broken = told.append
    loop, began = asyncio.get_running_loop(), asyncio.get_running_loop().time()
    fake.on["StartDomain"] = in_turn(leave, silent_after(job(RUNNING, 1)))
    handle = await client.start_domain("web")
    assert loop.time() - began >= 0.25
    assert [error.retry_after for error in told if error is not None] == [0.25]
    fake.on["WatchJob"] = in_turn(leave, leave, then(job(SUCCEEDED, 2)))
    assert (await client.watch_job(handle.job_id).wait()).state == SUCCEEDED
    assert loop.time() - began >= 0.75


async def test_a_silent_job_is_attached_again(fake: Fake, client: AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where not even heartbeats come the connection is dead; what breaks and what is whole again is told, and no state comes twice."""
    monkeypatch.setattr(virtrpc.silence, "LEAST_SECONDS", SILENCE)
    fake.on["ManagedSaveDomain"] = silent_after(job(RUNNING, 1))
    fake.on["WatchJob"] = in_turn(silent_after(), silent_after(job(RUNNING, 1)), then(job(SUCCEEDED, 2)))
    handle = await client.managed_save_domain("web", options=job_options(heartbeat=0.01))
    told: list[str] = []
    handle.on_broken = lambda error: told.append(str(error))
    handle.on_mended = lambda: told.append("mended")
    assert [seen.revision async for seen in handle] == [1, 2]
    unheard = f"nothing was heard for {SILENCE:g} s"
    assert told == [unheard, unheard, "mended", unheard, "mended"]
    assert {request.heartbeat.ToMilliseconds() for request in fake.asked("WatchJob")} == {10}


def test_a_silent_job_is_attached_again_without_a_loop(fake_apart: Fake, blocking: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocking handle does the same."""
    monkeypatch.setattr(virtrpc.silence, "LEAST_SECONDS", SILENCE)
    fake_apart.on["ManagedSaveDomain"] = silent_after(job(RUNNING, 1))
    fake_apart.on["WatchJob"] = then(job(SUCCEEDED, 2))
    handle = blocking.managed_save_domain("web", options=job_options(heartbeat=0.01))
    told: list[str] = []
    handle.on_broken = lambda error: told.append(str(error))
    handle.on_mended = lambda: told.append("mended")
    assert handle.wait().state == SUCCEEDED
    assert told == [f"nothing was heard for {SILENCE:g} s", "mended"]


async def test_heartbeats_keep_a_quiet_job(fake: Fake, client: AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same revision again is not given to the caller, and shows that the connection lives."""
    monkeypatch.setattr(virtrpc.silence, "LEAST_SECONDS", 2.0)
    beats = 25

    async def beating(_: Any, context: Context) -> AsyncIterator[t.JobUpdate]:
        await accepted(context)
        for _beat in range(beats):
            yield t.JobUpdate(job=job(RUNNING, 1))
            await asyncio.sleep(0.1)
        yield t.JobUpdate(job=job(SUCCEEDED, 2))

    fake.on["ManagedSaveDomain"] = beating
    handle = await client.managed_save_domain("web", options=job_options(heartbeat=0.1))
    assert [seen.revision async for seen in handle] == [1, 2]
    assert not fake.asked("WatchJob")


async def test_a_heartbeat_is_asked_for(fake: Fake, client: AsyncClient) -> None:
    """Every verb, handle and watch asks for 15 s where its caller does not say: what the server is set to is not known here."""
    await client.start_domain("web")
    fake.on["WatchJob"] = then(job(SUCCEEDED, 1))
    await client.watch_job("job-1").wait()
    await client.watch_job("job-1", heartbeat=3).wait()
    fake.on["WatchJobs"] = then_batch
    async for _ in client.watch_jobs():
        break
    (verb,), (plain, own), (watch,) = (fake.asked(name) for name in ("StartDomain", "WatchJob", "WatchJobs"))
    assert [asked.heartbeat.seconds for asked in (verb.options, plain, own, watch)] == [15, 15, 3, 15]


async def then_batch(*_: Any) -> AsyncIterator[j.WatchJobsResponse]:
    """One batch of a watch."""
    yield j.WatchJobsResponse(resume_token="1")


async def test_a_server_that_was_away_is_found_again(fake: Fake, client: AsyncClient) -> None:
    """A handle outlasts it, and says when it is back."""
    fake.on["ManagedSaveDomain"] = silent_after(job(RUNNING, 1))
    fake.on["WatchJob"] = then(job(SUCCEEDED, 2))
    handle = await client.managed_save_domain("web")
    away, mended = asyncio.Event(), asyncio.Event()
    handle.on_broken, handle.on_mended = lambda _: away.set(), mended.set
    waiting = asyncio.ensure_future(handle.wait())
    await until(lambda: handle.job is not None)
    await fake.stop()
    await away.wait()
    await fake.start(Path(fake.address.removeprefix("unix://")))
    assert (await waiting).state == SUCCEEDED
    assert mended.is_set()


async def test_a_cancel_reaches_a_server_that_is_started_again(fake: Fake, client: AsyncClient) -> None:
    """It is asked again while the server is away, for longer than the channel does by itself."""

    async def away(_: Any, context: Context) -> Any:
        await context.abort(grpc.StatusCode.UNAVAILABLE, "upstream connect error")

    fake.on["CancelJob"] = in_turn(*[away] * 7, lambda *_: j.CancelJobResponse(outcome=j.CANCEL_OUTCOME_ABORTING))
    assert (await client.watch_job("job-1").cancel()).outcome == j.CANCEL_OUTCOME_ABORTING


class Stand:
    """A wire whose server is away until `back`: a patient call waits for it, another one fails at once."""

    def __init__(self) -> None:
        self.back = asyncio.Event()
        self.opened: Counter[bool] = Counter()
        self.attached: list[float] = []

    def stream(self, _rpc: Any, _request: Any, _timeout: float | None, *, patient: bool = False) -> Any:
        """See Wire."""
        self.opened[patient] += 1
        return Attached(self, patient)

    async def sleep(self, seconds: float) -> None:
        """See Wire."""
        await asyncio.sleep(seconds)


class Attached:
    """A stream of a Stand."""

    def __init__(self, stand: Stand, patient: bool) -> None:
        self._stand, self._patient = stand, patient

    async def initial_metadata(self, timeout: float | None = None) -> Mapping[str, str]:
        """See Stream."""
        return {}

    async def read(self, timeout: float | None = None) -> t.JobUpdate | None:
        """See Stream."""
        if not self._patient and not self._stand.back.is_set():
            raise AWAY
        await self._stand.back.wait()
        self._stand.attached.append(asyncio.get_running_loop().time())
        return t.JobUpdate(job=job(SUCCEEDED, 2))

    def close(self) -> None:
        """See Stream."""


@on_virtual_time
async def test_a_crowd_of_handles_comes_back_without_a_stampede() -> None:
    """Five thousand streams that break together are opened once each while the server is away, and not in one moment."""
    stand: Any = Stand()
    request = j.WatchJobRequest(job_id="job-1")
    handles = [AsyncJobHandle(stand, request, deadline=Deadline(None), stream=Attached(stand, False)) for _ in range(5000)]
    moments: Counter[float] = Counter()
    loop = asyncio.get_running_loop()
    stand_open = stand.stream
    stand.stream = lambda *given, **more: (moments.update([round(loop.time(), 3)]), stand_open(*given, **more))[1]
    waiting = [asyncio.ensure_future(handle.wait()) for handle in handles]
    await asyncio.sleep(10)
    assert stand.opened == {True: 5000}
    assert max(moments.values()) < 250
    stand.back.set()
    assert {ended.state for ended in await asyncio.gather(*waiting)} == {SUCCEEDED}
    assert stand.opened == {True: 5000}


async def test_a_server_that_has_only_just_started_is_asked_again(fake: Fake, client: AsyncClient) -> None:
    """What a server refuses with a delay after which to try again, reads and verbs are tried again within the timeout; without one it is final."""

    async def not_yet(_: Any, context: Context) -> Any:
        await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not reached yet", draining(0.05, "HOST_UNREACHABLE"))

    async def streamed(request: Any, context: Context) -> AsyncIterator[t.JobUpdate]:
        yield await not_yet(request, context)

    fake.on["GetDomain"] = in_turn(not_yet, not_yet, lambda *_: q.GetDomainResponse(domain=WEB), never)
    fake.on["StartDomain"] = in_turn(streamed, then(job(SUCCEEDED, 1)))
    assert await client.get_domain("web") == WEB
    assert (await (await client.start_domain("web")).wait()).state == SUCCEEDED
    with pytest.raises(errors.HostUnreachable):
        await client.get_domain("web")


async def test_who_asks_for_too_much_is_served_later(fake: Fake, client: AsyncClient) -> None:
    """What is refused by a limit is tried again after the delay that the server says: reads, verbs, watches and pictures alike."""

    async def too_much(_: Any, context: Context) -> Any:
        await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too much", draining(0.05, "RATE_LIMITED"))

    async def streamed(request: Any, context: Context) -> AsyncIterator[Any]:
        yield await too_much(request, context)

    async def picture(*_: Any) -> AsyncIterator[s.TakeScreenshotResponse]:
        yield s.TakeScreenshotResponse(mime_type="image/png", total_bytes=1)
        yield s.TakeScreenshotResponse(data=b"x")

    fake.on["GetDomain"] = in_turn(too_much, too_much, lambda *_: q.GetDomainResponse(domain=WEB))
    fake.on["StartDomain"] = in_turn(streamed, streamed, then(job(SUCCEEDED, 1)))
    fake.on["WatchJobs"] = in_turn(streamed, then_batch)
    fake.on["TakeScreenshot"] = in_turn(streamed, picture)
    assert await client.get_domain("web") == WEB
    assert (await (await client.start_domain("web")).wait()).state == SUCCEEDED
    assert (await anext(aiter(client.watch_jobs()))).resume_token
    assert (await client.take_screenshot("web")).data == b"x"


async def never(_: Any, context: Context) -> None:
    """A host that cannot be reached, and nobody knows for how long."""
    await refuse(context, grpc.StatusCode.FAILED_PRECONDITION, "HOST_UNREACHABLE")
