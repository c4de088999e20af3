"""Whether a domain's definition shows what an operation was to do. `libvirt` and `sim` both keep these in the definition, in the same words."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any
from xml.etree.ElementTree import Element

from virtrpc_drivers import operations as ops
from virtrpc_drivers import resources
from virtrpc_drivers.metadata import metadata, with_metadata


def _pinned(element: Element | None, host_cpus: tuple[int, ...]) -> bool:
    return element is not None and resources.numbers(element.get("cpuset", "")) == frozenset(host_cpus)


def _vcpu_pinned(root: Element, operation: ops.PinVcpu) -> bool:
    return _pinned(root.find(f"cputune/vcpupin[@vcpu='{operation.number}']"), operation.host_cpus)


def _emulator_pinned(root: Element, operation: ops.PinEmulator) -> bool:
    return _pinned(root.find("cputune/emulatorpin"), operation.host_cpus)


def _io_thread_pinned(root: Element, operation: ops.PinIoThread) -> bool:
    return _pinned(root.find(f"cputune/iothreadpin[@iothread='{operation.number}']"), operation.host_cpus)


def _has_io_thread(root: Element, operation: ops.AddIoThread | ops.DeleteIoThread) -> bool:
    return root.find(f"iothreadids/iothread[@id='{operation.number}']") is not None


def _has_no_io_thread(root: Element, operation: ops.DeleteIoThread) -> bool:
    return not _has_io_thread(root, operation)


def _action_set(root: Element, operation: ops.SetLifecycleAction) -> bool:
    return root.findtext(f"on_{operation.event}") == operation.action


def _tuned(root: Element, operation: ops.SetBlockIoTune) -> bool:
    disks = (disk for disk in root.iterfind("devices/disk") if operation.device in _names(disk))
    return any(all(int(disk.findtext(f"iotune/{name}", "0")) == limit for name, limit in operation.limits.items()) for disk in disks)


def _names(device: Element) -> set[str | None]:
    parts = [part for tag in ("target", "source", "mac") if (part := device.find(tag)) is not None]
    return {part.get(name) for part in parts for name in ("dev", "file", "address")}


def _limited(root: Element, operation: ops.SetInterfaceParameters) -> bool:
    interfaces = (nic for nic in root.iterfind("devices/interface") if operation.device in _names(nic))
    return any(_carries(nic, "inbound", operation.inbound) and _carries(nic, "outbound", operation.outbound) for nic in interfaces)


def _carries(interface: Element, direction: str, wanted: ops.Bandwidth | None) -> bool:
    if wanted is None:
        return True
    found = interface.find(f"bandwidth/{direction}")
    if found is None:
        return not wanted.average
    return all(int(found.get(name, "0")) == number for name, number in wanted.in_kib.items())


def _plugged(root: Element, operation: ops.SetVcpu) -> bool:
    there = {vcpu.get("id"): vcpu.get("enabled") == "yes" for vcpu in root.iterfind("vcpus/vcpu")}
    return all(there.get(str(number)) is operation.enabled for number in operation.vcpus)


def _counted(root: Element, operation: ops.SetPerfEvents) -> bool:
    there = {event.get("name"): event.get("enabled") == "yes" for event in root.iterfind("perf/event")}
    return all(there.get(name, False) is enabled for name, enabled in operation.events.items())


def _metadata_set(root: Element, operation: ops.SetMetadata) -> bool:
    # As it would be, had it been set: then setting it changes nothing.
    changed = copy.deepcopy(root)
    with_metadata(changed, operation.kind, operation.value, operation.uri)
    return metadata(changed) == metadata(root)


def _schedules(root: Element, operation: ops.SetSchedulerParameters) -> bool:
    found = resources.scheduler(root)
    return all(found.get(name, 0) == number for name, number in operation.parameters.items())


def _limits_memory(root: Element, operation: ops.SetMemoryParameters) -> bool:
    found = resources.memory(root)
    return all(resources.in_kib(found[name]) == resources.in_kib(limit) for name, limit in operation.limits.items())


def _places_memory(root: Element, operation: ops.SetNumaParameters) -> bool:
    found = resources.numa(root)
    return operation.mode in ("", found.mode) and operation.nodes in ((), found.nodes)


def _limits_devices(root: Element, operation: ops.SetBlkioParameters) -> bool:
    return resources.includes(resources.blkio(root), resources.Blkio(weight=operation.weight, devices=operation.devices))


SHOWN: dict[str, Callable[[Element, Any], bool]] = {
    "PinVcpu": _vcpu_pinned,
    "PinEmulator": _emulator_pinned,
    "AddIoThread": _has_io_thread,
    "DeleteIoThread": _has_no_io_thread,
    "PinIoThread": _io_thread_pinned,
    "SetBlockIoTune": _tuned,
    "SetInterfaceParameters": _limited,
    "SetLifecycleAction": _action_set,
    "SetVcpu": _plugged,
    "SetPerfEvents": _counted,
    "SetMetadata": _metadata_set,
    "SetSchedulerParameters": _schedules,
    "SetMemoryParameters": _limits_memory,
    "SetNumaParameters": _places_memory,
    "SetBlkioParameters": _limits_devices,
}
"""(<domain>, operation), by the operation's tag: what stands in the definitions that the operation's scope names."""
