"""The chain of images under a disk of a simulated domain, as its XML tells it."""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree import ElementTree

from virtrpc_drivers.errors import Reason
from virtrpc_drivers.sim.sdk import sdk_error

Element = ElementTree.Element


def disk_of(root: Element, target: str) -> Element:
    """The disk with this target. Raises DEVICE_NOT_FOUND."""
    for disk in root.iterfind("devices/disk"):
        found = disk.find("target")
        if found is not None and found.get("dev") == target:
            return disk
    raise sdk_error(Reason.DEVICE_NOT_FOUND, f"the domain has no disk {target!r}")


def files(disk: Element) -> list[str]:
    """The files of its images, the active one first."""
    return [_file(layer) for layer in _layers(disk)]


def pull(disk: Element, base: str) -> None:
    """Forget what is between the active image and the base; all of it where there is none. Raises INVALID_ARGUMENT."""
    kept = _layer(disk, base) if base else None
    _put_under(disk, kept)


def commit(disk: Element, base: str, top: str) -> None:
    """Drop the images from the top down to the base, which stays. Raises INVALID_ARGUMENT."""
    layers = list(_layers(disk))
    below = _layer(disk, base) if base else layers[-1]
    above = _layer(disk, top) if top else disk
    if layers.index(below) <= layers.index(above):
        raise sdk_error(Reason.INVALID_ARGUMENT, f"invalid argument: there is nothing to commit into {_file(below)!r}")
    if above is disk:
        _be(disk, below)
    else:
        _put_under(layers[layers.index(above) - 1], below)


def move(disk: Element, destination: Element) -> None:
    """Have the disk's image be another, on no others."""
    _be(disk, destination)


def _be(disk: Element, other: Element) -> None:
    for tag in ("source", "driver", "format"):
        found = other.find(tag)
        if found is not None:
            _replace(disk, "driver" if tag == "format" else tag, found)
    _put_under(disk, other.find("backingStore"))


def _replace(disk: Element, tag: str, by: Element) -> None:
    element = disk.find(tag)
    if element is None:
        element = ElementTree.SubElement(disk, tag)
    element.attrib.update(by.attrib)


def _put_under(layer: Element, below: Element | None) -> None:
    for old in layer.findall("backingStore"):
        layer.remove(old)
    if below is not None:
        layer.append(below)


def _layers(disk: Element) -> Iterator[Element]:
    layer: Element | None = disk
    while layer is not None and layer.find("source") is not None:
        yield layer
        layer = layer.find("backingStore")


def _layer(disk: Element, file: str) -> Element:
    for layer in _layers(disk):
        if _file(layer) == file:
            return layer
    raise sdk_error(Reason.INVALID_ARGUMENT, f"invalid argument: could not find image {file!r} beneath the disk")


def _file(layer: Element) -> str:
    source = layer.find("source")
    return "" if source is None else next(iter(source.attrib.values()), "")
