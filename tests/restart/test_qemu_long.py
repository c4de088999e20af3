"""What libvirt neither tells the progress of nor lets be aborted may take long after a kill: it is waited for, and no outcome is called unknown."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import libvirt
import pytest

from tests.beds.wait import wait_until
from tests.e2e.behaviour import DETACHED, let_go_on
from tests.e2e.server import Guest, ended, eventually
from tests.restart.qemu_bed import Bed
from tests.restart.qemu_work import InternalSnapshot
from virtrpc import AsyncClient, AsyncJobHandle
from virtrpc.v1 import types_pb2 as t

pytestmark = [pytest.mark.restart, pytest.mark.hypervisor]

LONG = 15_000
"""Milliseconds for which libvirt has had the domain in hand: far longer than the look after a restart waits for it to be free."""


@contextmanager
def held(bed: Bed, begun: Callable[[], object]) -> Iterator[None]:
    """The keeper's QEMU is stopped as soon as something has begun, and goes on afterwards."""
    wait_until(begun, "it to begin")
    pid = bed.first.daemon.qemu_pid(bed.keeper.name)
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        let_go_on(pid)


def in_hand(guest: Guest) -> int:
    """For how many milliseconds libvirt has been at a guest."""
    state, _, since = guest.domain.controlInfo(0)
    return int(since) if state != libvirt.VIR_DOMAIN_CONTROL_OK else 0


async def outlives_a_kill(bed: Bed, client: AsyncClient, handle: AsyncJobHandle) -> None:
    """The server is killed, and long after that the job still runs."""
    await asyncio.to_thread(bed.server.crash)
    await asyncio.to_thread(bed.server.wait_live)
    await eventually(lambda: in_hand(bed.keeper) >= LONG, "it to take long")
    assert (await client.get_job(job_id=handle.job_id)).state == t.JOB_STATE_RUNNING


async def test_a_snapshot_that_takes_long(qemu_bed: Bed) -> None:
    """An internal snapshot that is being taken when the server is killed succeeds, however long it takes."""
    work = InternalSnapshot(qemu_bed)
    async with qemu_bed.server.client() as client:
        handle = await work.begin(client, DETACHED)
        with held(qemu_bed, qemu_bed.keeper.domain.listAllSnapshots):
            await outlives_a_kill(qemu_bed, client, handle)
        await handle.wait()
        assert work.done()
        await work.reset(client)
    qemu_bed.rest()


async def test_a_start_from_a_saved_image_that_takes_long(qemu_bed: Bed) -> None:
    """A guest whose memory is being read when the server is killed is started all the same."""
    async with qemu_bed.server.client() as client:
        await ended(client.managed_save_domain(qemu_bed.keeper.name))
        handle = await client.start_domain(qemu_bed.keeper.name, options=DETACHED)
        with held(qemu_bed, qemu_bed.keeper.domain.isActive):
            await outlives_a_kill(qemu_bed, client, handle)
        await handle.wait()
        assert qemu_bed.keeper.domain.state() == [libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_RESTORED]
    qemu_bed.rest()
