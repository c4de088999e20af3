"""Snapshot definitions: the typed form as libvirt's XML, and a name for those that have none."""

from __future__ import annotations

from xml.etree import ElementTree

from virtrpc.v1 import job_pb2
from virtrpc_drivers.xml import parse

LOCATIONS = {
    job_pb2.SNAPSHOT_LOCATION_NONE: "no",
    job_pb2.SNAPSHOT_LOCATION_INTERNAL: "internal",
    job_pb2.SNAPSHOT_LOCATION_EXTERNAL: "external",
}


def build(definition: job_pb2.SnapshotDefinition) -> str:
    """The <domainsnapshot> of a typed definition; what it leaves unset libvirt decides."""
    root = ElementTree.Element("domainsnapshot")
    for tag, text in (("name", definition.name), ("description", definition.description)):
        if text:
            ElementTree.SubElement(root, tag).text = text
    if definition.memory_location in LOCATIONS:
        memory = ElementTree.SubElement(root, "memory", snapshot=LOCATIONS[definition.memory_location])
        if definition.memory_path:
            memory.set("file", definition.memory_path)
    disks = ElementTree.SubElement(root, "disks") if definition.disks else None
    for disk in definition.disks if disks is not None else ():
        element = ElementTree.SubElement(disks, "disk", name=disk.device)  # type: ignore[arg-type]  # not None where there are disks
        if disk.location in LOCATIONS:
            element.set("snapshot", LOCATIONS[disk.location])
        if disk.path:
            ElementTree.SubElement(element, "source", file=disk.path)
    return ElementTree.tostring(root, encoding="unicode")


def named(xml: str, fallback: str, tag: str = "domainsnapshot") -> tuple[str, str]:
    """The name of a snapshot (or of what else has this tag), and its XML with it. Raises DriverError as `parse` does."""
    root = parse(xml, tag)
    element = root.find("name")
    if element is None:
        element = ElementTree.Element("name")
        root.insert(0, element)
    name = (element.text or "").strip()
    if name:
        return name, xml
    element.text = fallback
    return fallback, ElementTree.tostring(root, encoding="unicode")
