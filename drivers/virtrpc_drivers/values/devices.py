"""The devices of a definition; words and numbers are libvirt's."""

from __future__ import annotations

import msgspec

from virtrpc_drivers.values.base import Value


class NetworkHost(Value, frozen=True, omit_defaults=True):
    """A server that a network disk is kept on."""

    name: str = ""
    port: int | None = None
    transport: str = ""
    socket: str = ""


class DiskPlace(Value, frozen=True, omit_defaults=True):
    """Where a disk's content is kept. `kind` is libvirt's type: file, block, network, volume …; empty for a drive without its medium."""

    kind: str = ""
    name: str = ""
    """The path; the image's or export's name; the volume."""
    pool: str = ""
    protocol: str = ""
    hosts: tuple[NetworkHost, ...] = ()
    format: str = ""
    """Of a link of a backing chain; a disk's own is the disk's."""


class DiskConfig(Value, frozen=True, omit_defaults=True):
    """One disk of a definition; words and numbers are libvirt's, empty or None where it does not say."""

    target: str
    source: str | None = None
    device: str = "disk"
    alias: str | None = None
    place: DiskPlace = DiskPlace()
    format: str = ""
    bus: str = ""
    readonly: bool = False
    shareable: bool = False
    serial: str = ""
    cache: str = ""
    io: str = ""
    discard: str = ""
    boot_order: int | None = None
    limits: dict[str, int] = msgspec.field(default_factory=dict)
    """<iotune>'s elements: total_bytes_sec, read_iops_sec …"""
    backing_chain: tuple[DiskPlace, ...] = ()


class InterfaceConfig(Value, frozen=True, omit_defaults=True):
    """One network interface of a definition; `target` is the host's tap where it is known."""

    mac: str
    target: str | None = None
    source: str | None = None
    alias: str | None = None
    kind: str = ""
    """libvirt's type: network, bridge, direct, user, ethernet …"""
    mode: str = ""
    model: str = ""
    mtu_bytes: int | None = None
    link: str = ""
    vlan_id: int | None = None
    boot_order: int | None = None


class GraphicsConfig(Value, frozen=True, omit_defaults=True):
    """One screen of a definition, without its password."""

    kind: str
    listen_address: str = ""
    socket: str = ""
    port: int | None = None
    tls_port: int | None = None
