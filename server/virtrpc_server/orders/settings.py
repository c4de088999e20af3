"""Orders: sizes and settings. One function a verb, each refusing what can be seen to be wrong."""

from __future__ import annotations

from virtrpc.v1 import job_pb2
from virtrpc_drivers import operations as op
from virtrpc_server.orders.common import invalid, scope_of


def set_memory(request: job_pb2.SetMemoryRequest, uuid: str) -> op.SetMemory:
    """SetMemory."""
    if request.memory_bytes <= 0:
        raise invalid("memory_bytes", f"must be above zero, not {request.memory_bytes}")
    return op.SetMemory(uuid=uuid, memory_bytes=request.memory_bytes, scope=scope_of(request.scope), maximum=request.maximum)
