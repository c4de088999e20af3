"""What proves operations: where threads run, what devices may carry, what becomes of a domain. Nearly all of it stands in the definition."""

from __future__ import annotations

from xml.etree.ElementTree import Element

from virtrpc_drivers import operations as ops
from virtrpc_drivers.libvirt.proofs.common import Proof, not_provable, shows
from virtrpc_drivers.resources import numbers


def _pinned(element: Element | None, host_cpus: tuple[int, ...]) -> bool:
    return element is not None and numbers(element.get("cpuset", "")) == frozenset(host_cpus)


def _vcpu_pinned(root: Element, operation: ops.PinVcpu) -> bool:
    return _pinned(root.find(f"cputune/vcpupin[@vcpu='{operation.number}']"), operation.host_cpus)


def _emulator_pinned(root: Element, operation: ops.PinEmulator) -> bool:
    return _pinned(root.find("cputune/emulatorpin"), operation.host_cpus)


def _io_thread_pinned(root: Element, operation: ops.PinIoThread) -> bool:
    return _pinned(root.find(f"cputune/iothreadpin[@iothread='{operation.number}']"), operation.host_cpus)


def _has_io_thread(root: Element, operation: ops.AddIoThread | ops.DeleteIoThread) -> bool:
    return root.find(f"iothreadids/iothread[@id='{operation.number}']") is not None


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


PROOFS: dict[str, Proof] = {
    "PinVcpu": shows(_vcpu_pinned),
    "PinEmulator": shows(_emulator_pinned),
    "AddIoThread": shows(_has_io_thread),
    "DeleteIoThread": shows(lambda root, operation: not _has_io_thread(root, operation)),
    "PinIoThread": shows(_io_thread_pinned),
    "SetBlockIoTune": shows(_tuned),
    "SetInterfaceParameters": shows(_limited),
    "SetLifecycleAction": shows(_action_set),
    "SetIoThreadParameters": not_provable,
    "SetVcpu": shows(_plugged),
    "SetPerfEvents": shows(_counted),
}
