"""Cases: what a domain may use of its host, read back by GetResourceParameters."""

from __future__ import annotations

from tests.e2e.server import ended
from tests.hypervisors.case import case
from tests.hypervisors.stage import Stage
from virtrpc.v1 import resources_pb2 as r
from virtrpc.v1 import snapshot_pb2
from virtrpc.v1 import types_pb2 as t

MIB = 1 << 20
CONFIG = t.CHANGE_SCOPE_CONFIG
SHARES = r.SchedulerParameters(cpu_shares=600)
LIMIT = r.MemoryParameters(soft_limit_bytes=512 * MIB)
WEIGHT = r.BlkioParameters(weight=300)
NODES = r.NumaParameters(mode=r.NUMA_MODE_STRICT, nodes=[0])


async def _told(s: Stage, ref: str, scope: t.ChangeScope.ValueType = t.CHANGE_SCOPE_UNSPECIFIED) -> snapshot_pb2.GetResourceParametersResponse:
    return await s.client.get_resource_parameters(ref, scope=scope)


@case("JobService/SetSchedulerParameters", lambda s: ended(s.client.set_scheduler_parameters(s.ref, scheduler=SHARES)))
async def set_scheduler_parameters(s: Stage) -> None:
    """A domain's share of processors changes: a running one's, or where the host has no cgroups for that, the next start's."""
    ref = await s.running()
    if not (await _told(s, ref)).HasField("scheduler"):
        ref = await s.off()
    await s.done(s.client.set_scheduler_parameters(ref, scheduler=SHARES))
    if "SetSchedulerParameters" not in s.kind.vague:
        assert (await _told(s, ref)).scheduler.cpu_shares == SHARES.cpu_shares


@case("JobService/SetMemoryParameters", lambda s: ended(s.client.set_memory_parameters(s.ref, memory=LIMIT)))
async def set_memory_parameters(s: Stage) -> None:
    """A domain's limit of memory is stored."""
    ref = await s.off()
    await s.done(s.client.set_memory_parameters(ref, memory=LIMIT))
    assert (await _told(s, ref)).memory.soft_limit_bytes == LIMIT.soft_limit_bytes


@case("JobService/SetNumaParameters", lambda s: ended(s.client.set_numa_parameters(s.ref, numa=NODES)))
async def set_numa_parameters(s: Stage) -> None:
    """Where a domain's memory lies is stored."""
    ref = await s.off()
    await s.done(s.client.set_numa_parameters(ref, numa=NODES, scope=CONFIG))
    assert (await _told(s, ref, CONFIG)).numa == NODES


@case("JobService/SetBlkioParameters", lambda s: ended(s.client.set_blkio_parameters(s.ref, blkio=WEIGHT)))
async def set_blkio_parameters(s: Stage) -> None:
    """A domain's weight at block devices is stored."""
    ref = await s.off()
    await s.done(s.client.set_blkio_parameters(ref, blkio=WEIGHT, scope=CONFIG))
    assert (await _told(s, ref, CONFIG)).blkio.weight == WEIGHT.weight


@case("SnapshotService/GetResourceParameters", lambda s: s.client.get_resource_parameters(s.ref))
async def get_resource_parameters(s: Stage) -> None:
    """A running domain's parameters are told, as far as its hypervisor and its host have them."""
    ref = await s.running()
    told = await _told(s, ref)
    assert told.domain.uuid == s.guest.uuid
    assert any(told.HasField(group) for group in ("scheduler", "memory", "numa", "blkio"))


@case("JobService/StartDirtyRateCalculation", lambda s: ended(s.client.start_dirty_rate_calculation(s.ref)))
async def start_dirty_rate_calculation(s: Stage) -> None:
    """How fast a running guest changes its memory begins to be measured."""
    ref = await s.running()
    await s.done(s.client.start_dirty_rate_calculation(ref))
    assert (await s.client.get_dirty_rate(ref)).period.seconds == 1


@case("SnapshotService/GetDirtyRate", lambda s: s.client.get_dirty_rate(s.ref))
async def get_dirty_rate(s: Stage) -> None:
    """How fast a running guest changes its memory is told, whether or not it was measured."""
    ref = await s.running()
    assert (await s.client.get_dirty_rate(ref)).domain.uuid == s.guest.uuid
