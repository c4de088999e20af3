"""Devices out of a domain's XML, as values: the same for every driver."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from xml.etree import ElementTree

from virtrpc_drivers.values import DiskConfig, DiskPlace, GraphicsConfig, InterfaceConfig, NetworkHost
from virtrpc_drivers.xml import integer

Element = ElementTree.Element

_DISK_NAMES = ("file", "dev", "dir", "volume", "name", "path")
_INTERFACE_NAMES = ("network", "bridge", "dev", "path", "name")
LIMITS = ("total_bytes_sec", "read_bytes_sec", "write_bytes_sec", "total_iops_sec", "read_iops_sec", "write_iops_sec")
"""The limits of <iotune> that have a typed form."""
MAX_CHAIN = 64
"""Links of a backing chain that are told: a chain may nest as deep as XML may."""


@dataclass(frozen=True)
class Devices:
    """The devices of a domain that have a typed form."""

    disks: tuple[DiskConfig, ...]
    interfaces: tuple[InterfaceConfig, ...]
    graphics: tuple[GraphicsConfig, ...]


def devices(xml: str) -> Devices:
    """The devices in a domain's XML, which libvirt wrote."""
    return of_domain(ElementTree.fromstring(xml))


def of_domain(root: Element) -> Devices:
    """The devices of a <domain>."""
    return Devices(
        disks=tuple(disk(found) for found in root.iterfind("devices/disk")),
        interfaces=tuple(interface(found) for found in root.iterfind("devices/interface")),
        graphics=tuple(graphics(found) for found in root.iterfind("devices/graphics")),
    )


def disk(element: Element) -> DiskConfig:
    """One <disk>."""
    source = element.find("source")
    return DiskConfig(
        target=attribute(element, "target", "dev") or "",
        source=_first(source, _DISK_NAMES),
        device=element.get("device", "disk"),
        alias=attribute(element, "alias", "name"),
        place=_place(element.get("type", "file"), source),
        format=attribute(element, "driver", "type") or "",
        bus=attribute(element, "target", "bus") or "",
        readonly=element.find("readonly") is not None,
        shareable=element.find("shareable") is not None,
        serial=(element.findtext("serial") or "").strip(),
        cache=attribute(element, "driver", "cache") or "",
        io=attribute(element, "driver", "io") or "",
        discard=attribute(element, "driver", "discard") or "",
        boot_order=integer(attribute(element, "boot", "order")),
        limits={name: limit for name in LIMITS if (limit := integer(element.findtext(f"iotune/{name}"))) is not None},
        backing_chain=tuple(_backing(element)),
    )


def _place(kind: str, source: Element | None, format: str = "") -> DiskPlace:
    name = _first(source, _DISK_NAMES)
    if source is None or (name is None and kind in ("file", "block", "dir", "volume")):
        return DiskPlace()
    return DiskPlace(
        kind=kind,
        name=name or "",
        pool=source.get("pool", ""),
        protocol=source.get("protocol", ""),
        hosts=tuple(_host(host) for host in source.iterfind("host")),
        format=format,
    )


def _host(host: Element) -> NetworkHost:
    return NetworkHost(name=host.get("name", ""), port=integer(host.get("port")), transport=host.get("transport", ""), socket=host.get("socket", ""))


def _backing(disk: Element) -> Iterator[DiskPlace]:
    link = disk.find("backingStore")
    for _ in range(MAX_CHAIN):
        if link is None or link.find("source") is None:
            return
        yield _place(link.get("type", "file"), link.find("source"), attribute(link, "format", "type") or "")
        link = link.find("backingStore")


def interface(element: Element) -> InterfaceConfig:
    """One <interface>."""
    source, tags = element.find("source"), element.findall("vlan/tag")
    return InterfaceConfig(
        mac=attribute(element, "mac", "address") or "",
        target=attribute(element, "target", "dev"),
        source=_first(source, _INTERFACE_NAMES),
        alias=attribute(element, "alias", "name"),
        kind=element.get("type", ""),
        mode=source.get("mode", "") if source is not None else "",
        model=attribute(element, "model", "type") or "",
        mtu_bytes=integer(attribute(element, "mtu", "size")),
        link=attribute(element, "link", "state") or "",
        vlan_id=integer(tags[0].get("id")) if len(tags) == 1 else None,
        boot_order=integer(attribute(element, "boot", "order")),
    )


def graphics(element: Element) -> GraphicsConfig:
    """One <graphics>, without its password."""
    return GraphicsConfig(
        kind=element.get("type", ""),
        listen_address=element.get("listen") or attribute(element, "listen", "address") or "",
        socket=element.get("socket") or attribute(element, "listen", "socket") or "",
        port=_port(element.get("port")),
        tls_port=_port(element.get("tlsPort")),
    )


def attribute(element: Element, child: str, name: str) -> str | None:
    """An attribute of the first child of that name."""
    found = element.find(child)
    return found.get(name) if found is not None else None


def _first(element: Element | None, names: tuple[str, ...]) -> str | None:
    return None if element is None else next((element.get(name) for name in names if element.get(name)), None)


def _port(text: str | None) -> int | None:
    port = integer(text)
    return port if port is not None and port > 0 else None
