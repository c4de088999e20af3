"""The contract's own word on its services and RPCs, read from the descriptors: nothing of it is written down a second time."""

from __future__ import annotations

from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.descriptor_pb2 import MethodOptions

from virtrpc.v1 import job_pb2, query_pb2, snapshot_pb2, types_pb2

SERVICES: tuple[ServiceDescriptor, ...] = tuple(
    service for file in (query_pb2, job_pb2, snapshot_pb2) for service in file.DESCRIPTOR.services_by_name.values()
)
SERVICE_NAMES = tuple(service.full_name for service in SERVICES)
METHODS: tuple[MethodDescriptor, ...] = tuple(method for service in SERVICES for method in service.methods)


def waits_for(method: MethodDescriptor) -> str:
    """What an RPC may wait for: NOTHING, CONTROL, HYPERVISOR or CONDITION."""
    options: MethodOptions = method.GetOptions()
    return types_pb2.WaitsFor.Name(options.Extensions[types_pb2.waits_for]).removeprefix("WAITS_FOR_")


def role_of(method: MethodDescriptor) -> str:
    """The least role that may call an RPC: viewer, operator or admin."""
    options: MethodOptions = method.GetOptions()
    return types_pb2.Role.Name(options.Extensions[types_pb2.role]).removeprefix("ROLE_").lower()


CHANGING = frozenset(method.name for method in METHODS if waits_for(method) in ("CONDITION", "CONTROL"))
"""RPCs that change something: those that wait for a condition do, and those that act on what runs at once."""
