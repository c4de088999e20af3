"""What a domain may use of its host, as messages."""

from __future__ import annotations

from virtrpc.v1 import resources_pb2, snapshot_pb2
from virtrpc_drivers.resources import Blkio, Numa, ResourceParameters
from virtrpc_server.domains import Entry
from virtrpc_server.messages.common import duration_ns, identity_message, numbers
from virtrpc_server.orders.resources import DEVICE_LIMITS, GROUPS, MODES, NUMBERS, UNITS


def resource_parameters_message(entry: Entry, found: ResourceParameters) -> snapshot_pb2.GetResourceParametersResponse:
    """The whole answer."""
    return snapshot_pb2.GetResourceParametersResponse(
        domain=identity_message(entry),
        scheduler_type=found.scheduler_type,
        scheduler=None if found.scheduler is None else _scheduler(found.scheduler),
        memory=None if found.memory is None else _memory(found.memory),
        numa=None if found.numa is None else _numa(found.numa),
        blkio=None if found.blkio is None else _blkio(found.blkio),
    )


def _scheduler(found: dict[str, int]) -> resources_pb2.SchedulerParameters:
    counted = numbers(**{field: found[name] * UNITS.get(name, 1) for name, field in NUMBERS.items() if name in found})
    lengths = {f"{word}_{what}": found.get(f"{group}_{what}") for group, word in GROUPS.items() for what in ("period", "quota")}
    times = {name: duration_ns(length * 1000) for name, length in lengths.items() if length is not None}
    return resources_pb2.SchedulerParameters(**counted, **times)  # type: ignore[arg-type] # numbers and times by their fields' names


def _memory(found: dict[str, int]) -> resources_pb2.MemoryParameters:
    return resources_pb2.MemoryParameters(**numbers(**{f"{name}_bytes": limit for name, limit in found.items()}))


def _numa(found: Numa) -> resources_pb2.NumaParameters:
    return resources_pb2.NumaParameters(mode=MODES.get(found.mode, resources_pb2.NUMA_MODE_UNSPECIFIED), nodes=found.nodes)


def _blkio(found: Blkio) -> resources_pb2.BlkioParameters:
    fields = {**DEVICE_LIMITS, "weight": "weight"}
    devices = [
        resources_pb2.BlkioDevice(path=device.path, **numbers(**{fields[name]: limit for name, limit in device.limits.items()}))
        for device in found.devices
    ]
    return resources_pb2.BlkioParameters(devices=devices, **numbers(weight=found.weight))
