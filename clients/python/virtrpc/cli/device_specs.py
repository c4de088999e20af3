"""Devices as words of the command line: `path=/a.qcow2,format=qcow2,target=vdb`, `network=default,link=down`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import typer

from virtrpc.cli.snapshot_specs import split
from virtrpc.v1 import devices_pb2 as d

_DEVICES = {"disk": d.DISK_DEVICE_DISK, "cdrom": d.DISK_DEVICE_CDROM, "floppy": d.DISK_DEVICE_FLOPPY, "lun": d.DISK_DEVICE_LUN}
_LINKS = {"up": d.LINK_STATE_UP, "down": d.LINK_STATE_DOWN}
_GRAPHICS = {"vnc": d.GRAPHICS_TYPE_VNC, "spice": d.GRAPHICS_TYPE_SPICE}
_FLAGS = {"": True, "yes": True, "on": True, "true": True, "no": False, "off": False, "false": False}

Reader = Callable[[str], dict[str, Any]]
"""What a word's value is of the message."""


def _text(field: str) -> Reader:
    return lambda value: {field: value}


def _number(field: str) -> Reader:
    return lambda value: {field: int(value)}


def _word(field: str, words: dict[str, Any]) -> Reader:
    return lambda value: {field: words[value.lower()]}


def _flag(field: str) -> Reader:
    return _word(field, _FLAGS)


def _network_disk(value: str) -> dict[str, Any]:
    protocol, _, rest = value.partition(":")
    name, _, place = rest.partition("@")
    host, _, port = place.partition(":")
    hosts = [d.NetworkDiskHost(name=host, port=int(port) if port else None)] if host else []
    return {"source": d.DiskSource(network=d.NetworkDisk(protocol=protocol, name=name, hosts=hosts))}


def _volume(value: str) -> dict[str, Any]:
    pool, _, volume = value.partition("/")
    return {"source": d.DiskSource(volume=d.VolumeDisk(pool=pool, volume=volume))}


_DISK: dict[str, Reader] = {
    "path": lambda value: {"source": d.DiskSource(file=value)},
    "block": lambda value: {"source": d.DiskSource(block=value)},
    "network": _network_disk,
    "volume": _volume,
    "empty": lambda _: {"source": d.DiskSource(empty=d.EmptyDisk())},
    "device": _word("device", _DEVICES),
    **{name: _text(name) for name in ("format", "target", "bus", "serial", "cache", "io", "discard", "alias")},
    **{name: _flag(name) for name in ("readonly", "shareable")},
    "boot": _number("boot_order"),
}
_INTERFACE: dict[str, Reader] = {
    "network": _text("network"),
    "bridge": _text("bridge"),
    "direct": lambda value: {"direct": d.DirectInterface(device=value)},
    "user": lambda _: {"user": d.UserInterface()},
    "ethernet": lambda _: {"ethernet": d.EthernetInterface()},
    **{name: _text(name) for name in ("mac", "model", "target", "alias")},
    "mtu": _number("mtu_bytes"),
    "link": _word("link_state", _LINKS),
    "vlan": _number("vlan_id"),
    "boot": _number("boot_order"),
}
_SCREEN: dict[str, Reader] = {
    **{name: _word("type", {"": number}) for name, number in _GRAPHICS.items()},
    "listen": _text("listen_address"),
    "socket": _text("socket"),
    "port": _number("port"),
}
DISK_WORDS = "path=, block=, volume=POOL/NAME, network=PROTOCOL:NAME@HOST, empty, device=cdrom, format=, target=, bus=, readonly, boot=, cache= …"
INTERFACE_WORDS = "network=, bridge=, direct=, user, ethernet, mac=, model=, target=, link=up|down, vlan=, mtu=, boot="


def disk(text: str) -> d.Disk:
    """A disk out of a word."""
    return d.Disk(**_read(text, _DISK))


def interface(text: str) -> d.Interface:
    """An interface out of a word."""
    return d.Interface(**_read(text, _INTERFACE))


def graphics(text: str) -> d.Graphics:
    """A screen out of a word."""
    return d.Graphics(**_read(text, _SCREEN))


def _read(text: str, readers: dict[str, Reader]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for part in split(text):
        key, _, value = part.partition("=")
        if key not in readers:
            raise typer.BadParameter(f"{key!r} is not known here: say {', '.join(readers)}")
        try:
            fields.update(readers[key](value))
        except (KeyError, ValueError):
            raise typer.BadParameter(f"{value!r} is nothing that {key} can be") from None
    return fields
