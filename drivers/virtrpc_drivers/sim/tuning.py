"""The verbs that say where a domain's threads run, what its devices may carry, and what becomes of it: all of it stands in its definition."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree.ElementTree import Element, SubElement

from virtrpc_drivers import operations as ops
from virtrpc_drivers.errors import Reason
from virtrpc_drivers.operations.tuning import AnyTuning
from virtrpc_drivers.sim.editing import edit
from virtrpc_drivers.sim.host import CPUS
from virtrpc_drivers.sim.sdk import JobHandle, sdk_error
from virtrpc_drivers.xml import integer

if TYPE_CHECKING:
    from collections.abc import Callable

    from virtrpc_drivers.sim.hypervisor import SimHypervisor


async def pin_vcpu(hypervisor: SimHypervisor, job: JobHandle, operation: ops.PinVcpu) -> None:
    """Pin a virtual CPU. Raises INVALID_ARGUMENT for one that the domain, and for a processor that the host does not have."""
    most = hypervisor.domain(operation.uuid).definition.config.vcpus_maximum or 1
    if operation.number >= most:
        raise sdk_error(Reason.INVALID_ARGUMENT, f"vcpu {operation.number} is out of range: the domain has {most}")
    await _edit(hypervisor, job, operation, lambda root: _pin(root, "vcpupin", {"vcpu": str(operation.number)}, operation.host_cpus))


async def pin_emulator(hypervisor: SimHypervisor, job: JobHandle, operation: ops.PinEmulator) -> None:
    """Pin the hypervisor's own threads. Raises INVALID_ARGUMENT."""
    await _edit(hypervisor, job, operation, lambda root: _pin(root, "emulatorpin", {}, operation.host_cpus))


async def add_io_thread(hypervisor: SimHypervisor, job: JobHandle, operation: ops.AddIoThread) -> None:
    """One more thread for disks. Raises INVALID_ARGUMENT where there is that one."""

    def change(root: Element) -> None:
        if _io_thread(root, operation.number) is not None:
            raise sdk_error(Reason.INVALID_ARGUMENT, f"an IOThread is already using iothread_id '{operation.number}'")
        SubElement(_child(root, "iothreadids"), "iothread", id=str(operation.number))
        _count_io_threads(root)

    await _edit(hypervisor, job, operation, change)


async def delete_io_thread(hypervisor: SimHypervisor, job: JobHandle, operation: ops.DeleteIoThread) -> None:
    """One thread for disks less. Raises INVALID_ARGUMENT where there is none of that number."""

    def change(root: Element) -> None:
        _child(root, "iothreadids").remove(_found(root, operation.number))
        pin = root.find(f"cputune/iothreadpin[@iothread='{operation.number}']")
        if pin is not None:
            _child(root, "cputune").remove(pin)
        _count_io_threads(root)

    await _edit(hypervisor, job, operation, change)


async def pin_io_thread(hypervisor: SimHypervisor, job: JobHandle, operation: ops.PinIoThread) -> None:
    """Pin a thread for disks. Raises INVALID_ARGUMENT."""

    def change(root: Element) -> None:
        _found(root, operation.number)
        _pin(root, "iothreadpin", {"iothread": str(operation.number)}, operation.host_cpus)

    await _edit(hypervisor, job, operation, change)


async def set_block_io_tune(hypervisor: SimHypervisor, job: JobHandle, operation: ops.SetBlockIoTune) -> None:
    """Limit a disk. Raises DEVICE_NOT_FOUND."""

    def change(root: Element) -> None:
        tune = _child(_device(root, "disk", operation.device), "iotune")
        for name, limit in operation.limits.items():
            _child(tune, name).text = str(limit)

    await _edit(hypervisor, job, operation, change)


async def set_interface_parameters(hypervisor: SimHypervisor, job: JobHandle, operation: ops.SetInterfaceParameters) -> None:
    """Limit an interface. Raises DEVICE_NOT_FOUND."""

    def change(root: Element) -> None:
        bandwidth = _child(_device(root, "interface", operation.device), "bandwidth")
        for direction, wanted in (("inbound", operation.inbound), ("outbound", operation.outbound)):
            if wanted is not None:
                _child(bandwidth, direction).attrib = {name: str(number) for name, number in wanted.in_kib.items() if number}

    await _edit(hypervisor, job, operation, change)


async def set_lifecycle_action(hypervisor: SimHypervisor, job: JobHandle, operation: ops.SetLifecycleAction) -> None:
    """Say what becomes of a domain."""

    def change(root: Element) -> None:
        _child(root, f"on_{operation.event}").text = operation.action

    await _edit(hypervisor, job, operation, change)


async def set_io_thread_parameters(hypervisor: SimHypervisor, job: JobHandle, operation: ops.SetIoThreadParameters) -> None:
    """Set how a thread for disks works. Raises INVALID_ARGUMENT where there is none of that number."""

    def change(root: Element) -> None:
        _found(root, operation.number).attrib.update({name: str(number) for name, number in operation.parameters.items()})

    await _edit(hypervisor, job, operation, change)


async def set_vcpu(hypervisor: SimHypervisor, job: JobHandle, operation: ops.SetVcpu) -> None:
    """Plug virtual CPUs in or out. Raises INVALID_ARGUMENT for one that there is not, or that is so already; UNSUPPORTED for the first."""

    def change(root: Element) -> None:
        vcpu = _child(root, "vcpu")
        maximum = integer(vcpu.text) or 1
        rows = _child(root, "vcpus")
        plugged = {integer(row.get("id")) for row in rows if row.get("enabled") == "yes"} or set(range(integer(vcpu.get("current")) or maximum))
        after = plugged | set(operation.vcpus) if operation.enabled else plugged - set(operation.vcpus)
        if max(operation.vcpus) >= maximum or after == plugged:
            raise sdk_error(Reason.INVALID_ARGUMENT, "vcpu is not present, or already in requested state")
        if 0 not in after:
            raise sdk_error(Reason.UNSUPPORTED, "vcpu '0' can't be unplugged")
        rows[:] = [Element("vcpu", id=str(number), enabled="yes" if number in after else "no") for number in range(maximum)]
        vcpu.set("current", str(len(after)))

    await _edit(hypervisor, job, operation, change)


async def set_perf_events(hypervisor: SimHypervisor, job: JobHandle, operation: ops.SetPerfEvents) -> None:
    """Count events, or no longer."""

    def change(root: Element) -> None:
        perf = _child(root, "perf")
        there = {event.get("name", ""): event.get("enabled") == "yes" for event in perf} | operation.events
        perf[:] = [Element("event", name=name, enabled="yes" if enabled else "no") for name, enabled in there.items()]

    await _edit(hypervisor, job, operation, change)


async def _edit(hypervisor: SimHypervisor, job: JobHandle, operation: AnyTuning, change: Callable[[Element], None]) -> None:
    await edit(hypervisor, job, operation.uuid, operation.scope, lambda document: document.edited(change))


def _pin(root: Element, tag: str, whose: dict[str, str], host_cpus: tuple[int, ...]) -> None:
    if max(host_cpus) >= CPUS:
        raise sdk_error(Reason.INVALID_ARGUMENT, f"the host has the processors 0 to {CPUS - 1}, not {max(host_cpus)}")
    tune = _child(root, "cputune")
    found = next((pin for pin in tune.iterfind(tag) if whose.items() <= pin.attrib.items()), None)
    pin = SubElement(tune, tag, whose) if found is None else found
    pin.set("cpuset", ",".join(map(str, sorted(set(host_cpus)))))


def _io_thread(root: Element, number: int) -> Element | None:
    return root.find(f"iothreadids/iothread[@id='{number}']")


def _found(root: Element, number: int) -> Element:
    thread = _io_thread(root, number)
    if thread is None:
        raise sdk_error(Reason.INVALID_ARGUMENT, f"cannot find IOThread '{number}'")
    return thread


def _count_io_threads(root: Element) -> None:
    _child(root, "iothreads").text = str(len(_child(root, "iothreadids")))


def _device(root: Element, tag: str, name: str) -> Element:
    for device in root.iterfind(f"devices/{tag}"):
        parts = [part for child in ("target", "source", "mac") if (part := device.find(child)) is not None]
        if name in {part.get(attribute) for part in parts for attribute in ("dev", "file", "address")}:
            return device
    raise sdk_error(Reason.DEVICE_NOT_FOUND, f"the domain has no {tag} {name}")


def _child(root: Element, tag: str) -> Element:
    child = root.find(tag)
    return SubElement(root, tag) if child is None else child
