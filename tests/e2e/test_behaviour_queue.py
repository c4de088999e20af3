"""Jobs of one domain one after another, jobs of two domains side by side; callers that leave; a server that is asked to end."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator

import grpc
import libvirt
import pytest

from tests.beds.daemon import Libvirtd
from tests.e2e.behaviour import DETACHED, MIB, abort_has_arrived, held_writer, job_in, last, save_held_midway, stopped, stuck_change
from tests.e2e.server import GUARD, Guest, QemuHost, Server, eventually, qemu_host
from virtrpc import AsyncClient, AsyncJobHandle, ServerUnavailable, WrongState, job_options
from virtrpc.v1 import job_pb2 as j
from virtrpc.v1 import types_pb2 as t

# Slow enough that nothing ends while a test looks, except where it is aborted.
SLOW = "sim:///?domains=4&running=3&save_seconds=600"
CANCEL = job_options(on_disconnect="cancel")
DEFAULT = job_options()


@pytest.fixture(scope="module")
def simulated() -> Iterator[Server]:
    """A server with a simulated host whose saves do not end by themselves."""
    with Server({"sim": SLOW}, drain_timeout=0) as server:
        server.wait_live()
        yield server


@pytest.fixture
async def sim(simulated: Server) -> AsyncIterator[AsyncClient]:
    """A client of it, before which no job runs."""
    async with simulated.client() as client:
        yield client
        unfinished = j.JobFilter(states=[t.JOB_STATE_QUEUED, t.JOB_STATE_RUNNING])
        for job in await client.list_jobs(filter=unfinished).all():
            await client.cancel_job(job_id=job.job_id)
            await last(client, job.job_id)


@pytest.mark.hypervisor
async def test_jobs_of_one_domain_run_in_order_of_arrival(qemu_host: QemuHost, client: AsyncClient) -> None:
    """SetMemory, ManagedSave, SuspendDomain sent together: one after another, told who is ahead; the suspend fails, as the guest is off by then."""
    with qemu_host.guest(ready=False) as guest:
        with stopped(qemu_host.daemon.qemu_pid(guest.name)):
            memory = await client.set_memory(guest.name, memory_bytes=96 * MIB, options=DETACHED)
            save = await client.managed_save_domain(guest.name, options=DETACHED)
            suspend = await client.suspend_domain(guest.name, options=DETACHED)
            first, second, third = [await client.get_job(job_id=handle.job_id) for handle in (memory, save, suspend)]
            assert first.state == t.JOB_STATE_RUNNING
            for place, job in enumerate((second, third), 1):
                assert (job.state, job.waiting_for, job.queue_position) == (t.JOB_STATE_QUEUED, t.JOB_WAITING_FOR_CONDITION, place)
                assert [(holder.job_id, holder.kind) for holder in job.holders] == [(memory.job_id, t.JOB_KIND_SET_MEMORY)]
        ends = [await last(client, handle.job_id) for handle in (memory, save, suspend)]
        assert [job.state for job in ends] == [t.JOB_STATE_SUCCEEDED, t.JOB_STATE_SUCCEEDED, t.JOB_STATE_FAILED]
        assert ends[0].end_time.ToNanoseconds() <= ends[1].start_time.ToNanoseconds()
        assert ends[1].end_time.ToNanoseconds() <= ends[2].end_time.ToNanoseconds()
        with pytest.raises(WrongState) as wrong:
            await suspend.wait()
        assert wrong.value.metadata["state"] == "shutoff"
        assert guest.domain.hasManagedSaveImage()


@pytest.mark.hypervisor
async def test_jobs_of_two_domains_run_side_by_side(qemu_host: QemuHost, client: AsyncClient) -> None:
    """The calls of two domains are out at the same time, and a third domain's save begins and ends meanwhile."""
    with qemu_host.guest(ready=False) as one, qemu_host.guest(ready=False) as two, qemu_host.guest(ready=False) as three:
        with stopped(qemu_host.daemon.qemu_pid(one.name)), stopped(qemu_host.daemon.qemu_pid(two.name)):
            handles = [await stuck_change(client, guest) for guest in (one, two)]
            await (await client.managed_save_domain(three.name)).wait()
            assert [(await client.get_job(job_id=handle.job_id)).state for handle in handles] == [t.JOB_STATE_RUNNING] * 2
        assert [(await last(client, handle.job_id)).state for handle in handles] == [t.JOB_STATE_SUCCEEDED] * 2


async def test_a_caller_that_leaves_withdraws_its_queued_job(sim: AsyncClient) -> None:
    """By default a queued job whose caller leaves ends CANCELLED, because its caller left; nothing was sent."""
    save = await sim.managed_save_domain("guest-1", options=DETACHED)
    await job_in(sim, save.job_id, t.JOB_STATE_RUNNING)
    queued = await sim.suspend_domain("guest-1", options=DEFAULT)
    assert (await job_in(sim, queued.job_id, t.JOB_STATE_QUEUED)).holders[0].job_id == save.job_id
    # Who only watches has no say in it.
    watcher = sim.watch_job(queued.job_id)
    await anext(aiter(watcher))
    queued.close()
    job = await _end(watcher)
    assert (job.state, job.cancel_reason) == (t.JOB_STATE_CANCELLED, t.CANCEL_REASON_CALLER_LEFT)
    assert not job.HasField("start_time")
    assert (await sim.get_job(job_id=save.job_id)).state == t.JOB_STATE_RUNNING


async def test_a_passed_deadline_is_leaving(sim: AsyncClient) -> None:
    """A caller whose RPC deadline passes while its job is queued has left: the job is withdrawn."""
    save = await sim.managed_save_domain("guest-1", options=DETACHED)
    await job_in(sim, save.job_id, t.JOB_STATE_RUNNING)
    queued = await sim.within(listen_timeout=2).suspend_domain("guest-1", options=DEFAULT)
    assert (await job_in(sim, queued.job_id, t.JOB_STATE_CANCELLED)).cancel_reason == t.CANCEL_REASON_CALLER_LEFT


async def test_detached_a_queued_job_stays(sim: AsyncClient) -> None:
    """With DETACH a queued job outlives its caller, and runs when its turn comes."""
    save = await sim.managed_save_domain("guest-1", options=DETACHED)
    await job_in(sim, save.job_id, t.JOB_STATE_RUNNING)
    stays = await sim.suspend_domain("guest-1", options=DETACHED)
    goes = await sim.suspend_domain("guest-1", options=DEFAULT)
    await job_in(sim, goes.job_id, t.JOB_STATE_QUEUED)
    for handle in (stays, goes):
        handle.close()
    # The one that left later is withdrawn; had the first been, it would have been by now.
    await job_in(sim, goes.job_id, t.JOB_STATE_CANCELLED)
    assert (await sim.get_job(job_id=stays.job_id)).state == t.JOB_STATE_QUEUED
    await save.cancel()
    assert (await last(sim, stays.job_id)).state == t.JOB_STATE_SUCCEEDED
    await (await sim.resume_domain("guest-1")).wait()


@pytest.mark.hypervisor
async def test_leaving_a_running_save_does_not_stop_it(qemu_host: QemuHost, client: AsyncClient, big_guest: Guest) -> None:
    """The only caller of a running save breaks its connection: by default the save goes on to its success."""
    async with qemu_host.server.client() as other:
        save = await other.managed_save_domain(big_guest.name, options=DEFAULT)
        await job_in(client, save.job_id, t.JOB_STATE_RUNNING)
    job = await last(client, save.job_id)
    assert (job.state, job.cancel_requested) == (t.JOB_STATE_SUCCEEDED, False)
    assert big_guest.domain.hasManagedSaveImage()


@pytest.mark.hypervisor
async def test_with_cancel_leaving_stops_a_running_save(qemu_host: QemuHost, client: AsyncClient, big_guest: Guest) -> None:
    """With CANCEL the save is aborted when its caller's connection breaks, and the guest runs on."""
    async with qemu_host.server.client() as other:
        save = await other.managed_save_domain(big_guest.name, options=CANCEL)
        with held_writer(big_guest.name):
            await other.close()
            await abort_has_arrived(big_guest)
    job = await last(client, save.job_id)
    assert (job.state, job.cancel_reason) == (t.JOB_STATE_CANCELLED, t.CANCEL_REASON_CALLER_LEFT)
    assert big_guest.state == libvirt.VIR_DOMAIN_RUNNING


async def test_with_cancel_the_last_such_caller_decides(sim: AsyncClient) -> None:
    """Two callers share one job by its request_id, both with CANCEL: it goes on when one leaves, and is cancelled when both have left."""
    shared = job_options(on_disconnect="cancel", request_id="shared")
    first = await sim.managed_save_domain("guest-1", options=shared)
    second = await sim.managed_save_domain("guest-1", options=shared)
    assert first.job_id == second.job_id
    await job_in(sim, first.job_id, t.JOB_STATE_RUNNING)
    first.close()
    # A job that was withdrawn because its caller left shows that the server has dealt with leaving.
    probe = await sim.suspend_domain("guest-1", options=DEFAULT)
    probe.close()
    await job_in(sim, probe.job_id, t.JOB_STATE_CANCELLED)
    assert not (await sim.get_job(job_id=second.job_id)).cancel_requested
    second.close()
    assert (await job_in(sim, second.job_id, t.JOB_STATE_CANCELLED)).cancel_reason == t.CANCEL_REASON_CALLER_LEFT


@pytest.mark.hypervisor
async def test_a_drain_waits_for_a_running_save(daemon: Libvirtd) -> None:
    """SIGTERM during a save: no new verbs, queued jobs end INTERRUPTED but for those with DETACH, the save succeeds though a caller said CANCEL."""
    with qemu_host(daemon, drain_timeout=60) as host, host.guest(memory_mib=256, fill_mib=128) as guest:
        guest.wait_for("FILLED")
        async with host.server.client() as client:
            async with save_held_midway(client, guest.name) as save:
                watching = asyncio.create_task(_end(client.watch_job(save.job_id)))
                listening = await client.managed_save_domain(guest.name, options=job_options(on_disconnect="cancel"))
                queued = await client.suspend_domain(guest.name)
                kept = await client.resume_domain(guest.name, options=DETACHED)
                withdrawn = [asyncio.create_task(_end(handle)) for handle in (listening, queued)]
                await job_in(client, kept.job_id, t.JOB_STATE_QUEUED)
                os.kill(host.server.pid, signal.SIGTERM)
                ends = [await task for task in withdrawn]
                assert [job.state for job in ends] == [t.JOB_STATE_INTERRUPTED] * 2
                assert [job.cancel_reason for job in ends] == [t.CANCEL_REASON_DRAIN] * 2
                assert (await client.get_job(job_id=kept.job_id)).state == t.JOB_STATE_QUEUED
                # Queries go on meanwhile; verbs do not begin.
                job = await client.get_job(job_id=save.job_id)
                assert (job.state, job.cancel_requested) == (t.JOB_STATE_RUNNING, False)
                with pytest.raises(ServerUnavailable) as refused:
                    await client.suspend_domain(guest.name)
                assert refused.value.reason == "DRAINING"
            assert (await watching).state == t.JOB_STATE_SUCCEEDED
        await asyncio.to_thread(host.server.stop)
        assert guest.domain.hasManagedSaveImage()
        assert guest.state == libvirt.VIR_DOMAIN_SHUTOFF


@pytest.mark.hypervisor
async def test_a_drain_that_runs_out_cancels_nothing(daemon: Libvirtd) -> None:
    """drain_timeout passes during a save: streams end UNAVAILABLE, the server is gone, and the daemon completes the save."""
    with qemu_host(daemon, drain_timeout=0) as host, host.guest(memory_mib=256, fill_mib=128) as guest:
        guest.wait_for("FILLED")
        async with host.server.channel() as channel, host.server.client() as client:
            async with save_held_midway(client, guest.name) as save:
                # The same job again, by its request_id: now with a caller whose leaving would cancel it.
                again = job_options(on_disconnect="cancel", request_id=(await client.get_job(job_id=save.job_id)).request_id)
                stream = channel.job.ManagedSaveDomain(j.ManagedSaveDomainRequest(domain=t.DomainRef(name=guest.name), options=again))
                assert (await anext(aiter(stream))).job.job_id == save.job_id
                stopping = asyncio.create_task(asyncio.to_thread(host.server.stop))
                with pytest.raises(grpc.aio.AioRpcError) as ended:
                    async for _ in stream:
                        pass
                assert ended.value.code() == grpc.StatusCode.UNAVAILABLE
                assert await asyncio.wait_for(stopping, GUARD) == 0
            await eventually(lambda: guest.state == libvirt.VIR_DOMAIN_SHUTOFF, "the daemon to end the save")
        assert guest.domain.hasManagedSaveImage()


async def _end(handle: AsyncJobHandle) -> t.Job:
    *_, job = [job async for job in handle]
    return job
