"""What every driver does with what a domain may use of its host: set, read back, and proven when nobody remembers the call."""

from __future__ import annotations

import pytest

from tests.drivers.bed import Bed, call_of, eventually
from virtrpc_drivers import operations as ops
from virtrpc_drivers.errors import DriverError, Reason
from virtrpc_drivers.resources import BlkioDevice

pytestmark = pytest.mark.asyncio(loop_scope="module")

MIB = 1 << 20
CONFIG = ops.Scope.CONFIG
DISK = "/dev/vda"


async def _proven(bed: Bed, operation: ops.AnyOperation, other: ops.AnyOperation) -> None:
    """What was done is proven by what is there, and something else is not."""
    await bed.driver.resume(call_of(operation))
    with pytest.raises(DriverError) as caught:
        await bed.driver.resume(call_of(other))
    assert caught.value.reason is Reason.INTERRUPTED


async def test_memory(bed: Bed) -> None:
    """Limits of memory are set, read back in bytes, and taken away; one of swap space below that of memory is refused."""
    bed.need("SetMemoryParameters", "GetResourceParameters")
    uuid = await bed.defined()
    wanted = ops.SetMemoryParameters(uuid=uuid, limits={"hard_limit": 512 * MIB, "soft_limit": 256 * MIB}, scope=CONFIG)
    await bed.run(wanted)
    found = (await bed.driver.resource_parameters(uuid, CONFIG)).memory
    assert found is not None
    assert (found["hard_limit"], found["soft_limit"], found["swap_hard_limit"]) == (512 * MIB, 256 * MIB, 0)
    await _proven(bed, wanted, ops.SetMemoryParameters(uuid=uuid, limits={"hard_limit": MIB}, scope=CONFIG))
    if bed.info.hypervisor != "test":  # the mock takes any
        low = ops.SetMemoryParameters(uuid=uuid, limits={"swap_hard_limit": MIB}, scope=CONFIG)
        assert await bed.refused(low) is Reason.INVALID_ARGUMENT
    await bed.run(ops.SetMemoryParameters(uuid=uuid, limits={"hard_limit": 0, "soft_limit": 0}, scope=CONFIG))
    found = (await bed.driver.resource_parameters(uuid, ops.Scope.CURRENT)).memory
    assert found is not None
    assert not any(found.values())


async def test_numa(bed: Bed) -> None:
    """Mode and nodes are set and read back."""
    bed.need("SetNumaParameters", "GetResourceParameters")
    uuid = await bed.defined()
    wanted = ops.SetNumaParameters(uuid=uuid, mode="interleave", nodes=(0,), scope=CONFIG)
    await bed.run(wanted)
    found = (await bed.driver.resource_parameters(uuid, CONFIG)).numa
    assert found is not None
    assert (found.mode, found.nodes) == ("interleave", (0,))
    await _proven(bed, wanted, ops.SetNumaParameters(uuid=uuid, mode="preferred", scope=CONFIG))


async def test_block_devices(bed: Bed) -> None:
    """A weight and what is said of a device are set, and read back; what is not said stays, and 0 takes away."""
    bed.need("SetBlkioParameters", "GetResourceParameters")
    uuid = await bed.defined()
    wanted = ops.SetBlkioParameters(uuid=uuid, weight=300, devices=(BlkioDevice(path=DISK, limits={"read_bytes_sec": MIB}),), scope=CONFIG)
    await bed.run(wanted)
    await bed.run(ops.SetBlkioParameters(uuid=uuid, devices=(BlkioDevice(path=DISK, limits={"write_iops_sec": 9}),), scope=CONFIG))
    found = (await bed.driver.resource_parameters(uuid, CONFIG)).blkio
    assert found is not None
    assert (found.weight, found.devices) == (300, (BlkioDevice(path=DISK, limits={"read_bytes_sec": MIB, "write_iops_sec": 9}),))
    await _proven(bed, wanted, ops.SetBlkioParameters(uuid=uuid, weight=400, scope=CONFIG))
    none = {"read_bytes_sec": 0, "write_iops_sec": 0}
    await bed.run(ops.SetBlkioParameters(uuid=uuid, devices=(BlkioDevice(path=DISK, limits=none),), scope=CONFIG))
    found = (await bed.driver.resource_parameters(uuid, CONFIG)).blkio
    assert found is not None
    assert (found.weight, found.devices) == (300, ())


async def test_scheduler(bed: Bed) -> None:
    """A share of processors is set and read back where the host can; else it is refused as what it lacks, and the group is not told."""
    bed.need("SetSchedulerParameters", "GetResourceParameters")
    uuid = await bed.started()
    wanted = ops.SetSchedulerParameters(uuid=uuid, parameters={"cpu_shares": 60})
    found = (await bed.driver.resource_parameters(uuid, ops.Scope.CURRENT)).scheduler
    if found is None:
        assert await bed.refused(wanted) is Reason.UNSUPPORTED
        return
    await bed.run(wanted)
    if bed.info.hypervisor != "test":  # the mock forgets it
        found = (await bed.driver.resource_parameters(uuid, ops.Scope.CURRENT)).scheduler
        assert found is not None
        assert found["cpu_shares"] == 60
        await _proven(bed, wanted, ops.SetSchedulerParameters(uuid=uuid, parameters={"cpu_shares": 61}))
    else:
        assert await bed.refused(ops.SetSchedulerParameters(uuid=uuid, parameters={"vcpu_quota": 5000})) is Reason.UNSUPPORTED


async def test_what_runs_is_asked_of_what_runs(bed: Bed) -> None:
    """What holds for the running guest is not told of a domain that is off."""
    bed.need("GetResourceParameters")
    uuid = await bed.defined()
    with pytest.raises(DriverError) as caught:
        await bed.driver.resource_parameters(uuid, ops.Scope.LIVE)
    assert caught.value.reason is Reason.WRONG_STATE


async def test_dirty_rate(bed: Bed) -> None:
    """How fast memory changes is measured in the background, once at a time, and told afterwards; of a domain that is off it is not."""
    bed.need("StartDirtyRateCalculation", "GetDirtyRate")
    uuid = await bed.started()
    before = await bed.driver.dirty_rate(uuid)
    assert (before.measuring, before.seconds, before.bytes_per_second) == (False, None, None)
    await bed.run(ops.StartDirtyRateCalculation(uuid=uuid, seconds=1))

    async def measured() -> bool:
        return (await bed.driver.dirty_rate(uuid)).bytes_per_second is not None

    await eventually(measured, "the rate to be measured")
    after = await bed.driver.dirty_rate(uuid)
    assert (after.measuring, after.seconds) == (False, 1)
    off = await bed.defined()
    assert await bed.refused(ops.StartDirtyRateCalculation(uuid=off, seconds=1)) is Reason.WRONG_STATE
    with pytest.raises(DriverError) as caught:
        await bed.driver.dirty_rate(off)
    assert caught.value.reason is Reason.WRONG_STATE
