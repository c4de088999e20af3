"""Snapshots: what libvirt keeps of them."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

import libvirt
from msgspec.structs import replace

from virtrpc_drivers.libvirt.readings import optional
from virtrpc_drivers.values import Snapshot, Snapshots
from virtrpc_drivers.xml import integer


def of_domain(connection: Any, uuid: str) -> Snapshots:
    """All snapshots, parents before children (virDomainListAllSnapshots, TOPOLOGICAL)."""
    domain = connection.lookupByUUIDString(uuid)
    current = current_name(domain)
    described = [describe(handle, current) for handle in _handles(domain)]
    children: dict[str, int] = {}
    for snapshot in described:
        if snapshot.parent is not None:
            children[snapshot.parent] = children.get(snapshot.parent, 0) + 1
    return Snapshots(snapshots=tuple(_parents_first([replace(snapshot, children=children.get(snapshot.name, 0)) for snapshot in described])))


def _handles(domain: Any) -> list[Any]:
    try:
        found: list[Any] = domain.listAllSnapshots(0)
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_NO_SUPPORT:
            raise
        # ESX and VirtualBox know only names.
        found = [domain.snapshotLookupByName(name, 0) for name in domain.snapshotListNames(0)]
    return found


def _parents_first(snapshots: list[Snapshot]) -> list[Snapshot]:
    ordered: list[Snapshot] = []
    known: set[str | None] = {None}
    names = {snapshot.name for snapshot in snapshots}
    waiting = snapshots
    while waiting:
        ready = [snapshot for snapshot in waiting if snapshot.parent in known or snapshot.parent not in names]
        if not ready:
            return ordered + waiting
        ordered += ready
        known |= {snapshot.name for snapshot in ready}
        waiting = [snapshot for snapshot in waiting if snapshot.name not in known]
    return ordered


def current_name(domain: Any) -> str | None:
    """The current snapshot's name, or None (virDomainHasCurrentSnapshot, virDomainSnapshotCurrent)."""
    if not domain.hasCurrentSnapshot(0):
        return None
    name: str = domain.snapshotCurrent(0).getName()
    return name


def xml(connection: Any, uuid: str, name: str) -> str:
    """One snapshot's XML without secrets. Raises libvirt's error 72 where there is none of that name."""
    text: str = connection.lookupByUUIDString(uuid).snapshotLookupByName(name, 0).getXMLDesc(0)
    return text


def describe(handle: Any, current: str | None = None) -> Snapshot:
    """One snapshot from its XML; `children` is left 0."""
    root = ElementTree.fromstring(handle.getXMLDesc(0))
    name = root.findtext("name") or handle.getName()
    state = root.findtext("state")
    places = [disk.get("snapshot") for disk in root.iterfind("disks/disk")]
    memory = root.find("memory")
    places.append(memory.get("snapshot") if memory is not None else None)
    return Snapshot(
        name=name,
        parent=root.findtext("parent/name"),
        current=name == current if current is not None else bool(optional(lambda: handle.isCurrent(0))),
        has_metadata=optional(lambda: handle.hasMetadata(0)) != 0,
        description=root.findtext("description"),
        state=state,
        creation_time=integer(root.findtext("creationTime")) or None,
        external="external" in places,
        disk_only=state == "disk-snapshot",
    )
