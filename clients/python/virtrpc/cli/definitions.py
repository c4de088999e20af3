"""The definition of a domain as commands take it: an XML file, or options that make a typed one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import typer

from virtrpc.cli import device_specs
from virtrpc.cli.params import parse_size, read_xml
from virtrpc.cli.parts import PARTS, Part, option
from virtrpc.v1 import devices_pb2 as d
from virtrpc.v1 import spec_pb2 as s

PANEL = "Without XML"


@dataclass(frozen=True)
class Definition:
    """The fields of a request that have the definition."""

    fields: dict[str, Any]


def _definition(
    file: str | None,
    name: str,
    memory: int | None,
    vcpus: int | None,
    disk: list[d.Disk],
    interface: list[d.Interface],
    graphics: list[d.Graphics],
    kernel: str,
    initrd: str,
    cmdline: str,
    uefi: bool,
    machine: str,
    cpu: str,
    virt_type: str,
    overlay: str,
) -> Definition:
    if bool(file) == bool(name):
        raise typer.BadParameter("give FILE with XML, or --name and what the domain shall have")
    if file:
        return Definition({"xml": read_xml(file)})
    spec = s.DomainSpec(
        name=name,
        memory_bytes=memory or 0,
        vcpus=vcpus,
        disks=disk,
        interfaces=interface,
        graphics=graphics,
        machine=machine,
        virtualization_type=virt_type,
        xml_overlay=read_xml(overlay) if overlay else "",
    )
    if cpu:
        spec.cpu.mode = cpu
    if kernel and uefi:
        raise typer.BadParameter("--kernel and --uefi exclude each other")
    if kernel:
        spec.kernel.CopyFrom(s.KernelBoot(kernel=kernel, initrd=initrd, cmdline=cmdline))
    elif uefi:
        spec.firmware.uefi = True
    return Definition({"spec": spec})


def _said(name: str, help: str, metavar: str = "", default: Any = "", kind: Any = str, **more: Any) -> Any:
    made = typer.Option(f"--{name.replace('_', '-')}", metavar=metavar or None, help=help, rich_help_panel=PANEL, **more)
    return option(name, Annotated[kind, made], default)


PARTS[Definition] = Part(
    (
        option("file", Annotated[str | None, typer.Argument(metavar="[FILE]", help="libvirt XML; - reads it from stdin.")], None),
        _said("name", "The domain's name.", "NAME"),
        _said("memory", "With a unit: 2GiB.", "SIZE", None, int | None, parser=parse_size),
        _said("vcpus", "How many virtual CPUs.", "NUMBER", None, int | None),
        _said("disk", f"May be repeated: {device_specs.DISK_WORDS}", "DISK", (), list[d.Disk], parser=device_specs.disk),
        _said("interface", f"May be repeated: {device_specs.INTERFACE_WORDS}", "INTERFACE", (), list[d.Interface], parser=device_specs.interface),
        _said("graphics", "vnc or spice, listen=, port=", "SCREEN", (), list[d.Graphics], parser=device_specs.graphics),
        _said("kernel", "Boot this kernel of the host.", "PATH"),
        _said("initrd", "With --kernel.", "PATH"),
        _said("cmdline", "With --kernel.", "TEXT"),
        _said("uefi", "Boot by UEFI.", "", False, bool),
        _said("machine", "q35, pc, virt.", "NAME"),
        _said("cpu", "host-passthrough, host-model, maximum.", "MODE"),
        _said("virt_type", "kvm, qemu, xen, lxc; what the host has unless said.", "TYPE"),
        _said("overlay", "A <domain> with all else, merged over it.", "FILE"),
    ),
    _definition,
)
