"""Which files an operation has a hypervisor read and write. Works on values and may run in a thread."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple
from xml.etree import ElementTree

from virtrpc_drivers import merging
from virtrpc_drivers import operations as op
from virtrpc_drivers.device_xml import attribute
from virtrpc_server.policy import inside

Element = ElementTree.Element

_READ_ONLY = frozenset({"kernel", "initrd", "dtb", "table", "template"})
"""Elements and attributes whose files are only read."""
_IMAGES = (op.CreateSnapshot, op.CopyBlock, op.Backup)
"""What describes storage in XML of its own: drivers find the files in it."""


class Use(NamedTuple):
    """A file, and what is to be done with it."""

    path: str
    writes: bool = True
    format: str = "raw"
    """As virtrpc_drivers.values.NamedFile."""
    backing: bool = True
    described: bool = True
    """By a definition or a device, where a file outside the roots needs ReachOutside; what a verb itself names, its driver refuses there."""
    asked: bool = True
    """Whether the request names it; else only what it leads to is new."""
    opened: bool = False
    """Whether a guest gets it at once."""


def named(operation: op.AnyOperation) -> Iterator[Use]:
    """What a verb itself names. Raises DriverError for XML that must not be sent."""
    follows = isinstance(operation, _IMAGES) and operation.reuse_external
    plain = frozenset(operation.no_images)
    for path in operation.files:
        image = "" if follows and path not in plain else "raw"
        yield Use(path, writes=not isinstance(operation, op.Restore), format=image, described=False)


def described(operation: op.AnyOperation, roots: Iterable[Element], present: Sequence[Element], *, elsewhere: bool = False) -> Iterator[Use]:
    """What the definitions and devices of an operation name, but for what the domain's `present` definitions have just so.

    A patch of a device is looked at as what it makes of the present ones. To a host `elsewhere` a domain takes all that it has.
    """
    if isinstance(operation, op.CommitBlock):
        yield from _committed(operation, present)
    if isinstance(operation, op.Start | op.RevertToSnapshot):
        # Whoever described them was asked then; what their images lead to may be new.
        yield from (use._replace(asked=False) for root in (*present[-1:], *roots) for use in of_element(root))
        return
    if isinstance(operation, _IMAGES):
        return
    had = set() if elsewhere else {use for root in present for use in of_element(root)}
    whole = list(roots) or (list(present) if elsewhere else [])
    if isinstance(operation, op.UpdateDevice) and operation.merge:
        whole = [changed for patch in whole for changed in _changed(patch, present)]
    for use in (use for root in whole for use in of_element(root)):
        if use not in had and use._replace(writes=True) not in had:
            yield use


def opens(operation: op.AnyOperation) -> bool:
    """Whether a guest gets at once what an operation describes: what is only stored is looked at again when it starts."""
    return isinstance(operation, op.Start | op.Create | op.Restore) or getattr(operation, "scope", op.Scope.CONFIG) is not op.Scope.CONFIG


def declared(present: Iterable[Element]) -> frozenset[str]:
    """All files that a domain's definitions name."""
    return frozenset(use.path for root in present for use in of_element(root))


def of_element(root: Element) -> Iterator[Use]:
    """The files of a <domain> or a device, or of the domains in a <domainsnapshot>."""
    if root.tag == "domain":
        for child in root:
            if child.tag == "devices":
                for device in child:
                    yield from of_element(device)
            elif child.tag != "metadata":
                yield from _plain(child)
    elif root.tag == "domainsnapshot":
        yield from (use for child in root if child.tag in ("domain", "inactiveDomain") for use in of_element(child))
    elif root.tag == "disk":
        yield from _of_disk(root)
    else:
        yield from _plain(root, writes=root.tag != "filesystem" or root.find("readonly") is None)


def _of_disk(disk: Element) -> Iterator[Use]:
    writes = disk.find("readonly") is None and disk.get("device") != "cdrom"
    yield from _layer(disk, attribute(disk, "driver", "type"), writes=writes)
    for child in disk:
        if child.tag not in ("source", "backingStore"):
            yield from _plain(child)


def _layer(layer: Element, image: str | None, *, writes: bool) -> Iterator[Use]:
    """A disk's image with those behind it that are told. libvirt takes one of which no format is told for raw."""
    below = layer.find("backingStore")
    for source in layer.findall("source"):
        for use in _plain(source):
            yield use._replace(writes=writes, format=image or "raw", backing=below is None)
    if below is not None:
        yield from _layer(below, attribute(below, "format", "type"), writes=False)


def _plain(element: Element, *, writes: bool = True) -> Iterator[Use]:
    """Whatever is an absolute path, as outside.py takes it."""
    if element.tag not in inside.IN_THE_GUEST:
        texts = [(name, value) for name, value in element.attrib.items()] + [(element.tag, element.text or "")]
        for name, text in texts:
            path = text.strip()
            if path.startswith("/") and path not in inside.RANDOM:
                yield Use(path, writes=writes and name not in _READ_ONLY and not _is_rom(element))
    for child in element:
        yield from _plain(child, writes=writes and element.tag not in _READ_ONLY)


def _is_rom(element: Element) -> bool:
    return element.tag == "loader" and element.get("readonly") != "no"


def _changed(patch: Element, present: Iterable[Element]) -> Iterator[Element]:
    meant = [found for root in present for devices in root.findall("devices") if (found := merging.device(devices, patch)) is not None]
    yield from (merging.merged(device, patch) for device in meant)
    if not meant:
        yield merging.plain(patch)


def _committed(operation: op.CommitBlock, present: Iterable[Element]) -> Iterator[Use]:
    """The images that a commit writes to: those behind the active one, down to the base."""
    for disk in (disk for root in present for disk in root.iterfind("devices/disk") if attribute(disk, "target", "dev") == operation.disk):
        layer = disk.find("backingStore")
        while layer is not None:
            found = [use for source in layer.findall("source") for use in _plain(source)]
            yield from found
            if operation.base and operation.base in (f"{operation.disk}[{layer.get('index')}]", *(use.path for use in found)):
                break
            layer = layer.find("backingStore")
