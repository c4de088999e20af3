"""What a crash of the process that carries embedded guests does to them: docs/drivers.md says what these tests hold."""

import asyncio
import re
import signal
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.drivers.bed import GUARD, Bed, Embed, call_of
from virtrpc_drivers import operations as ops
from virtrpc_drivers.errors import DriverError, Reason
from virtrpc_drivers.protocol import HostDown, HostUp, Report
from virtrpc_drivers.proxy import ProcessDriver
from virtrpc_drivers.values import Outcome, State, Steering

pytestmark = pytest.mark.hypervisor

SLOW = 1 << 16
"""Bytes a second at which a block job here is not over before it is made faster."""


@pytest_asyncio.fixture
async def bed() -> AsyncIterator[Bed]:
    """An embedded driver in a process of its own."""
    made = await Bed.open(Embed())
    yield made
    await made.clean()
    await made.close()


async def crash(bed: Bed) -> None:
    """Kill the driver process and wait until another one is connected."""
    assert isinstance(bed.driver, ProcessDriver)
    mark = len(bed.notices.seen)
    bed.driver.kill(signal.SIGKILL)
    down = await bed.notices.until(HostDown, since=mark)
    await bed.notices.until(HostUp, since=bed.notices.seen.index(down))


def guests(bed: Bed) -> list[int]:
    assert isinstance(bed.kind, Embed)
    return bed.kind.root.qemu_pids()


async def test_a_running_guest_survives(bed: Bed) -> None:
    """The same QEMU process runs on and the next driver process adopts it."""
    uuid = await bed.booted()
    before = guests(bed)
    await crash(bed)
    state = await bed.state(uuid)
    assert (state.state, guests(bed)) == (State.RUNNING, before)
    await bed.run(ops.Suspend(uuid=uuid))


async def test_a_save_is_called_off(bed: Bed) -> None:
    """The guest runs on, the image is a partial one, and the call is INTERRUPTED; another save then succeeds."""
    uuid = await bed.started(fill_mib=400)
    await bed.kind.filled((await bed.config(uuid)).name)
    call = call_of(ops.ManagedSave(uuid=uuid))
    saving = asyncio.ensure_future(bed.driver.run(call))
    await bed.notices.until(Report, lambda report: report.call_id == call.id and bool(report.abortable))
    await crash(bed)
    assert isinstance(await _error(saving), DriverError)
    with pytest.raises(DriverError) as caught:
        async with asyncio.timeout(GUARD):
            await bed.driver.resume(call)
    assert caught.value.reason is Reason.INTERRUPTED
    assert "incomplete saved image" in caught.value.fault.message
    assert (await bed.state(uuid)).state is State.RUNNING
    await bed.run(ops.ManagedSave(uuid=uuid))
    assert (await bed.state(uuid)).reason == "saved"


async def test_a_finished_save_is_proven(bed: Bed) -> None:
    """After the crash nobody knows any more why the guest is off: the complete image proves the save, a truncated one would not."""
    uuid = await bed.started()
    call = call_of(ops.ManagedSave(uuid=uuid))
    await bed.driver.run(call)
    await crash(bed)
    assert (await bed.state(uuid)).reason == "unknown"
    await bed.driver.resume(call)
    assert isinstance(bed.kind, Embed)
    (image,) = Path(bed.kind.root.path).glob("lib/qemu/save/*.save")
    image.write_bytes(b"LibvirtQemudPart" + image.read_bytes()[16:])
    with pytest.raises(DriverError) as caught:
        await bed.driver.resume(call)
    assert caught.value.reason is Reason.INTERRUPTED


async def test_a_commit_that_libvirt_lost_sight_of_comes_to_its_end(bed: Bed) -> None:
    """Where libvirt ended before it wrote down what is mirrored to, the next one knows the job and not its mirror: it is pivoted all the same."""
    uuid, name, xml = bed.new()
    assert isinstance(bed.kind, Embed)
    base, overlay = (bed.kind.root.path / f"{name}.{ending}" for ending in ("qcow2", "overlay"))
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", base, "-F", "qcow2", overlay], check=True)
    subprocess.run(["qemu-io", "-c", "write -P 1 0 4M", overlay], check=True, capture_output=True)
    await bed.run(ops.Define(uuid=uuid, name=name, xml=xml.replace(str(base), str(overlay))))
    await bed.run(ops.Start(uuid=uuid, paused=True))
    call = call_of(ops.CommitBlock(uuid=uuid, disk="vda", bandwidth_bytes_per_second=SLOW))
    committing = asyncio.ensure_future(bed.driver.run(call))
    await bed.notices.until(Report, lambda report: report.call_id == call.id)
    status = bed.kind.root.path / f"run/qemu/{name}.xml"
    with_mirror = status.read_text()
    without = re.sub("<mirror .*?</mirror>", "", with_mirror, flags=re.DOTALL)
    assert without != with_mirror
    status.write_text(without)
    await crash(bed)
    assert isinstance(await _error(committing), DriverError)
    mark = len(bed.notices.seen)
    resumed = asyncio.ensure_future(bed.driver.resume(call))
    await bed.notices.until(Report, lambda report: report.call_id == call.id, since=mark)
    assert (await bed.driver.steer(call.id, Steering(bandwidth_bytes_per_second=1 << 30))).sent
    async with asyncio.timeout(GUARD):
        outcome = await resumed
    assert (outcome.path, outcome.finish) == (str(base), "pivot")


async def _error(future: asyncio.Future[Outcome]) -> BaseException | None:
    await asyncio.wait({future})
    return future.exception()
