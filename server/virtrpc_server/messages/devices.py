"""Disks, interfaces and graphics as messages."""

from __future__ import annotations

from typing import Any

from virtrpc.v1 import devices_pb2
from virtrpc_drivers.values import DiskConfig, DiskPlace, GraphicsConfig, InterfaceConfig
from virtrpc_server.messages.common import numbers

DISK_DEVICES = {
    "disk": devices_pb2.DISK_DEVICE_DISK,
    "cdrom": devices_pb2.DISK_DEVICE_CDROM,
    "floppy": devices_pb2.DISK_DEVICE_FLOPPY,
    "lun": devices_pb2.DISK_DEVICE_LUN,
}
LINK_STATES = {"up": devices_pb2.LINK_STATE_UP, "down": devices_pb2.LINK_STATE_DOWN}
GRAPHICS_TYPES = {
    "vnc": devices_pb2.GRAPHICS_TYPE_VNC,
    "spice": devices_pb2.GRAPHICS_TYPE_SPICE,
    "rdp": devices_pb2.GRAPHICS_TYPE_RDP,
    "sdl": devices_pb2.GRAPHICS_TYPE_SDL,
    "desktop": devices_pb2.GRAPHICS_TYPE_DESKTOP,
    "egl-headless": devices_pb2.GRAPHICS_TYPE_EGL_HEADLESS,
    "dbus": devices_pb2.GRAPHICS_TYPE_DBUS,
}
LIMITS = {
    "total_bytes_per_second": "total_bytes_sec",
    "read_bytes_per_second": "read_bytes_sec",
    "write_bytes_per_second": "write_bytes_sec",
    "total_operations_per_second": "total_iops_sec",
    "read_operations_per_second": "read_iops_sec",
    "write_operations_per_second": "write_iops_sec",
}
"""The fields of DiskLimits, with the elements of <iotune>."""


def disk_message(disk: DiskConfig) -> devices_pb2.Disk:
    """A disk, without what a request alone has."""
    return devices_pb2.Disk(
        device=DISK_DEVICES.get(disk.device, devices_pb2.DISK_DEVICE_UNSPECIFIED),
        source=source_message(disk.place),
        format=disk.format,
        target=disk.target,
        bus=disk.bus,
        readonly=disk.readonly,
        shareable=disk.shareable,
        serial=disk.serial,
        cache=disk.cache,
        io=disk.io,
        discard=disk.discard,
        alias=disk.alias or "",
        limits=_limits(disk.limits),
        backing_chain=[source_message(link) for link in disk.backing_chain],
        **_numbers(boot_order=disk.boot_order),
    )


def source_message(place: DiskPlace) -> devices_pb2.DiskSource:
    """Where a disk's content is kept."""
    source: dict[str, Any]
    match place.kind:
        case "":
            source = {"empty": devices_pb2.EmptyDisk()}
        case "file" | "block":
            source = {place.kind: place.name}
        case "volume":
            source = {"volume": devices_pb2.VolumeDisk(pool=place.pool, volume=place.name)}
        case "network":
            source = {"network": _network(place)}
        case other:
            source = {"other": other}
    return devices_pb2.DiskSource(format=place.format, **source)


def _network(place: DiskPlace) -> devices_pb2.NetworkDisk:
    hosts = [
        devices_pb2.NetworkDiskHost(name=host.name, transport=host.transport, socket=host.socket, **_numbers(port=host.port)) for host in place.hosts
    ]
    return devices_pb2.NetworkDisk(protocol=place.protocol, name=place.name, hosts=hosts)


def _limits(limits: dict[str, int]) -> devices_pb2.DiskLimits | None:
    known = _numbers(**{field: limits.get(element) for field, element in LIMITS.items()})
    return devices_pb2.DiskLimits(**known) if known else None


def interface_message(interface: InterfaceConfig) -> devices_pb2.Interface:
    """A network interface."""
    return devices_pb2.Interface(
        mac=interface.mac,
        model=interface.model,
        target=interface.target or "",
        link_state=LINK_STATES.get(interface.link, devices_pb2.LINK_STATE_UNSPECIFIED),
        alias=interface.alias or "",
        **_interface_source(interface),
        **_numbers(mtu_bytes=interface.mtu_bytes, vlan_id=interface.vlan_id, boot_order=interface.boot_order),
    )


def _interface_source(interface: InterfaceConfig) -> dict[str, Any]:
    match interface.kind:
        case "network" | "bridge":
            return {interface.kind: interface.source or ""}
        case "direct":
            return {"direct": devices_pb2.DirectInterface(device=interface.source or "", mode=interface.mode)}
        case "user":
            return {"user": devices_pb2.UserInterface()}
        case "ethernet":
            return {"ethernet": devices_pb2.EthernetInterface()}
        case other:
            return {"other": other}


def graphics_message(graphics: GraphicsConfig) -> devices_pb2.Graphics:
    """A screen. Never its password."""
    return devices_pb2.Graphics(
        type=GRAPHICS_TYPES.get(graphics.kind, devices_pb2.GRAPHICS_TYPE_UNSPECIFIED),
        listen_address=graphics.listen_address,
        socket=graphics.socket,
        **_numbers(port=graphics.port, tls_port=graphics.tls_port),
    )


def _numbers(**found: int | None) -> dict[str, Any]:
    return dict(numbers(**found))
