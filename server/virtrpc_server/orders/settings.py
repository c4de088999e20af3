"""Orders: sizes and settings. One function a verb, each refusing what can be seen to be wrong."""

from __future__ import annotations

from virtrpc.v1 import job_pb2
from virtrpc_drivers import operations as op
from virtrpc_server.orders.common import invalid, scope_of

MAX_INT = (1 << 31) - 1
MAX_VCPUS = 1 << 16
"""More than libvirt's calls take: they count in 16 bits."""


def set_memory(request: job_pb2.SetMemoryRequest, uuid: str) -> op.SetMemory:
    """SetMemory."""
    if request.memory_bytes <= 0:
        raise invalid("memory_bytes", f"must be above zero, not {request.memory_bytes}")
    return op.SetMemory(uuid=uuid, memory_bytes=request.memory_bytes, scope=scope_of(request.scope), maximum=request.maximum)


def set_vcpus(request: job_pb2.SetVcpusRequest, uuid: str) -> op.SetVcpus:
    """SetVcpus."""
    if not 0 < request.vcpus < MAX_VCPUS:
        raise invalid("vcpus", f"must be 1 to {MAX_VCPUS - 1}, not {request.vcpus}")
    if request.guest and (request.maximum or request.hotpluggable):
        raise invalid("guest", "guest and maximum, and guest and hotpluggable, exclude each other")
    return op.SetVcpus(
        uuid=uuid,
        vcpus=request.vcpus,
        scope=scope_of(request.scope),
        maximum=request.maximum,
        guest=request.guest,
        hotpluggable=request.hotpluggable,
    )


def set_memory_stats_period(request: job_pb2.SetMemoryStatsPeriodRequest, uuid: str) -> op.SetMemoryStatsPeriod:
    """SetMemoryStatsPeriod."""
    if not request.HasField("stats_period"):
        raise invalid("stats_period", "a period is required; zero switches the reports off")
    seconds = request.stats_period.seconds
    if not 0 <= seconds <= MAX_INT or request.stats_period.nanos:
        raise invalid("stats_period", f"must be a whole number of seconds, 0 to {MAX_INT}")
    return op.SetMemoryStatsPeriod(uuid=uuid, seconds=seconds, scope=scope_of(request.scope))


def set_block_threshold(request: job_pb2.SetBlockThresholdRequest, uuid: str) -> op.SetBlockThreshold:
    """SetBlockThreshold."""
    if not request.device:
        raise invalid("device", "a disk is required, by its target")
    if request.threshold_bytes < 0:
        raise invalid("threshold_bytes", "must not be negative; 0 watches no longer")
    return op.SetBlockThreshold(uuid=uuid, device=request.device, threshold_bytes=request.threshold_bytes)


def resize_block(request: job_pb2.ResizeBlockRequest, uuid: str) -> op.ResizeBlock:
    """ResizeBlock."""
    if not request.device:
        raise invalid("device", "a disk is required, by its target or its source")
    if request.capacity_bytes <= 0:
        raise invalid("capacity_bytes", f"must be above zero, not {request.capacity_bytes}")
    return op.ResizeBlock(uuid=uuid, device=request.device, capacity_bytes=request.capacity_bytes)
