"""Guests whose QEMU is stopped (SIGSTOP), one in the middle of a change and five while idle: they hold up nothing but themselves."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack

import pytest

from tests.e2e.behaviour import ask_everything, job_in, last, sampled, stopped, stuck_change
from tests.e2e.server import QemuHost, eventually
from tests.faults.bed import PATIENT, sampled_anew, stale, suspended_and_resumed, virsh
from virtrpc import AsyncClient
from virtrpc.v1 import job_pb2 as j
from virtrpc.v1 import types_pb2 as t

pytestmark = [pytest.mark.hypervisor, pytest.mark.faults]

VIRSH_SECONDS = 5.0


async def test_one_in_the_middle_of_a_change(host: QemuHost, client: AsyncClient) -> None:
    """Queries, other guests' jobs and sampling go on; the change is given up; a job behind it is told of the ghost, and runs when the guest wakes."""
    with host.guest(disk_mib=16, ready=False) as guest, host.guest(disk_mib=16, ready=False) as other:
        await sampled(client, guest.name, other.name)
        with stopped(host.daemon.qemu_pid(guest.name)):
            change = await stuck_change(client, guest)
            async with host.server.client() as onlooker:
                await asyncio.gather(*(ask_everything(onlooker, name, change.job_id) for name in (guest.name, other.name)))
                await stale(onlooker, guest.name)
                await sampled_anew(onlooker, other.name)
                await suspended_and_resumed(onlooker, other.name)
            behind = await client.suspend_domain(guest.name, options=PATIENT)
            answer = await change.cancel()
            assert (answer.outcome, answer.job.state) == (j.CANCEL_OUTCOME_NOT_ABORTABLE, t.JOB_STATE_RUNNING)
            given_up = await last(client, change.job_id)
            assert (given_up.state, given_up.may_still_apply) == (t.JOB_STATE_OUTCOME_UNKNOWN, True)

            async def is_told() -> bool:
                (holder,) = (await job_in(client, behind.job_id, t.JOB_STATE_QUEUED)).holders
                assert holder.job_id == change.job_id
                return holder.ghost

            await eventually(is_told, "the job behind to be told that a ghost is in its way")
        assert (await last(client, behind.job_id)).state == t.JOB_STATE_SUCCEEDED
        # Re-admitted: it is sampled as before.
        await sampled_anew(client, guest.name)


async def test_five_while_idle(host: QemuHost, client: AsyncClient) -> None:
    """A bulk call that waits for no job hangs in them all the same: virsh shows it, while our queries, sampling and jobs go on."""
    with ExitStack() as guests:
        names = [guests.enter_context(host.guest(disk_mib=16, ready=False)).name for _ in range(7)]
        idle, healthy = names[:5], names[5:]
        await sampled(client, *names)
        with ExitStack() as stops:
            for name in idle:
                stops.enter_context(stopped(host.daemon.qemu_pid(name)))
            async with virsh(host.daemon, "domstats", "--nowait") as domstats, virsh(host.daemon, "dommemstat", idle[0]) as dommemstat:
                await stale(client, *idle)
                for name in names:
                    assert (await client.get_domain(name)).state_observation.freshness == t.FRESHNESS_LIVE
                await sampled_anew(client, *healthy)
                await suspended_and_resumed(client, *healthy)
                for process in (domstats, dommemstat):
                    with pytest.raises(TimeoutError):
                        await asyncio.wait_for(process.wait(), VIRSH_SECONDS)
        await sampled_anew(client, *names)
