"""Job handles: accepted once, followed to the end, whatever happens to the connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from tests.clients.fake import Context, Fake, accepted, in_turn, job, refuse, then, until
from virtrpc import AsyncClient, errors, job_options
from virtrpc.v1 import job_pb2 as j
from virtrpc.v1 import types_pb2 as t

QUEUED, RUNNING, SUCCEEDED = (t.JOB_STATE_QUEUED, t.JOB_STATE_RUNNING, t.JOB_STATE_SUCCEEDED)


def failed(revision: int = 9, reason: str = "WAIT_TIMEOUT") -> t.Job:
    """A job that failed as the contract says."""
    error = t.JobError(code=10, reason=reason, message="in the way", metadata={"holder_job_id": "job-0"})
    return job(t.JOB_STATE_FAILED, revision, error=error)


async def test_iterating_gives_every_state(fake: Fake, client: AsyncClient) -> None:
    """The job comes each time it changes, the present state first and the final one last."""
    fake.on["ManagedSaveDomain"] = then(job(QUEUED, 1), job(RUNNING, 2), job(SUCCEEDED, 3))
    handle = await client.managed_save_domain("web")
    assert handle.job_id == "job-1"
    assert [seen.state async for seen in handle] == [QUEUED, RUNNING, SUCCEEDED]
    assert handle.done


async def test_iterating_again_gives_the_last_state(client: AsyncClient) -> None:
    """After its end a handle gives the final state once more, without asking the server."""
    handle = await client.start_domain("web")
    await handle.wait()
    assert [seen.state async for seen in handle] == [SUCCEEDED]


async def test_wait_raises_what_the_job_failed_with(fake: Fake, client: AsyncClient) -> None:
    """A failed job is raised as the exception of its reason, with its metadata and the job."""
    fake.on["SuspendDomain"] = then(job(QUEUED, 1), failed())
    handle = await client.suspend_domain("web")
    with pytest.raises(errors.WaitTimeout, match="in the way") as caught:
        await handle.wait()
    assert caught.value.metadata == {"holder_job_id": "job-0"}
    assert caught.value.job == handle.job


async def test_a_refused_verb_raises_at_once(fake: Fake, client: AsyncClient) -> None:
    """What is refused before acceptance is raised by the verb itself, and sent once."""
    fake.on["StartDomain"] = refusing(grpc.StatusCode.FAILED_PRECONDITION, "WRONG_STATE", {"state": "RUNNING"})
    with pytest.raises(errors.WrongState) as caught:
        await client.start_domain("web")
    assert caught.value.metadata["state"] == "RUNNING"
    assert len(fake.calls) == 1


async def test_every_verb_carries_a_request_id(fake: Fake, client: AsyncClient) -> None:
    """Each call has an id of its own; one that the caller chose is kept."""
    await client.start_domain("web")
    await client.start_domain("web")
    await client.start_domain("web", options=job_options(request_id="mine"))
    ids = [request.options.request_id for request in fake.asked("StartDomain")]
    assert ids[0]
    assert ids[1] not in ("", ids[0])
    assert ids[2] == "mine"


async def test_a_broken_stream_is_attached_again(fake: Fake, client: AsyncClient) -> None:
    """A stream that breaks in the middle is taken up with WatchJob; the verb is not sent again, and no state comes twice."""
    fake.on["ManagedSaveDomain"] = broken_after(job(QUEUED, 1), job(RUNNING, 2))
    fake.on["WatchJob"] = then(job(RUNNING, 2), job(SUCCEEDED, 3))
    handle = await client.managed_save_domain("web")
    assert [seen.revision async for seen in handle] == [1, 2, 3]
    assert len(fake.asked("ManagedSaveDomain")) == 1
    assert [request.job_id for request in fake.asked("WatchJob")] == ["job-1"]


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.ABORTED, grpc.StatusCode.NOT_FOUND, None])
async def test_any_status_without_a_final_state_attaches_again(fake: Fake, client: AsyncClient, code: grpc.StatusCode | None) -> None:
    """However the verb's stream ends, OK included: without a final state the job is asked after, even where no message came at all."""
    heard = asyncio.Event()
    fake.on["ManagedSaveDomain"] = broken_after(code=code, once=heard)
    fake.on["WatchJob"] = then(job(SUCCEEDED, 3))
    handle = await client.managed_save_domain("web")
    heard.set()
    assert (await handle.wait()).state == SUCCEEDED
    assert len(fake.asked("ManagedSaveDomain")) == 1


async def test_attaching_goes_on_until_the_end(fake: Fake, client: AsyncClient) -> None:
    """Where WatchJob breaks too, it is called again until it tells the end."""
    fake.on["ManagedSaveDomain"] = broken_after(job(RUNNING, 1))
    fake.on["WatchJob"] = in_turn(broken_after(job(RUNNING, 2)), broken_after(code=grpc.StatusCode.INTERNAL), then(job(SUCCEEDED, 3)))
    handle = await client.managed_save_domain("web")
    assert [seen.revision async for seen in handle] == [1, 2, 3]


async def test_a_forgotten_job_is_said_to_be_forgotten(fake: Fake, client: AsyncClient) -> None:
    """Where the server no longer knows the job, waiting ends with JobNotFound and the job as last seen."""
    fake.on["ManagedSaveDomain"] = broken_after(job(RUNNING, 1))
    fake.on["WatchJob"] = refusing(grpc.StatusCode.NOT_FOUND, "JOB_NOT_FOUND")
    with pytest.raises(errors.JobNotFound) as caught:
        await (await client.managed_save_domain("web")).wait()
    assert caught.value.job is not None
    assert caught.value.job.state == RUNNING


async def test_a_call_cut_before_acceptance_is_repeated_under_its_id(fake: Fake, client: AsyncClient) -> None:
    """A verb whose acceptance was not seen is sent again with the same request_id."""
    fake.on["StartDomain"] = in_turn(cut, then(job(SUCCEEDED, 1)))
    await (await client.start_domain("web")).wait()
    first, second = fake.asked("StartDomain")
    assert first == second


async def test_a_server_that_is_not_there_is_said_so(client: AsyncClient, fake: Fake) -> None:
    """Without a server a verb, and the watch of a job, end with ServerUnavailable once the client's timeout has passed."""
    await fake.stop()
    hurried = client.within(timeout=0.5)
    for waiting in (hurried.start_domain("web"), hurried.watch_job("job-1").wait()):
        with pytest.raises(errors.ServerUnavailable, match="connect"):
            await waiting


async def test_cancel_answers_while_the_job_is_followed(fake: Fake, client: AsyncClient) -> None:
    """A cancel is answered on its own, and the iteration goes on to the state that came of it."""
    cancelled = asyncio.Event()
    fake.on["ManagedSaveDomain"] = ended_by(cancelled, t.JOB_STATE_CANCELLED)
    fake.on["CancelJob"] = cancelling(cancelled, j.CANCEL_OUTCOME_ABORTING)
    handle = await client.managed_save_domain("web")
    states = []
    async for seen in handle:
        states.append(seen.state)
        if not cancelled.is_set():
            assert (await handle.cancel()).outcome == j.CANCEL_OUTCOME_ABORTING
    assert states == [RUNNING, t.JOB_STATE_CANCELLED]


async def test_listening_ends_at_the_deadline(fake: Fake, client: AsyncClient) -> None:
    """Where listen_timeout passes first, waiting ends with DeadlineExceeded and the job as last seen; the job is not cancelled."""
    fake.on["ManagedSaveDomain"] = ended_by(asyncio.Event(), SUCCEEDED)
    handle = await client.within(listen_timeout=1).managed_save_domain("web")
    with pytest.raises(errors.DeadlineExceeded) as caught:
        await handle.wait()
    assert caught.value.job is not None
    assert not fake.asked("CancelJob")


async def test_a_cancelled_reader_can_come_back(fake: Fake, client: AsyncClient) -> None:
    """Cancelling the task that waits ends the call and nothing else: waiting again attaches again."""
    fake.on["ManagedSaveDomain"] = ended_by(asyncio.Event(), SUCCEEDED)
    fake.on["WatchJob"] = then(job(SUCCEEDED, 3))
    handle = await client.managed_save_domain("web")
    waiting = asyncio.create_task(handle.wait())
    await until(lambda: handle.job is not None)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert (await handle.wait()).state == SUCCEEDED


async def test_closing_ends_an_iteration(fake: Fake, client: AsyncClient) -> None:
    """`close` in another task ends the iteration quietly, and `wait` says that the handle was closed."""
    fake.on["ManagedSaveDomain"] = ended_by(asyncio.Event(), SUCCEEDED)
    handle = await client.managed_save_domain("web")
    seen: list[t.Job] = []

    async def follow() -> None:
        seen.extend([update async for update in handle])

    following = asyncio.create_task(follow())
    await until(lambda: handle.job is not None)
    handle.close()
    await following
    assert [update.state for update in seen] == [RUNNING]
    with pytest.raises(errors.VirtrpcError, match="closed"):
        await handle.wait()


async def test_a_stranger_s_job_can_be_followed(fake: Fake, client: AsyncClient) -> None:
    """`watch_job` gives a handle on any job, and raises for one that failed."""
    fake.on["WatchJob"] = then(job(RUNNING, 2), failed(3, "PREEMPTED"))
    with pytest.raises(errors.Preempted):
        await client.watch_job("job-1").wait()


async def test_a_dropped_header_is_made_up_for(fake: Fake, client: AsyncClient) -> None:
    """Where a proxy drops the header with the job's id, the first message has it."""

    async def bare(_: Any, context: Context) -> AsyncIterator[t.JobUpdate]:
        yield t.JobUpdate(job=job(SUCCEEDED, 1))

    fake.on["StartDomain"] = bare
    handle = await client.start_domain("web")
    assert handle.job_id == "job-1"
    assert [seen.revision async for seen in handle] == [1]


def broken_after(*states: t.Job, code: grpc.StatusCode | None = grpc.StatusCode.UNAVAILABLE, once: asyncio.Event | None = None) -> Any:
    """Accepted, and cut off after these states with `code`; None: OK. Not before `once`: grpc.aio may lose the header of one that ends at once."""

    async def answer(_: Any, context: Context) -> AsyncIterator[t.JobUpdate]:
        await accepted(context)
        for state in states:
            yield t.JobUpdate(job=state)
        if once is not None:
            await once.wait()
        if code is not None:
            await context.abort(code, "cut")

    return answer


def refusing(code: grpc.StatusCode, reason: str, metadata: dict[str, str] | None = None) -> Any:
    """Refused before acceptance."""

    async def answer(_: Any, context: Context) -> AsyncIterator[t.JobUpdate]:
        await refuse(context, code, reason, "no", metadata)
        yield t.JobUpdate()

    return answer


async def cut(_: Any, context: Context) -> AsyncIterator[t.JobUpdate]:
    """Ends as a proxy ends a call whose server went away."""
    nothing: tuple[t.JobUpdate, ...] = ()
    for update in nothing:
        yield update
    await context.abort(grpc.StatusCode.UNAVAILABLE, "upstream connect error")


def ended_by(event: asyncio.Event, state: t.JobState.ValueType) -> Any:
    """Runs until the event, then ends in `state`."""

    async def answer(_: Any, context: Context) -> AsyncIterator[t.JobUpdate]:
        await accepted(context)
        yield t.JobUpdate(job=job(RUNNING, 1))
        await event.wait()
        yield t.JobUpdate(job=job(state, 2))

    return answer


def cancelling(event: asyncio.Event, outcome: j.CancelOutcome.ValueType) -> Any:
    """Sets the event and answers a CancelJob."""

    def answer(request: j.CancelJobRequest, context: Context) -> j.CancelJobResponse:
        event.set()
        return j.CancelJobResponse(job=job(RUNNING, 2, cancel_requested=True), outcome=outcome)

    return answer
