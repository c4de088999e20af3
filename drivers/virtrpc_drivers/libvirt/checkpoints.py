"""Checkpoints: what libvirt keeps of them."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

import libvirt
from msgspec.structs import replace

from virtrpc_drivers.errors import Reason, failure
from virtrpc_drivers.values import Checkpoint, Checkpoints
from virtrpc_drivers.xml import integer


def of_domain(connection: Any, uuid: str) -> Checkpoints:
    """All checkpoints of a domain (virDomainListAllCheckpoints)."""
    described = [describe(handle) for handle in connection.lookupByUUIDString(uuid).listAllCheckpoints(0)]
    parents = [checkpoint.parent for checkpoint in described]
    return Checkpoints(checkpoints=tuple(replace(checkpoint, children=parents.count(checkpoint.name)) for checkpoint in described))


def describe(handle: Any) -> Checkpoint:
    """One checkpoint, by its XML without the domain's."""
    root = ElementTree.fromstring(handle.getXMLDesc(libvirt.VIR_DOMAIN_CHECKPOINT_XML_NO_DOMAIN))
    disks = [disk for disk in root.iterfind("disks/disk") if disk.get("checkpoint") != "no"]
    return Checkpoint(
        name=root.findtext("name") or handle.getName(),
        parent=root.findtext("parent/name"),
        description=root.findtext("description"),
        creation_time=integer(root.findtext("creationTime")) or None,
        disks=tuple(disk.get("name", "") for disk in disks),
    )


def named(domain: Any, name: str) -> Checkpoint | None:
    """The checkpoint of this name, where it is there."""
    handles = {handle.getName(): handle for handle in domain.listAllCheckpoints(0)}
    return describe(handles[name]) if name in handles else None


def find_absent(domain: Any, name: str) -> None:
    """Raises ALREADY_EXISTS: libvirt's own word for it is that of any failure."""
    if name in [handle.getName() for handle in domain.listAllCheckpoints(0)]:
        raise failure(Reason.ALREADY_EXISTS, f"the domain has a checkpoint {name!r} already")


def xml(connection: Any, uuid: str, name: str, *, size: bool) -> str:
    """virDomainCheckpointGetXMLDesc. libvirt gives the sizes only without the domain's definition."""
    handle = connection.lookupByUUIDString(uuid).checkpointLookupByName(name, 0)
    flags = libvirt.VIR_DOMAIN_CHECKPOINT_XML_SIZE | libvirt.VIR_DOMAIN_CHECKPOINT_XML_NO_DOMAIN if size else 0
    return str(handle.getXMLDesc(flags))
