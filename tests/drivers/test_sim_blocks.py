"""Block jobs of the simulated hypervisor: they go on without the call, are steered, aborted, lost and found again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.drivers.bed import Bed, SimInProcess, call_of
from virtrpc_drivers import operations as ops
from virtrpc_drivers.errors import DriverError, Reason
from virtrpc_drivers.protocol import Call, HostUp, Report
from virtrpc_drivers.sim.driver import SimDriver
from virtrpc_drivers.sim.faults import Rule
from virtrpc_drivers.values import Outcome, Phase, Steering

ROOT = "/images"
CHAIN = (
    "<backingStore type='file'><source file='/images/middle'/><backingStore type='file'><source file='/images/base'/></backingStore></backingStore>"
)
COPY = "<disk type='file'><source file='/images/copy'/></disk>"


class Chained(SimInProcess):
    """Domains whose disk has two backing files."""

    @property
    def uri(self) -> str:
        return "sim:///?block_seconds=0.2&progress_seconds=0.01"

    def xml(self, name: str, uuid: str, **_: object) -> str:
        return super().xml(name, uuid).replace("<target dev='vda'", f"{CHAIN}<target dev='vda'")


@pytest.fixture
async def bed() -> AsyncIterator[Bed]:
    """Such a host, with files below /images."""
    bed = await Bed.open(Chained(), path_roots=(ROOT,))
    yield bed
    await bed.close()


def sim(bed: Bed) -> SimDriver:
    """Its driver."""
    assert isinstance(bed.driver, SimDriver)
    return bed.driver


async def begun(bed: Bed, operation: ops.AnyBlocks, phase: Phase = Phase.BACKGROUND) -> tuple[Call, asyncio.Task[Outcome]]:
    """A block job that has come to a phase."""
    call = call_of(operation)
    running = asyncio.create_task(bed.driver.run(call))
    await bed.notices.until(Report, lambda report: (report.call_id, report.phase) == (call.id, phase))
    return call, running


async def images(bed: Bed, uuid: str) -> list[str]:
    """The files that the disk's XML names."""
    xml = (await bed.config(uuid)).config.xml
    return [part.split("'")[0] for part in xml.replace('"', "'").split("file='")[1:]]


async def test_pull(bed: Bed) -> None:
    """A pull drops the backing files; with a base, those above it only; progress in bytes comes to its end."""
    uuid, other = await bed.started(), await bed.started()
    await bed.run(ops.PullBlock(uuid=uuid, disk="vda"))
    assert await images(bed, uuid) == ["/nowhere/a.img"]
    last = bed.notices.since(0, Report)[-1]
    assert last.processed_bytes == last.total_bytes == 1 << 30
    await bed.run(ops.PullBlock(uuid=other, disk="vda", base="/images/base"))
    assert await images(bed, other) == ["/nowhere/a.img", "/images/base"]


async def test_commit(bed: Bed) -> None:
    """The active layer is committed down to the base and the guest goes on there; an inner layer is dropped under it."""
    uuid, other = await bed.started(), await bed.started()
    outcome = await bed.run(ops.CommitBlock(uuid=uuid, disk="vda", base="/images/middle"))
    assert (outcome.path, outcome.finish) == ("/images/middle", "pivot")
    assert await images(bed, uuid) == ["/images/middle", "/images/base"]
    await bed.run(ops.CommitBlock(uuid=other, disk="vda", base="/images/base", top="/images/middle"))
    assert await images(bed, other) == ["/nowhere/a.img", "/images/base"]


@pytest.mark.parametrize(("how", "file"), [("pivot", "/images/copy"), ("stop", "/nowhere/a.img")])
async def test_copy_is_finished(bed: Bed, how: str, file: str) -> None:
    """A mirror that is ready waits, and is finished by a pivot or broken off; before that it is not ready."""
    uuid = await bed.started()
    call, running = await begun(bed, ops.CopyBlock(uuid=uuid, disk="vda", xml=COPY))
    assert not (await bed.driver.steer(call.id, Steering(finish=how))).sent
    await bed.notices.until(Report, lambda report: report.phase is Phase.READY)
    assert (await bed.driver.steer(call.id, Steering(finish=how))).sent
    outcome = await running
    assert (outcome.finish, outcome.path) == (how, file)
    assert (await images(bed, uuid))[0] == file


async def test_speed_and_abort(bed: Bed) -> None:
    """A copy that is slowed down does not get on, others run on its domain, and an abort ends it and leaves the disk as it was."""
    uuid = await bed.started()
    call, running = await begun(bed, ops.CopyBlock(uuid=uuid, disk="vda", xml=COPY, bandwidth_bytes_per_second=1))
    await bed.run(ops.SetMemory(uuid=uuid, memory_bytes=100 << 20))
    assert (await bed.driver.steer(call.id, Steering(bandwidth_bytes_per_second=2))).sent
    await bed.notices.until(Report, lambda report: report.rate_bytes_per_second == 2)
    assert (await bed.driver.cancel(call.id)).sent
    with pytest.raises(DriverError) as caught:
        await running
    assert caught.value.reason is Reason.ABORTED
    assert (await images(bed, uuid))[0] == "/nowhere/a.img"
    await bed.run(ops.PullBlock(uuid=uuid, disk="vda"))


async def test_refusals(bed: Bed) -> None:
    """No such disk, no such image, a path outside the roots, a domain that is off, and a disk that has a block job."""
    off, uuid = await bed.defined(), await bed.started()
    assert await bed.refused(ops.PullBlock(uuid=uuid, disk="vdz")) is Reason.DEVICE_NOT_FOUND
    assert await bed.refused(ops.PullBlock(uuid=uuid, disk="vda", base="/images/none")) is Reason.INVALID_ARGUMENT
    assert await bed.refused(ops.CopyBlock(uuid=uuid, disk="vda", xml=COPY.replace("/images/", "/etc/"))) is Reason.PATH_NOT_ALLOWED
    assert await bed.refused(ops.CommitBlock(uuid=off, disk="vda")) is Reason.WRONG_STATE
    _, running = await begun(bed, ops.CopyBlock(uuid=uuid, disk="vda", xml=COPY))
    assert await bed.refused(ops.PullBlock(uuid=uuid, disk="vda")) is Reason.FOREIGN_JOB
    running.cancel()


async def test_guest_that_ends(bed: Bed) -> None:
    """A guest that is destroyed takes its block job with it, which says so."""
    uuid = await bed.started()
    _, running = await begun(bed, ops.CopyBlock(uuid=uuid, disk="vda", xml=COPY))
    await bed.run(ops.Destroy(uuid=uuid))
    with pytest.raises(DriverError) as caught:
        await running
    assert caught.value.reason is Reason.FAILED


async def test_injected_failure(bed: Bed) -> None:
    """A block job fails on its way where a rule says so, and the disk is free for the next one."""
    uuid = await bed.started()
    sim(bed).hypervisor.faults.add(Rule(verb="PullBlock", step=2, reason=Reason.FAILED, message="no space left", times=1))
    assert await bed.refused(ops.PullBlock(uuid=uuid, disk="vda")) is Reason.FAILED
    await bed.run(ops.PullBlock(uuid=uuid, disk="vda"))


@pytest.mark.parametrize("remembers", ["true", "false"])
async def test_adopted_after_the_driver_is_lost(remembers: str) -> None:
    """A block job outlives its driver process: it is followed again, can be finished, and its chain proves one that ended unseen."""

    class Forgetful(Chained):
        @property
        def uri(self) -> str:
            return f"{super().uri}&remembers={remembers}&reconnect_seconds=0"

    bed = await Bed.open(Forgetful(), path_roots=(ROOT,))
    uuid = await bed.started()
    call, running = await begun(bed, ops.CopyBlock(uuid=uuid, disk="vda", xml=COPY), Phase.READY)
    lost = len(bed.notices.seen)
    sim(bed).lose()
    with pytest.raises(DriverError) as caught:
        await running
    assert caught.value.reason is Reason.DRIVER_LOST
    await bed.notices.until(HostUp, since=lost)
    resumed = asyncio.create_task(bed.driver.resume(call))
    await asyncio.sleep(0)
    assert (await bed.driver.steer(call.id, Steering(finish="pivot"))).sent
    await resumed
    again = await bed.driver.resume(call)
    assert (again.path, again.finish) in ((resumed.result().path, resumed.result().finish), (None, None))
    await bed.close()
