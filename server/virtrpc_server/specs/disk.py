"""Disks: from the typed form to XML."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Set
from itertools import count
from xml.etree import ElementTree

from virtrpc.v1 import devices_pb2
from virtrpc_drivers.values import DiskConfig, DiskPlace
from virtrpc_server.messages.devices import DISK_DEVICES, LIMITS
from virtrpc_server.orders.common import invalid
from virtrpc_server.specs.build import Element, Site, boot_order, given, put, put_flag, put_if, take_away

_DEVICES = {number: name for name, number in DISK_DEVICES.items()}
_PREFIXES = {"virtio": "vd", "xen": "xvd", "ide": "hd", "fdc": "fd"}
_PREFIX = "sd"
_BUSES = {"xen": "xen", "vmware": "scsi", "vbox": "ide"}
"""How hard disks are connected, by the hypervisor's type; virtio elsewhere."""
_PCS = ("", "i686", "x86_64")


def new_disk(disk: devices_pb2.Disk, site: Site, taken: set[str], field: str, there: Set[str] = frozenset()) -> Element:
    """A disk that is to be added; one without a target gets the first that is neither taken nor there, and `taken` has it then."""
    device = _DEVICES.get(disk.device, "disk")
    bus = disk.bus or ("" if disk.target else _usual_bus(device, site))
    target = disk.target or next(name for name in _names(_PREFIXES.get(bus, _PREFIX)) if name not in taken and name not in there)
    if disk.target in taken:
        raise invalid(f"{field}.target", f"there are two disks {target!r}")
    if disk.source.WhichOneof("source") is None and device in ("disk", "lun"):
        raise invalid(f"{field}.source", "a hard disk needs a source: only a drive can be empty")
    taken.add(target)
    element = ElementTree.Element("disk", type="file", device=device)
    _say(element, disk, target, bus, field)
    return element


def target_of(disk: devices_pb2.Disk, present: Iterable[DiskConfig], said: Set[str]) -> str:
    """Which of the disks that are there one without a target means, but for those that were said before; empty where it means none.

    The one with its source. A drive of which no source is said is the first drive of its kind.
    """
    key = _key_of(disk.source)
    for other in present:
        means = _key(other.place) == key if key else other.device == _DEVICES.get(disk.device) and other.device not in ("disk", "lun")
        if means and other.target not in said:
            return other.target
    return ""


def _key_of(source: devices_pb2.DiskSource) -> tuple[str, ...]:
    match source.WhichOneof("source"):
        case "file":
            return ("file", source.file)
        case "block":
            return ("block", source.block)
        case "network":
            return ("network", source.network.protocol, source.network.name)
        case "volume":
            return ("volume", source.volume.pool, source.volume.volume)
        case _:
            return ()


def _key(place: DiskPlace) -> tuple[str, ...]:
    return tuple(part for part in (place.kind, place.protocol, place.pool, place.name) if part)


def changed_disk(disk: devices_pb2.Disk, field: str, target: str = "") -> Element:
    """What is to be different about a disk that is there; `target` is its, where the disk itself says none."""
    if not disk.target and not disk.alias and not target:
        raise invalid(f"{field}.target", "say which disk: its target or its alias")
    element = ElementTree.Element("disk", given(device=_DEVICES.get(disk.device)))
    if disk.alias:
        put(element, "alias", name=disk.alias)
    _say(element, disk, disk.target or target, disk.bus, field)
    return element


def _say(element: Element, disk: devices_pb2.Disk, target: str, bus: str, field: str) -> None:
    put_if(element, "driver", type=disk.format, cache=disk.cache, io=disk.io, discard=disk.discard)
    _say_source(element, disk.source, f"{field}.source")
    put_if(element, "target", dev=target, bus=bus)
    _say_limits(element, disk.limits, f"{field}.limits")
    put_flag(element, "readonly", disk.readonly if disk.HasField("readonly") else None)
    put_flag(element, "shareable", disk.shareable if disk.HasField("shareable") else None)
    if disk.serial:
        put(element, "serial", disk.serial)
    boot_order(element, disk.boot_order if disk.HasField("boot_order") else None, f"{field}.boot_order")


def _say_source(element: Element, source: devices_pb2.DiskSource, field: str) -> None:
    match source.WhichOneof("source"):
        case "file":
            element.set("type", "file")
            put(element, "source", file=_some(source.file, field, "file"))
        case "block":
            element.set("type", "block")
            put(element, "source", dev=_some(source.block, field, "block"))
        case "volume":
            element.set("type", "volume")
            volume = source.volume
            put(element, "source", pool=_some(volume.pool, field, "volume.pool"), volume=_some(volume.volume, field, "volume.volume"))
        case "network":
            element.set("type", "network")
            _say_network(element, source.network, f"{field}.network")
        case "empty":
            take_away(element, "source")
        case "other" if element.get("type"):
            raise invalid(f"{field}.other", f"a source of type {source.other!r} has no typed form: give the device as XML")
        case _:
            pass


def _say_network(element: Element, network: devices_pb2.NetworkDisk, field: str) -> None:
    source = put(element, "source", protocol=_some(network.protocol, field, "protocol"), name=network.name)
    for host in network.hosts:
        put(source, "host", name=host.name, port=host.port if host.HasField("port") else None, transport=host.transport, socket=host.socket)


def _say_limits(element: Element, limits: devices_pb2.DiskLimits, field: str) -> None:
    said = [(name, tag) for name, tag in LIMITS.items() if limits.HasField(name)]  # type: ignore[arg-type] # the table's keys are its fields
    if not said:
        return
    tune = put(element, "iotune")
    for name, tag in said:
        limit: int = getattr(limits, name)
        if limit < 0:
            raise invalid(f"{field}.{name}", "must not be negative")
        put(tune, tag, str(limit))


def _some(text: str, field: str, name: str) -> str:
    if not text:
        raise invalid(f"{field}.{name}", "must not be empty")
    return text


def _usual_bus(device: str, site: Site) -> str:
    if device == "floppy":
        return "fdc"
    if device in ("cdrom", "lun") and site.type not in _BUSES:
        return "sata" if device == "cdrom" and site.arch in _PCS else "scsi"
    return _BUSES.get(site.type, "virtio")


def _names(prefix: str) -> Iterator[str]:
    """vda to vdz, vdaa and so on."""
    for number in count():
        letters, rest = "", number
        while rest >= 0:
            letters, rest = chr(ord("a") + rest % 26) + letters, rest // 26 - 1
        yield prefix + letters
