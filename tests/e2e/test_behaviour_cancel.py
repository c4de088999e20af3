"""CancelJob: answered at once, whatever the job is doing; one last state for everybody; never somebody else's operation."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc
import libvirt
import pytest

from tests.e2e.behaviour import DETACHED, abort_has_arrived, held_writer, job_in, last, save_held_midway
from tests.e2e.server import Channel, Guest, QemuHost, Server, eventually, running
from virtrpc import AsyncClient, JobNotFound, is_final
from virtrpc.v1 import job_pb2 as j
from virtrpc.v1 import types_pb2 as t


@pytest.fixture(scope="module")
def shared_guest(qemu_host: QemuHost) -> Iterator[Guest]:
    """A guest with memory enough to be caught in the middle of a save."""
    with qemu_host.guest(memory_mib=256, fill_mib=128) as guest:
        guest.wait_for("FILLED")
        yield guest


@pytest.fixture
def guest(qemu_host: QemuHost, shared_guest: Guest) -> Guest:
    """The same, running."""
    return running(shared_guest, qemu_host)


@pytest.fixture(scope="module")
def simulated() -> Iterator[Server]:
    """A server with a simulated host that aborts whatever a domain runs, as libvirt does, and takes its time for it."""
    with Server({"sim": "sim:///?domains=4&running=3&save_seconds=600&abort=domain&abort_seconds=1"}, drain_timeout=0) as server:
        server.wait_live()
        yield server


@pytest.fixture
async def sim(simulated: Server) -> AsyncIterator[AsyncClient]:
    """A client of it."""
    async with simulated.client() as client:
        yield client


@pytest.mark.hypervisor
async def test_while_queued(client: AsyncClient, guest: Guest) -> None:
    """A queued job is withdrawn and never sent, those behind it move up, and the job ahead goes on."""
    async with save_held_midway(client, guest.name) as save:
        first = await client.suspend_domain(guest.name, options=DETACHED)
        second = await client.suspend_domain(guest.name, options=DETACHED)
        assert (await job_in(client, second.job_id, t.JOB_STATE_QUEUED)).queue_position == 2
        answer = await first.cancel()
        assert answer.outcome == j.CANCEL_OUTCOME_WITHDRAWN
        job = await last(client, first.job_id)
        assert (job.state, job.cancel_reason, job.error.reason) == (t.JOB_STATE_CANCELLED, t.CANCEL_REASON_REQUESTED, "CANCELLED")
        assert not job.HasField("start_time")

        async def moved_up() -> bool:
            return (await client.get_job(job_id=second.job_id)).queue_position == 1

        await eventually(moved_up, "the next in the queue to move up")
        assert (await client.get_job(job_id=save.job_id)).state == t.JOB_STATE_RUNNING
        await second.cancel()
    assert (await last(client, save.job_id)).state == t.JOB_STATE_SUCCEEDED


@pytest.mark.hypervisor
async def test_while_saving_it_is_answered_before_the_save_ends(client: AsyncClient, guest: Guest) -> None:
    """Both cancels of a save are answered while its call is out; then it ends CANCELLED, the guest runs on, and a third finds it over."""
    async with save_held_midway(client, guest.name) as save:
        answers = [await save.cancel(), await save.cancel()]
        assert [answer.outcome for answer in answers] == [j.CANCEL_OUTCOME_ABORTING] * 2
        assert all(answer.job.state == t.JOB_STATE_RUNNING and answer.job.cancel_requested for answer in answers)
        # QEMU cannot give the save up before its disk takes data again: this answer, too, came before that.
        await abort_has_arrived(guest)
        assert (await client.get_job(job_id=save.job_id)).state == t.JOB_STATE_RUNNING
    job = await last(client, save.job_id)
    assert (job.state, job.cancel_reason) == (t.JOB_STATE_CANCELLED, t.CANCEL_REASON_REQUESTED)
    assert [guest.state, guest.domain.hasManagedSaveImage()] == [libvirt.VIR_DOMAIN_RUNNING, 0]
    over = await save.cancel()
    assert (over.outcome, over.job) == (j.CANCEL_OUTCOME_ALREADY_FINISHED, job)


@pytest.mark.hypervisor
async def test_exactly_one_last_state_reaches_everybody(client: AsyncClient, channel: Channel, guest: Guest) -> None:
    """The verb's own stream, WatchJob and WatchJobs each tell one final state, the same, and nothing after it; the verb ends with its status."""
    verb = channel.job.ManagedSaveDomain(j.ManagedSaveDomainRequest(domain=t.DomainRef(uuid=guest.uuid), options=DETACHED))
    job_id = (await anext(aiter(verb))).job.job_id
    watch = channel.job.WatchJob(j.WatchJobRequest(job_id=job_id))
    many = channel.job.WatchJobs(j.WatchJobsRequest(filter=j.JobFilter(domain=t.DomainRef(uuid=guest.uuid))))
    told: list[t.Job] = []

    async def listen() -> None:
        async for batch in many:
            told.extend(change.current for change in batch.changes if change.current.job_id == job_id)

    listening = asyncio.create_task(listen())
    with held_writer(guest.name):
        await client.cancel_job(job_id=job_id)
        await abort_has_arrived(guest)
    watched = [update.job async for update in watch]
    assert await watch.code() == grpc.StatusCode.OK
    own = await _until_refused(verb)
    await eventually(lambda: any(is_final(job) for job in told), "WatchJobs to tell of the end")
    listening.cancel()
    final = await client.get_job(job_id=job_id)
    assert final.state == t.JOB_STATE_CANCELLED
    for jobs in (watched, own, told):
        assert [job for job in jobs if is_final(job)] == [final]
        assert jobs[-1] == final
    assert await verb.code() == grpc.StatusCode.ABORTED


async def _until_refused(verb: Any) -> list[t.Job]:
    """The jobs of a verb's stream that ends with an error."""
    jobs: list[t.Job] = []
    try:
        async for update in verb:
            jobs.append(update.job)  # noqa: PERF401 - what came before the error counts
    except grpc.aio.AioRpcError:
        return jobs
    pytest.fail("the verb ended OK")


async def test_many_at_once_are_one(sim: AsyncClient) -> None:
    """Twenty cancels at the same time are each answered while the abort is under way, and the job ends once, CANCELLED."""
    save = await sim.managed_save_domain("guest-1", options=DETACHED)
    await job_in(sim, save.job_id, t.JOB_STATE_RUNNING)
    answers = await asyncio.gather(*(sim.cancel_job(job_id=save.job_id) for _ in range(20)))
    assert {answer.outcome for answer in answers} == {j.CANCEL_OUTCOME_ABORTING}
    assert {answer.job.state for answer in answers} == {t.JOB_STATE_RUNNING}
    states = [job.state async for job in sim.watch_job(save.job_id)]
    assert states[-1] == t.JOB_STATE_CANCELLED
    assert t.JOB_STATE_CANCELLED not in states[:-1]
    assert (await sim.get_domain("guest-1")).state == t.DOMAIN_STATE_RUNNING


async def test_an_unknown_job_is_not_found(sim: AsyncClient) -> None:
    """A job that never was is NOT_FOUND with its id."""
    with pytest.raises(JobNotFound, match="never-was") as error:
        await sim.cancel_job(job_id="never-was")
    assert error.value.metadata["job_id"] == "never-was"
