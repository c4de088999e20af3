"""A domain's devices as people read them."""

from __future__ import annotations

from virtrpc.cli import text
from virtrpc.cli.session import Session
from virtrpc.v1 import devices_pb2 as d
from virtrpc.v1 import types_pb2 as t


def show(session: Session, domain: t.Domain) -> None:
    """Tables of its disks, interfaces and screens; none of what it has none of."""
    if domain.disks:
        session.table(("DISK", "DEVICE", "BUS", "FORMAT", "SOURCE", "FLAGS"), (_disk(disk) for disk in domain.disks))
    if domain.interfaces:
        session.table(("INTERFACE", "MODEL", "SOURCE", "TARGET", "LINK"), (_interface(link) for link in domain.interfaces))
    if domain.graphics:
        session.table(("SCREEN", "LISTENS ON", "PORT", "TLS PORT"), (_graphics(screen) for screen in domain.graphics))


def _disk(disk: d.Disk) -> tuple[str, ...]:
    flags = [word for word, given in (("readonly", disk.readonly), ("shareable", disk.shareable)) if given]
    kind = text.enum(d.DiskDevice, disk.device)
    return (disk.target, kind, disk.bus or text.NONE, disk.format or text.NONE, source(disk.source), " ".join(flags) or text.NONE)


def source(place: d.DiskSource) -> str:
    """Where a disk's content is."""
    match place.WhichOneof("source"):
        case "file":
            return place.file
        case "block":
            return place.block
        case "network":
            return f"{place.network.protocol}:{place.network.name}"
        case "volume":
            return f"{place.volume.pool}/{place.volume.volume}"
        case "other":
            return f"({place.other})"
        case _:
            return text.NONE


def _interface(link: d.Interface) -> tuple[str, ...]:
    kind = link.WhichOneof("source") or text.NONE
    name = {"network": link.network, "bridge": link.bridge, "direct": link.direct.device, "other": link.other}.get(kind, "")
    return (link.mac, link.model or text.NONE, f"{kind} {name}".strip(), link.target or text.NONE, text.enum(d.LinkState, link.link_state))


def _graphics(screen: d.Graphics) -> tuple[str, ...]:
    kind = text.enum(d.GraphicsType, screen.type)
    return (kind, screen.listen_address or screen.socket or text.NONE, text.number(screen, "port"), text.number(screen, "tls_port"))
