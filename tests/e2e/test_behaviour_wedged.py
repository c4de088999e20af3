"""A guest whose QEMU process is stopped (SIGSTOP) wedges the calls that were sent to it, and nothing else."""

from __future__ import annotations

from contextlib import ExitStack

import libvirt
import pytest

from tests.e2e.behaviour import (
    DETACHED,
    ask_everything,
    embed_host,
    job_in,
    last,
    let_go_on,
    sampled,
    stopped,
    stuck_change,
    when,
)
from tests.e2e.server import QemuHost, eventually
from virtrpc import AsyncClient, Preempted
from virtrpc.v1 import job_pb2 as j
from virtrpc.v1 import types_pb2 as t

pytestmark = pytest.mark.hypervisor


async def test_every_query_answers_while_the_wedged_call_is_out(qemu_host: QemuHost, client: AsyncClient) -> None:
    """All eight queries answer while a change hangs in the stopped guest; its statistics keep their time and become STALE, another's go on."""
    with qemu_host.guest(disk_mib=16, ready=False) as guest, qemu_host.guest(ready=False) as other:
        await sampled(client, guest.name)
        with stopped(qemu_host.daemon.qemu_pid(guest.name)):
            handle = await stuck_change(client, guest)
            first = await ask_everything(client, guest.name, handle.job_id)
            assert first.domain.state == t.DOMAIN_STATE_RUNNING
            assert [domain.uuid for domain in first.domains] == [guest.uuid]
            assert f"<name>{guest.name}</name>" in first.xml.xml
            assert [device.device for device in first.block.stats.devices] == ["vda"]
            assert first.memory.stats.HasField("rss_bytes")
            assert first.job.state == t.JOB_STATE_RUNNING
            assert first.jobs == [first.job]

            async def stale() -> bool:
                now = (await ask_everything(client, guest.name, handle.job_id)).observations
                return all(observation.freshness == t.FRESHNESS_STALE for observation in now)

            await eventually(stale, "the wedged guest's statistics to be STALE")
            await sampled(client, other.name)
            late = await ask_everything(client, guest.name, handle.job_id)
            fresh = (await client.get_memory_stats(other.name)).stats.observation
            assert all(when(observation) < when(fresh) for observation in late.observations)
            assert [when(observation) for observation in late.observations] == [when(observation) for observation in first.observations]
            # What was asked above came back although this call has not.
            assert late.job.state == t.JOB_STATE_RUNNING
        assert (await last(client, handle.job_id)).state == t.JOB_STATE_SUCCEEDED
        await sampled(client, guest.name)


async def test_on_embed_too_every_query_answers() -> None:
    """In the embedded driver, whose QEMU code shares a process with its readers, a wedged guest stops no query and is ended by a destroy."""
    with embed_host() as bed:
        async with bed.server.client() as client, bed.guest(client) as guest, bed.guest(client) as other:
            await sampled(client, guest)
            with stopped(bed.qemu_pid(guest)):
                handle = await client.set_memory(guest, memory_bytes=96 << 20, scope=t.CHANGE_SCOPE_LIVE, options=DETACHED)
                await job_in(client, handle.job_id, t.JOB_STATE_RUNNING)

                async def stale() -> bool:
                    now = (await ask_everything(client, guest, handle.job_id)).observations
                    return all(observation.freshness == t.FRESHNESS_STALE for observation in now)

                await eventually(stale, "the wedged guest's statistics to be STALE")
                await sampled(client, other)
                await (await client.suspend_domain(other)).wait()
                assert (await client.get_job(job_id=handle.job_id)).state == t.JOB_STATE_RUNNING
                await (await client.destroy_domain(guest)).wait()
            assert not (await client.get_domain(guest)).active
            ended = await last(client, handle.job_id)
            assert ended.state == t.JOB_STATE_PREEMPTED, ended
            assert len(bed.root.qemu_pids()) == 1


async def test_a_change_that_cannot_be_cancelled_says_so(qemu_host: QemuHost, client: AsyncClient) -> None:
    """A cancel of a change that hangs in the monitor is answered while it hangs: it cannot be aborted, and what is queued behind it can."""
    with qemu_host.guest(ready=False) as guest:
        with stopped(qemu_host.daemon.qemu_pid(guest.name)):
            handle = await stuck_change(client, guest)
            running = await client.get_job(job_id=handle.job_id)
            assert not running.abortable
            assert "DestroyDomain" in running.abort_reason
            behind = await client.suspend_domain(guest.name, options=DETACHED)
            assert [holder.job_id for holder in (await job_in(client, behind.job_id, t.JOB_STATE_QUEUED)).holders] == [handle.job_id]
            answer = await handle.cancel()
            assert answer.outcome == j.CANCEL_OUTCOME_NOT_ABORTABLE
            assert "DestroyDomain" in answer.message
            assert answer.job.cancel_requested
            assert answer.job.state == t.JOB_STATE_RUNNING
            assert (await behind.cancel()).outcome == j.CANCEL_OUTCOME_WITHDRAWN
            assert (await last(client, behind.job_id)).state == t.JOB_STATE_CANCELLED
        # The guest woke up before the call was given up: then it did what it was asked for.
        assert (await last(client, handle.job_id)).state == t.JOB_STATE_SUCCEEDED
        assert guest.state == libvirt.VIR_DOMAIN_RUNNING


async def test_a_cancelled_call_that_stays_out_is_given_up(qemu_host: QemuHost, client: AsyncClient) -> None:
    """A cancelled save of a stopped guest ends OUTCOME_UNKNOWN and keeps the domain as a ghost that waiters are told of, until the guest wakes."""
    with qemu_host.guest(ready=False) as guest:
        with stopped(qemu_host.daemon.qemu_pid(guest.name)):
            handle = await client.managed_save_domain(guest.name, options=DETACHED)
            await job_in(client, handle.job_id, t.JOB_STATE_RUNNING)
            await handle.cancel()
            given_up = await last(client, handle.job_id)
            assert given_up.state == t.JOB_STATE_OUTCOME_UNKNOWN
            assert given_up.may_still_apply
            behind = await client.suspend_domain(guest.name, options=DETACHED)
            (holder,) = (await job_in(client, behind.job_id, t.JOB_STATE_QUEUED)).holders
            assert holder.job_id == handle.job_id
            assert holder.ghost
        finished = await last(client, behind.job_id)
        # The save may still have happened: then there was nothing left to suspend.
        assert finished.state == (t.JOB_STATE_SUCCEEDED if guest.domain.isActive() else t.JOB_STATE_FAILED)


async def test_destroy_ends_the_guest(qemu_host: QemuHost, client: AsyncClient) -> None:
    """DestroyDomain passes the wedged call and what is queued behind it, and ends the guest; both end PREEMPTED."""
    with qemu_host.guest(ready=False) as guest, stopped(qemu_host.daemon.qemu_pid(guest.name)):
        handle = await stuck_change(client, guest)
        behind = await client.suspend_domain(guest.name, options=DETACHED)
        destroy = await client.destroy_domain(guest.name, options=DETACHED)
        # Told while the destroy and the wedged call are out.
        assert (await last(client, behind.job_id)).state == t.JOB_STATE_PREEMPTED
        assert (await destroy.wait()).state == t.JOB_STATE_SUCCEEDED
        with pytest.raises(Preempted) as preempted:
            await handle.wait()
        assert preempted.value.metadata["job_id"] == destroy.job_id
        assert not guest.domain.isActive()
        assert (await client.get_domain(guest.name)).state == t.DOMAIN_STATE_SHUTOFF


async def test_another_guests_jobs_run(qemu_host: QemuHost, client: AsyncClient) -> None:
    """While one guest's call hangs, another guest is suspended, resumed and destroyed, and queries of it are LIVE."""
    with qemu_host.guest(ready=False) as guest, qemu_host.guest(ready=False) as other:
        with stopped(qemu_host.daemon.qemu_pid(guest.name)):
            handle = await stuck_change(client, guest)
            await (await client.suspend_domain(other.name)).wait()
            assert (await client.get_domain(other.name)).state_observation.freshness == t.FRESHNESS_LIVE
            await (await client.resume_domain(other.name)).wait()
            await (await client.destroy_domain(other.name)).wait()
            assert not other.domain.isActive()
            assert (await client.get_job(job_id=handle.job_id)).state == t.JOB_STATE_RUNNING
        await last(client, handle.job_id)


async def test_stuck_calls_that_fill_the_daemon_are_named(qemu_host: QemuHost, client: AsyncClient) -> None:
    """With a stuck call in every place of the daemon's budget a healthy guest's job queues for DAEMON_BUDGET and names them; its queries go on."""
    budget = (await client.get_host(host=qemu_host.name)).budget
    with ExitStack() as stack:
        stuck = [stack.enter_context(qemu_host.guest(ready=False)) for _ in range(budget.places)]
        other = stack.enter_context(qemu_host.guest(ready=False))
        pids = [qemu_host.daemon.qemu_pid(guest.name) for guest in stuck]
        for pid in pids:
            stack.enter_context(stopped(pid))
        handles = [await stuck_change(client, guest) for guest in stuck]
        waiting = await client.suspend_domain(other.name, options=DETACHED)
        job = await job_in(client, waiting.job_id, t.JOB_STATE_QUEUED)
        assert job.waiting_for == t.JOB_WAITING_FOR_DAEMON_BUDGET
        assert {holder.job_id for holder in job.holders} == {handle.job_id for handle in handles}
        before = when((await client.get_memory_stats(other.name)).stats.observation)

        async def sampled_since() -> bool:
            now = (await client.get_memory_stats(other.name)).stats.observation
            return now.freshness == t.FRESHNESS_LIVE and when(now) > before

        await eventually(sampled_since, "the healthy guest to be sampled while the budget is full")
        assert (await client.get_job(job_id=waiting.job_id)).state == t.JOB_STATE_QUEUED
        let_go_on(pids[0])
        assert (await last(client, waiting.job_id)).state == t.JOB_STATE_SUCCEEDED
        assert other.state == libvirt.VIR_DOMAIN_PAUSED
        for pid, handle in zip(pids, handles, strict=True):
            let_go_on(pid)
            assert (await last(client, handle.job_id)).state == t.JOB_STATE_SUCCEEDED


async def test_a_guest_wedged_while_idle_leaves_the_others_sampled(qemu_host: QemuHost, client: AsyncClient) -> None:
    """No call was out when the guest was stopped: the call for statistics that hangs in it is left behind, and the others' are LIVE again."""
    with qemu_host.guest(ready=False) as guest, qemu_host.guest(ready=False) as other:
        await sampled(client, guest.name, other.name)
        with stopped(qemu_host.daemon.qemu_pid(guest.name)):
            # The sweep hangs in this guest's monitor now.
            await eventually(lambda: guest.domain.controlInfo(0)[0] == libvirt.VIR_DOMAIN_CONTROL_OCCUPIED, "a sweep to hang")
            before = when((await client.get_memory_stats(other.name)).stats.observation)

            async def sampled_since() -> bool:
                now = (await client.get_memory_stats(other.name)).stats.observation
                return now.freshness == t.FRESHNESS_LIVE and when(now) > before

            await eventually(sampled_since, "the healthy guest to be sampled again")

            async def stale() -> bool:
                return (await client.get_memory_stats(guest.name)).stats.observation.freshness == t.FRESHNESS_STALE

            await eventually(stale, "the wedged guest's statistics to be STALE")
            await (await client.suspend_domain(other.name)).wait()
        await sampled(client, guest.name)
