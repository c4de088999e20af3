"""Orders: what a domain may use of its host. One function a verb, each refusing what can be seen to be wrong."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from virtrpc.v1 import job_pb2, resources_pb2, types_pb2
from virtrpc_drivers import operations as op
from virtrpc_drivers.operations import Scope
from virtrpc_drivers.resources import MEMORY, NUMA_MODES, BlkioDevice
from virtrpc_server.orders.common import invalid, scope_of

MAX_INT = (1 << 31) - 1
MAX_UINT = (1 << 32) - 1
MAX_MEMORY = ((1 << 53) - 1) << 10
"""libvirt's own: it counts in KiB, and calls more than this no limit."""
MAX_NODES = 1 << 12
MAX_DEVICES = 256
MAX_PATH = 4096
WEIGHTS = range(10, 1001)
PERIODS_US = range(1_000, 1_000_001)
QUOTAS_US = range(1_000, 17_592_186_044_416)

GROUPS = {"vcpu": "vcpu", "emulator": "emulator", "global": "global", "iothread": "io_thread"}
"""What has a period and a quota: the drivers' word and the contract's."""
NUMBERS = {"cpu_shares": "cpu_shares", "cap": "cap_percent", "reservation": "reservation_hertz", "limit": "limit_hertz"}
UNITS = {"reservation": 1_000_000, "limit": 1_000_000}
"""What one of the drivers' numbers is in the contract, where that is not one."""
MODES = dict(zip(NUMA_MODES, (number for number in resources_pb2.NumaMode.values() if number), strict=True))
DEVICE_LIMITS = {
    "read_bytes_sec": "read_bytes_per_second",
    "write_bytes_sec": "write_bytes_per_second",
    "read_iops_sec": "read_operations_per_second",
    "write_iops_sec": "write_operations_per_second",
}


def set_scheduler_parameters(request: job_pb2.SetSchedulerParametersRequest, uuid: str) -> op.SetSchedulerParameters:
    """SetSchedulerParameters."""
    parameters = {**_numbers(request.scheduler), **_times(request.scheduler)}
    if not parameters:
        raise invalid("scheduler", "at least one of its fields is required")
    return op.SetSchedulerParameters(uuid=uuid, parameters=parameters, scope=scope_of(request.scope))


def set_memory_parameters(request: job_pb2.SetMemoryParametersRequest, uuid: str) -> op.SetMemoryParameters:
    """SetMemoryParameters."""
    given = _given(request.memory)
    limits = {name: given[f"{name}_bytes"] for name in MEMORY if f"{name}_bytes" in given}
    if not limits:
        raise invalid("memory", "at least one of its fields is required; 0 takes a limit away")
    for name, limit in limits.items():
        if not 0 <= limit < MAX_MEMORY:
            raise invalid(f"memory.{name}_bytes", f"must be 0 to {MAX_MEMORY - 1}, not {limit}")
    return op.SetMemoryParameters(uuid=uuid, limits=limits, scope=scope_of(request.scope))


def set_numa_parameters(request: job_pb2.SetNumaParametersRequest, uuid: str) -> op.SetNumaParameters:
    """SetNumaParameters."""
    mode = next((name for name, number in MODES.items() if number == request.numa.mode), "")
    nodes = tuple(sorted(set(request.numa.nodes)))
    if not mode and not nodes:
        raise invalid("numa", "a mode or nodes are required")
    if nodes and not 0 <= nodes[0] <= nodes[-1] < MAX_NODES:
        raise invalid("numa.nodes", f"each must be 0 to {MAX_NODES - 1}")
    return op.SetNumaParameters(uuid=uuid, mode=mode, nodes=nodes, scope=scope_of(request.scope))


def set_blkio_parameters(request: job_pb2.SetBlkioParametersRequest, uuid: str) -> op.SetBlkioParameters:
    """SetBlkioParameters."""
    weight = request.blkio.weight if request.blkio.HasField("weight") else None
    if weight is not None and weight not in WEIGHTS:
        raise invalid("blkio.weight", f"must be {WEIGHTS[0]} to {WEIGHTS[-1]}, not {weight}")
    devices = tuple(_devices(request.blkio.devices))
    if weight is None and not devices:
        raise invalid("blkio", "a weight or a device is required")
    return op.SetBlkioParameters(uuid=uuid, weight=weight, devices=devices, scope=scope_of(request.scope))


def asked_scope(scope: types_pb2.ChangeScope.ValueType) -> Scope:
    """What a read is about. Raises INVALID_ARGUMENT for both."""
    if scope == types_pb2.CHANGE_SCOPE_BOTH:
        raise invalid("scope", "LIVE or CONFIG: what holds for the running guest and what is stored are two answers")
    return scope_of(scope)


def _given(message: Message) -> dict[str, Any]:
    """The fields that are set, those set to 0 included."""
    return {field.name: value for field, value in message.ListFields()}


def _numbers(message: resources_pb2.SchedulerParameters) -> dict[str, int]:
    given = _given(message)
    found = {name: given[field] for name, field in NUMBERS.items() if field in given}
    for name, number in found.items():
        least, most = int(name == "cpu_shares"), MAX_INT * UNITS.get(name, 1)
        if not least <= number <= most:
            raise invalid(f"scheduler.{NUMBERS[name]}", f"must be {least} to {most}, not {number}")
    return {name: -(-number // UNITS.get(name, 1)) for name, number in found.items()}


def _times(message: resources_pb2.SchedulerParameters) -> dict[str, int]:
    given = _given(message)
    found: dict[str, int] = {}
    for group, word in GROUPS.items():
        for what, among in (("period", PERIODS_US), ("quota", QUOTAS_US)):
            if (length := given.get(f"{word}_{what}")) is not None:
                found[f"{group}_{what}"] = _microseconds(length, f"{word}_{what}", among, zero=what == "quota")
    return found


def _microseconds(length: Duration, field: str, among: range, *, zero: bool) -> int:
    # Not by ToMicroseconds alone, which rounds.
    found = length.seconds * 1_000_000 + length.nanos // 1000
    if length.nanos % 1000 or not (found in among or (zero and not found)):
        least = "0, or " if zero else ""
        raise invalid(f"scheduler.{field}", f"must be {least}{among[0]} to {among[-1]} whole microseconds")
    return found


def _devices(messages: Iterable[resources_pb2.BlkioDevice]) -> Iterator[BlkioDevice]:
    seen: set[str] = set()
    for message in messages:
        if message.path in seen or len(seen) >= MAX_DEVICES:
            raise invalid("blkio.devices", f"each is named once, and there are {MAX_DEVICES} at most")
        seen.add(message.path)
        yield BlkioDevice(path=_device_path(message.path), limits=_device_limits(message))


def _device_path(path: str) -> str:
    # libvirt separates paths and numbers by commas, and has no way to write one.
    if not path.startswith("/dev/") or ".." in path.split("/") or "," in path or len(path) > MAX_PATH or not path.isprintable():
        raise invalid("blkio.devices.path", "must be the path of a device of the host, such as /dev/sda, without a comma")
    return path


def _device_limits(message: resources_pb2.BlkioDevice) -> dict[str, int]:
    given = _given(message)
    limits = {name: given[field] for name, field in DEVICE_LIMITS.items() if field in given}
    for name, limit in limits.items():
        most = MAX_UINT if name.endswith("iops_sec") else (1 << 63) - 1
        if not 0 <= limit <= most:
            raise invalid(f"blkio.devices.{DEVICE_LIMITS[name]}", f"must be 0 to {most}; 0 is no limit")
    if message.HasField("weight"):
        if message.weight and message.weight not in WEIGHTS:
            raise invalid("blkio.devices.weight", f"must be {WEIGHTS[0]} to {WEIGHTS[-1]}, or 0 for the domain's own")
        limits["weight"] = message.weight
    if not limits:
        raise invalid("blkio.devices", f"nothing is said of {message.path}")
    return limits
