"""What guests of a hypervisor have by themselves: processor, features, consoles, and small devices."""

from __future__ import annotations

from virtrpc.v1 import spec_pb2
from virtrpc_server.specs.build import Element, Site, put, put_if, take_away

_PCS = ("", "i686", "x86_64")
_AGENT = "org.qemu.guest_agent.0"


def put_platform(root: Element, spec: spec_pb2.DomainSpec, site: Site, *, new: bool) -> None:
    """The processor and all devices that are no disks, interfaces or screens."""
    _put_cpu(root, spec)
    if new and site.emulates and site.arch in _PCS:
        features = put(root, "features")
        put(features, "acpi")
        put(features, "apic")
    devices = put(root, "devices")
    _put_consoles(devices, spec, site, new=new)
    if _wanted(spec, "rng", new and site.emulates):
        put(put(devices, "rng", model="virtio"), "backend", "/dev/urandom", model="random")
    elif spec.HasField("rng") and not new:
        take_away(devices, "rng")
    if _wanted(spec, "agent_channel", new and site.emulates):
        put(put(devices, "channel", type="unix"), "target", type="virtio", name=_AGENT)
    elif spec.HasField("agent_channel") and not new:
        take_away(devices, "channel")
        put(devices[-1], "target", type="virtio", name=_AGENT)
    _put_tpm(devices, spec, new=new)
    if spec.unconfined:
        put(root, "seclabel", type="none")


def _put_cpu(root: Element, spec: spec_pb2.DomainSpec) -> None:
    mode = spec.cpu.mode or ("custom" if spec.cpu.model else "")
    if not mode:
        return
    cpu = put(root, "cpu", mode=mode)
    if spec.cpu.model:
        put(cpu, "model", spec.cpu.model)


def _put_consoles(devices: Element, spec: spec_pb2.DomainSpec, site: Site, *, new: bool) -> None:
    # Where QEMU's guest has a serial port, libvirt makes its console of that; machines without one have a console of another kind.
    tag = "serial" if site.emulates and site.arch != "s390x" else "console"
    consoles = list(spec.consoles) or ([spec_pb2.Console()] if new else [])
    for console in consoles:
        element = put(devices, tag, type="pty")
        put_if(element, "log", file=console.log_file, append="off" if console.log_file else None)


def _put_tpm(devices: Element, spec: spec_pb2.DomainSpec, *, new: bool) -> None:
    if spec.tpm:
        put(put(devices, "tpm"), "backend", type="emulator", version="2.0")
    elif spec.HasField("tpm") and not new:
        take_away(devices, "tpm")


def _wanted(spec: spec_pb2.DomainSpec, field: str, otherwise: bool) -> bool:
    return bool(getattr(spec, field)) if spec.HasField(field) else otherwise  # type: ignore[arg-type] # the callers' names are fields
