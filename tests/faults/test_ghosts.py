"""A guest that is wedged before, while or after its driver process is killed: its call is not lost sight of, and its domain not given away."""

from __future__ import annotations

import os
import signal

import libvirt
import pytest

from tests.e2e.behaviour import DETACHED, MIB, embed_host, job_in, last, let_go_on, sampled, save_held_midway, stopped, stuck_change
from tests.e2e.server import Guest, QemuHost, ended, eventually
from tests.faults.bed import PATIENT, sampled_anew, stale, suspended_and_resumed
from virtrpc import AsyncClient
from virtrpc.v1 import types_pb2 as t

pytestmark = [pytest.mark.hypervisor, pytest.mark.faults]

LESS = 96 * MIB


async def kill_driver(client: AsyncClient, host: str) -> None:
    """Kill a host's driver process, without waiting for the next one."""
    os.kill((await client.get_host(host=host)).driver_process.pid, signal.SIGKILL)


async def driver_back(client: AsyncClient, host: str, restarts: int) -> None:
    """Return once the host is LIVE with its next driver process."""

    async def back() -> bool:
        now = await client.get_host(host=host)
        return now.state == t.FRESHNESS_LIVE and now.driver_process.restarts > restarts

    await eventually(back, f"host {host} to be back")


async def restarts(client: AsyncClient, host: str) -> int:
    """How often its driver process was started anew."""
    return (await client.get_host(host=host)).driver_process.restarts


async def assert_haunted(client: AsyncClient, guest: str, ghost: str) -> str:
    """The job ended OUTCOME_UNKNOWN and may still apply, and keeps the domain: the id of a job that waits for it now."""
    job = await last(client, ghost)
    assert (job.state, job.may_still_apply) == (t.JOB_STATE_OUTCOME_UNKNOWN, True)
    behind = await client.suspend_domain(guest, options=PATIENT)
    (holder,) = (await job_in(client, behind.job_id, t.JOB_STATE_QUEUED)).holders
    assert (holder.job_id, holder.ghost) == (ghost, True)
    return behind.job_id


async def test_wedged_while_idle_before(client: AsyncClient, host: QemuHost) -> None:
    """The next process finds a wedged guest: it is up all the same, others are sampled, and a change of the wedged one is known to be stuck."""
    with host.guest(disk_mib=16) as guest, host.guest(disk_mib=16, ready=False) as other:
        await sampled(client, guest.name, other.name)
        with stopped(host.daemon.qemu_pid(guest.name)):
            before = await restarts(client, host.name)
            await kill_driver(client, host.name)
            await driver_back(client, host.name, before)
            await sampled_anew(client, other.name)
            change = await stuck_change(client, guest)
            await stale(client, guest.name)
        assert (await last(client, change.job_id)).state == t.JOB_STATE_SUCCEEDED
        await sampled_anew(client, guest.name)


async def test_the_call_that_was_out_does_apply(client: AsyncClient, host: QemuHost) -> None:
    """We say that a change may still apply after its process was killed, and it does; the next job runs after it, and not before."""
    with host.guest(memory_mib=128) as guest:
        with stopped(host.daemon.qemu_pid(guest.name)):
            change = await stuck_change(client, guest)
            await kill_driver(client, host.name)
            behind = await assert_haunted(client, guest.name, change.job_id)
            # Nor is it forgotten by another process.
            before = await restarts(client, host.name)
            await kill_driver(client, host.name)
            await driver_back(client, host.name, before)
            (holder,) = (await job_in(client, behind, t.JOB_STATE_QUEUED)).holders
            assert holder.ghost
        assert (await last(client, behind)).state == t.JOB_STATE_SUCCEEDED
        assert guest.state == libvirt.VIR_DOMAIN_PAUSED
        await ended(client.resume_domain(guest.name))
        await eventually(lambda: guest.domain.info()[2] * 1024 == LESS, "the guest to have given its memory up")


async def test_wedged_while_there_is_no_process(client: AsyncClient, host: QemuHost) -> None:
    """A save is out when the process dies, and its guest is wedged before the next one asks: nothing is claimed until the guest goes on."""
    with host.guest() as guest:
        pid = host.daemon.qemu_pid(guest.name)
        async with save_held_midway(client, guest.name) as save:
            await kill_driver(client, host.name)
            os.kill(pid, signal.SIGSTOP)
        try:
            behind = await assert_haunted(client, guest.name, save.job_id)
        finally:
            let_go_on(pid)
        await assert_saved(client, guest, behind)


async def test_wedged_after_the_next_process_took_over(client: AsyncClient, host: QemuHost) -> None:
    """A save that was followed by the next process hangs, and is cancelled in vain: a ghost, until the guest goes on."""
    with host.guest() as guest:
        pid = host.daemon.qemu_pid(guest.name)
        async with save_held_midway(client, guest.name) as save:
            before = await restarts(client, host.name)
            await kill_driver(client, host.name)
            await driver_back(client, host.name, before)
            await job_in(client, save.job_id, t.JOB_STATE_RUNNING)
            os.kill(pid, signal.SIGSTOP)
        try:
            await save.cancel()
            behind = await assert_haunted(client, guest.name, save.job_id)
        finally:
            let_go_on(pid)
        await assert_saved_or_not(client, guest, behind)


async def assert_saved(client: AsyncClient, guest: Guest, behind: str) -> None:
    """The save came to its end after all, and what waited behind it was judged by that."""
    assert (await last(client, behind)).error.reason == "WRONG_STATE"
    assert guest.domain.hasManagedSaveImage()
    assert (await client.get_domain(guest.name)).has_managed_save


async def assert_saved_or_not(client: AsyncClient, guest: Guest, behind: str) -> None:
    """The save, or the abort that followed it, came to its end, and what waited behind it was judged by that."""
    job = await last(client, behind)
    if guest.domain.isActive():
        assert (job.state, guest.state) == (t.JOB_STATE_SUCCEEDED, libvirt.VIR_DOMAIN_PAUSED)
    else:
        await assert_saved(client, guest, behind)


async def test_on_embed() -> None:
    """With `qemu:///embed` the call dies with its process, and may have reached the guest: that is said as well, and the guest is adopted, wedged."""
    with embed_host() as bed:
        async with bed.server.client() as client, bed.guest(client) as guest, bed.guest(client) as other:
            await sampled(client, guest, other)
            with stopped(bed.qemu_pid(guest)):
                change = await client.set_memory(guest, memory_bytes=LESS, scope=t.CHANGE_SCOPE_LIVE, options=DETACHED)

                async def has_arrived() -> bool:
                    return (await client.get_domain(guest)).control_state == t.CONTROL_STATE_OCCUPIED

                await eventually(has_arrived, "the change to reach the monitor")
                before = await restarts(client, "emb")
                await kill_driver(client, "emb")
                await driver_back(client, "emb", before)
                behind = await assert_haunted(client, guest, change.job_id)
                await sampled_anew(client, other)
                await suspended_and_resumed(client, other)
            assert (await last(client, behind)).state == t.JOB_STATE_SUCCEEDED
            await sampled_anew(client, guest)
