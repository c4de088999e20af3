"""Backups of the simulated hypervisor: they go on without the call, are finished, aborted, lost and found again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.drivers.bed import Bed, SimInProcess, call_of
from virtrpc_drivers import operations as ops
from virtrpc_drivers.errors import DriverError, Reason
from virtrpc_drivers.protocol import Call, HostUp, Report
from virtrpc_drivers.sim.driver import SimDriver
from virtrpc_drivers.values import Outcome, Phase, Steering

PUSH = "<domainbackup mode='push'><disks><disk name='vda'><target file='/images/vda'/></disk></disks></domainbackup>"
PULL = (
    "<domainbackup mode='pull'><server transport='unix' socket='/images/nbd'/>"
    "<disks><disk name='vda'><scratch file='/images/scratch'/></disk></disks></domainbackup>"
)


class Quick(SimInProcess):
    """A host whose disks are copied in a moment, and that forgets calls which nobody waited for."""

    @property
    def uri(self) -> str:
        return "sim:///?block_seconds=0.2&progress_seconds=0.01&reconnect_seconds=0&remembers=false"


@pytest.fixture
async def bed() -> AsyncIterator[Bed]:
    """Such a host, with files below /images."""
    bed = await Bed.open(Quick(), path_roots=("/images",))
    yield bed
    await bed.close()


async def begun(bed: Bed, operation: ops.Backup, phase: Phase) -> tuple[Call, asyncio.Task[Outcome]]:
    """A backup that has come to a phase."""
    call = call_of(operation)
    running = asyncio.create_task(bed.driver.run(call))
    await bed.notices.until(Report, lambda report: (report.call_id, report.phase) == (call.id, phase))
    return call, running


async def test_push(bed: Bed) -> None:
    """A push says what goes where, reports bytes to their end, brings its checkpoint, and does not overwrite what is there."""
    uuid = await bed.started()
    outcome = await bed.run(ops.Backup(uuid=uuid, xml=PUSH, checkpoint="c", checkpoint_xml="<domaincheckpoint><name>c</name></domaincheckpoint>"))
    assert outcome.checkpoint is not None
    assert outcome.checkpoint.name == "c"
    last = bed.notices.since(0, Report)[-1]
    assert last.processed_bytes == last.total_bytes == 1 << 30
    assert last.backup is not None
    assert [(disk.device, disk.path) for disk in last.backup.disks] == [("vda", "/images/vda")]
    assert await bed.refused(ops.Backup(uuid=uuid, xml=PUSH)) is Reason.ALREADY_EXISTS
    since = PUSH.replace("<disks>", "<incremental>c</incremental><disks>")
    assert (await bed.run(ops.Backup(uuid=uuid, xml=since, reuse_external=True))).backup is not None


async def test_pull(bed: Bed) -> None:
    """A pull is ready until it is told that its data was fetched; others run on its domain meanwhile, but no second backup."""
    uuid = await bed.started()
    call, running = await begun(bed, ops.Backup(uuid=uuid, xml=PULL), Phase.READY)
    await bed.run(ops.SetMemory(uuid=uuid, memory_bytes=100 << 20))
    assert await bed.refused(ops.Backup(uuid=uuid, xml=PUSH)) is Reason.FOREIGN_JOB
    assert (await bed.driver.steer(call.id, Steering(finish="stop"))).sent
    outcome = await running
    assert outcome.backup is not None
    assert outcome.backup.server is not None
    assert outcome.backup.server.socket == "/images/nbd"
    await bed.run(ops.Backup(uuid=uuid, xml=PUSH))


async def test_abort_and_destroy(bed: Bed) -> None:
    """An abort ends it and leaves nothing of it; a guest that is destroyed takes it along."""
    uuid = await bed.started()
    call, running = await begun(bed, ops.Backup(uuid=uuid, xml=PUSH), Phase.BACKGROUND)
    assert (await bed.driver.cancel(call.id)).sent
    with pytest.raises(DriverError) as caught:
        await running
    assert caught.value.reason is Reason.ABORTED
    _, running = await begun(bed, ops.Backup(uuid=uuid, xml=PUSH), Phase.BACKGROUND)
    await bed.run(ops.Destroy(uuid=uuid))
    with pytest.raises(DriverError) as caught:
        await running
    assert caught.value.reason is Reason.FAILED


async def test_refusals(bed: Bed) -> None:
    """No such disk, no such checkpoint, a checkpoint that is there, a path outside the roots, and a domain that is off."""
    off, uuid = await bed.defined(), await bed.started()
    assert await bed.refused(ops.Backup(uuid=off, xml=PUSH)) is Reason.WRONG_STATE
    assert await bed.refused(ops.Backup(uuid=uuid, xml=PUSH.replace("'vda'", "'vdz'"))) is Reason.DEVICE_NOT_FOUND
    assert await bed.refused(ops.Backup(uuid=uuid, xml=PUSH.replace("/images/", "/etc/"))) is Reason.PATH_NOT_ALLOWED
    assert await bed.refused(ops.Backup(uuid=uuid, xml=PULL.replace("/images/nbd", "/etc/nbd"))) is Reason.PATH_NOT_ALLOWED
    since = PUSH.replace("<disks>", "<incremental>none</incremental><disks>")
    assert await bed.refused(ops.Backup(uuid=uuid, xml=since)) is Reason.CHECKPOINT_NOT_FOUND
    await bed.run(ops.CreateCheckpoint(uuid=uuid, name="c", xml="<domaincheckpoint/>"))
    assert await bed.refused(ops.Backup(uuid=uuid, xml=PUSH, checkpoint="c", checkpoint_xml="<domaincheckpoint/>")) is Reason.ALREADY_EXISTS


async def test_adopted_after_the_driver_is_lost(bed: Bed) -> None:
    """A backup outlives its driver process: it is followed again and can be finished; a push that ended unseen is proven, a pull is not."""
    driver, uuid = bed.driver, await bed.started()
    assert isinstance(driver, SimDriver)
    call, running = await begun(bed, ops.Backup(uuid=uuid, xml=PULL), Phase.READY)
    lost = len(bed.notices.seen)
    driver.lose()
    with pytest.raises(DriverError) as caught:
        await running
    assert caught.value.reason is Reason.DRIVER_LOST
    await bed.notices.until(HostUp, since=lost)
    resumed = asyncio.create_task(driver.resume(call))
    await asyncio.sleep(0)
    assert (await driver.steer(call.id, Steering(finish="stop"))).sent
    await resumed
    with pytest.raises(DriverError) as caught:
        await driver.resume(call)
    assert caught.value.reason is Reason.INTERRUPTED
    push = call_of(ops.Backup(uuid=uuid, xml=PUSH))
    await driver.run(push)
    assert (await driver.resume(push)).backup is not None
