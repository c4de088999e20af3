"""kill -9 of libvirtd, whose guests live on, with the server running or killed as well while it is down."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import libvirt
import pytest

from tests.e2e.behaviour import DETACHED, has_progress, last
from tests.e2e.server import eventually
from tests.restart.qemu_bed import FIRST, Bed
from tests.restart.qemu_work import Copy, Save, Work
from virtrpc import AsyncClient, AsyncJobHandle
from virtrpc.v1 import types_pb2 as t

pytestmark = [pytest.mark.restart, pytest.mark.hypervisor]

whether_killed_too = pytest.mark.parametrize("killed_too", [False, True], ids=["server-lives", "server-killed-too"])


@asynccontextmanager
async def daemon_lost(bed: Bed, client: AsyncClient, work: Work, killed_too: bool) -> AsyncIterator[AsyncJobHandle]:
    """The job of an operation whose daemon was killed in its middle; on entering that is there again, and so is the host."""
    holding = asyncio.create_task(asyncio.to_thread(work.hold, 0.3))
    handle = await work.begin(client, DETACHED)
    await holding
    await eventually(lambda: has_progress(client, handle.job_id), "progress")
    await asyncio.to_thread(bed.first.daemon.kill)
    if killed_too:
        await asyncio.to_thread(bed.server.crash)
    await eventually(lambda: _is_lost(client), "the host to be lost")
    assert (await client.get_job(job_id=handle.job_id)).state == t.JOB_STATE_RUNNING
    await asyncio.to_thread(bed.first.daemon.start)
    bed.reconnect()
    await asyncio.to_thread(bed.server.wait_live)
    yield handle


async def _is_lost(client: AsyncClient) -> bool:
    return not (await client.get_host(host=FIRST)).reachable


@whether_killed_too
async def test_a_copy_outlives_its_daemon(qemu_bed: Bed, killed_too: bool) -> None:
    """QEMU goes on with it, the next daemon knows of it, and the same job follows it to its success."""
    work = Copy(qemu_bed)
    async with qemu_bed.server.client() as client:
        async with daemon_lost(qemu_bed, client, work, killed_too) as handle:
            seen = (await client.get_job(job_id=handle.job_id)).progress.observed_time.ToNanoseconds()

            async def goes_on() -> bool:
                job = await client.get_job(job_id=handle.job_id)
                assert job.state == t.JOB_STATE_RUNNING, job
                return job.abortable and job.progress.observed_time.ToNanoseconds() > seen

            await eventually(goes_on, "the copy to be followed")
        work.let_go()
        assert (await last(client, handle.job_id)).state == t.JOB_STATE_SUCCEEDED
        assert work.done()
        await work.reset(client)
    qemu_bed.rest()


@whether_killed_too
async def test_a_save_does_not_outlive_its_daemon(qemu_bed: Bed, killed_too: bool) -> None:
    """The next daemon calls it off: INTERRUPTED, with what was seen; the guest runs on, and the half image stays where it is."""
    work = Save(qemu_bed)
    async with qemu_bed.server.client() as client:
        async with daemon_lost(qemu_bed, client, work, killed_too) as handle:
            work.let_go()
        job = await last(client, handle.job_id)
        assert job.state == t.JOB_STATE_INTERRUPTED
        assert "the domain is running (save_canceled), with an incomplete saved image" in job.evidence
        assert [qemu_bed.keeper.state, qemu_bed.keeper.domain.hasManagedSaveImage()] == [libvirt.VIR_DOMAIN_RUNNING, 1]
        qemu_bed.keeper.domain.managedSaveRemove()
    qemu_bed.rest()
