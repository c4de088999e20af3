"""Which files the XML of a snapshot, a block copy or a backup names. libvirt opens them with its own rights, so that none may be missed.

libvirt takes every child of <disks> for a disk, whatever it is called, and finds files well below it. So every element is looked at; what names
no file of the host but leads elsewhere is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree import ElementTree

from virtrpc_drivers.errors import Reason, failure
from virtrpc_drivers.xml import parse

Element = ElementTree.Element

_FILES = ("file", "dev", "dir", "path", "socket", "keyfile", "agentsock")
_ELSEWHERE = frozenset({"network", "volume", "nvme", "vhostuser", "vhostvdpa"})
"""libvirt's types of storage that are no file, directory or block device of the host."""
_NOT_READ = {"domainsnapshot": ("domain", "inactiveDomain"), "disk": ("target",)}
"""Children of a root that are no storage: a snapshot's domain, which libvirt reads only to redefine one; a disk's name in the guest."""


def files(xml: str, root: str) -> tuple[str, ...]:
    """The files, block devices and sockets that XML with this root element names.

    Raises DriverError as `virtrpc_drivers.xml.parse`, and XML_INVALID for namespaces and for children of <disks> that are no <disk>;
    PATH_NOT_ALLOWED for what a network, a pool or a device that is not a block device stores.
    """
    elements = list(_storage(parse(xml, root)))
    for element in elements:
        _check(element)
    return tuple(element.attrib[name] for element in elements for name in _FILES if name in element.attrib)


def _storage(root: Element) -> Iterator[Element]:
    yield root
    for child in root:
        if child.tag not in _NOT_READ.get(root.tag, ()):
            yield from child.iter()


def _check(element: Element) -> None:
    # libvirt takes the first attribute of a name whatever its prefix: x:file before file.
    if any(name.startswith("{") for name in (element.tag, *element.attrib)):
        raise failure(Reason.XML_INVALID, f"leave out XML namespaces, such as that of {element.tag!r}: nothing of a disk image has one")
    if element.tag == "disks" and any(child.tag != "disk" for child in element):
        raise failure(Reason.XML_INVALID, "each child of <disks> must be a <disk>")
    kind = element.get("type")
    if kind in _ELSEWHERE or element.tag == "host":
        shown = f"<{element.tag} type={kind!r}>" if kind else f"<{element.tag}>"
        raise failure(Reason.PATH_NOT_ALLOWED, f"{shown} is not accepted: name a file or block device below a directory that this server allows")
