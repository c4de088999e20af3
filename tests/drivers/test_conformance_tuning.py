"""What every driver does with threads, limits and what becomes of a domain, whatever is behind it: all of it is read back in the definition."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from tests.drivers.bed import Bed
from virtrpc_drivers import operations as ops
from virtrpc_drivers.errors import Reason

pytestmark = pytest.mark.asyncio(loop_scope="module")

MIB = 1 << 20
CONFIG = ops.Scope.CONFIG


async def _definition(bed: Bed, uuid: str) -> ElementTree.Element:
    return ElementTree.fromstring((await bed.config(uuid)).config.xml)


async def test_pins(bed: Bed) -> None:
    """A virtual CPU of a running domain and the emulator's threads keep to a processor; one that the host lacks is refused."""
    bed.need("PinVcpu", "PinEmulator")
    uuid = await bed.started()
    await bed.run(ops.PinVcpu(uuid=uuid, number=0, host_cpus=(0,)))
    await bed.run(ops.PinEmulator(uuid=uuid, host_cpus=(0,)))
    tune = (await _definition(bed, uuid)).find("cputune")
    assert tune is not None
    assert [(pin.tag, pin.get("cpuset")) for pin in tune] == [("vcpupin", "0"), ("emulatorpin", "0")]
    for wrong in (ops.PinVcpu(uuid=uuid, number=0, host_cpus=(0, 4000)), ops.PinVcpu(uuid=uuid, number=9, host_cpus=(0,))):
        assert await bed.refused(wrong) is Reason.INVALID_ARGUMENT


async def test_io_threads(bed: Bed) -> None:
    """A thread for disks is added, pinned and taken away again; what is there twice, or not at all, is refused."""
    bed.need("AddIoThread", "PinIoThread", "DeleteIoThread")
    uuid = await bed.defined()
    await bed.run(ops.AddIoThread(uuid=uuid, number=3, scope=CONFIG))
    assert await bed.refused(ops.AddIoThread(uuid=uuid, number=3, scope=CONFIG)) is Reason.INVALID_ARGUMENT
    await bed.run(ops.PinIoThread(uuid=uuid, number=3, host_cpus=(0,), scope=CONFIG))
    root = await _definition(bed, uuid)
    assert root.find("iothreadids/iothread[@id='3']") is not None
    assert root.find("cputune/iothreadpin[@iothread='3'][@cpuset='0']") is not None
    await bed.run(ops.DeleteIoThread(uuid=uuid, number=3, scope=CONFIG))
    assert (await _definition(bed, uuid)).find("iothreadids/iothread") is None
    assert await bed.refused(ops.DeleteIoThread(uuid=uuid, number=3, scope=CONFIG)) is Reason.INVALID_ARGUMENT


async def test_limits_of_a_disk(bed: Bed) -> None:
    """A disk's limits are set; a disk that is not there is refused."""
    bed.need("SetBlockIoTune")
    uuid = await bed.defined()
    limits = {"total_bytes_sec": MIB, "total_bytes_sec_max": 2 * MIB}
    await bed.run(ops.SetBlockIoTune(uuid=uuid, device="vda", limits=limits, scope=CONFIG))
    root = await _definition(bed, uuid)
    assert {name: root.findtext(f"devices/disk/iotune/{name}") for name in limits} == {name: str(limit) for name, limit in limits.items()}
    wrong = await bed.refused(ops.SetBlockIoTune(uuid=uuid, device="vdz", limits=limits, scope=CONFIG))
    assert wrong in (Reason.DEVICE_NOT_FOUND, Reason.INVALID_ARGUMENT)


async def test_lifecycle_actions(bed: Bed) -> None:
    """What becomes of a domain that crashes is set in its definition."""
    bed.need("SetLifecycleAction")
    uuid = await bed.defined()
    for action in ("preserve", "destroy"):
        await bed.run(ops.SetLifecycleAction(uuid=uuid, event="crash", action=action, scope=CONFIG))
        assert (await _definition(bed, uuid)).findtext("on_crash") == action


async def test_io_thread_parameters(bed: Bed) -> None:
    """How a running domain's thread for disks works is set; a thread that it does not have is refused."""
    bed.need("AddIoThread", "SetIoThreadParameters")
    uuid = await bed.started()
    await bed.run(ops.AddIoThread(uuid=uuid, number=3))
    await bed.run(ops.SetIoThreadParameters(uuid=uuid, number=3, parameters={"poll_max_ns": 1000, "poll_grow": 2}))
    wrong = ops.SetIoThreadParameters(uuid=uuid, number=9, parameters={"poll_max_ns": 1000})
    assert await bed.refused(wrong) is Reason.INVALID_ARGUMENT


async def test_single_vcpus(bed: Bed) -> None:
    """A virtual CPU is plugged in by its number and out again; one that the domain does not have is refused."""
    bed.need("SetVcpu", "SetVcpus")
    uuid = await bed.defined()
    await bed.run(ops.SetVcpus(uuid=uuid, vcpus=3, maximum=True, scope=CONFIG))
    await bed.run(ops.SetVcpus(uuid=uuid, vcpus=1, scope=CONFIG))
    for enabled, word in ((True, "yes"), (False, "no")):
        await bed.run(ops.SetVcpu(uuid=uuid, vcpus=(2,), enabled=enabled, scope=CONFIG))
        assert (await _definition(bed, uuid)).find(f"vcpus/vcpu[@id='2'][@enabled='{word}']") is not None
    assert await bed.refused(ops.SetVcpu(uuid=uuid, vcpus=(9,), enabled=True, scope=CONFIG)) is Reason.INVALID_ARGUMENT


async def test_perf_events(bed: Bed) -> None:
    """What is counted stands in the definition, and what is counted no longer too."""
    bed.need("SetPerfEvents")
    uuid = await bed.started()
    for enabled, word in ((True, "yes"), (False, "no")):
        await bed.run(ops.SetPerfEvents(uuid=uuid, events={"cpu_clock": enabled}, scope=ops.Scope.BOTH))
        event = (await _definition(bed, uuid)).find("perf/event[@name='cpu_clock']")
        assert event is not None
        assert event.get("enabled") == word


async def test_block_threshold(bed: Bed) -> None:
    """An offset that is watched for stands in the disk's statistics, until it is watched for no longer; a strange disk is refused."""
    bed.need("SetBlockThreshold")
    uuid = await bed.started()
    for offset in (MIB, 0):
        await bed.run(ops.SetBlockThreshold(uuid=uuid, device="vda", threshold_bytes=offset))
        (reading,) = (await bed.driver.sample([uuid])).stats
        assert reading.block is not None
        assert [disk.threshold_bytes for disk in reading.block] == [offset or None]
    assert await bed.refused(ops.SetBlockThreshold(uuid=uuid, device="vdz", threshold_bytes=MIB)) is Reason.INVALID_ARGUMENT


async def test_signals(bed: Bed) -> None:
    """A signal reaches a running domain's first process, and is refused of one that is off."""
    bed.need("SendProcessSignal")
    uuid = await bed.started()
    await bed.run(ops.SendProcessSignal(uuid=uuid, pid=1, signal=10))
    off = await bed.defined()
    if bed.info.hypervisor == "test":  # the mock takes it
        return
    assert await bed.refused(ops.SendProcessSignal(uuid=off, pid=1, signal=10)) is Reason.WRONG_STATE
