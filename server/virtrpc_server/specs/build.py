"""What all typed forms are made into XML with."""

from __future__ import annotations

from dataclasses import dataclass
from xml.etree import ElementTree

from virtrpc_drivers import merging
from virtrpc_drivers import xml as xmls
from virtrpc_drivers.errors import DriverError
from virtrpc_server.errors import Refusal, problem_of
from virtrpc_server.orders.common import invalid

Element = ElementTree.Element


@dataclass(frozen=True)
class Site:
    """What a new domain gets where nothing is said: by the hypervisor's type as definitions name it, and the guest's processor."""

    type: str = ""
    arch: str = ""

    @property
    def emulates(self) -> bool:
        """Whether it is QEMU, whose guests have what PCs have."""
        return self.type in ("qemu", "kvm")


def put(parent: Element, tag: str, text: str | None = None, /, **attributes: str | int | None) -> Element:
    """Add a child with those attributes that have a value. A trailing underscore of a name is Python's, not XML's."""
    child = ElementTree.SubElement(parent, tag, given(**attributes))
    child.text = text
    return child


def given(**attributes: str | int | None) -> dict[str, str]:
    """The attributes that have a value."""
    return {name.rstrip("_"): str(value) for name, value in attributes.items() if value not in (None, "")}


def put_if(parent: Element, tag: str, **attributes: str | int | None) -> None:
    """Add a child if any of its attributes has a value."""
    if given(**attributes):
        put(parent, tag, **attributes)


def put_flag(parent: Element, tag: str, flag: bool | None) -> None:
    """An empty element for yes, its removal for no; nothing for None."""
    if flag is not None:
        child = put(parent, tag)
        if not flag:
            child.set(merging.ACTION, merging.REMOVE)


def take_away(parent: Element, tag: str) -> None:
    """Have a child of this tag removed, where there is one."""
    put(parent, tag).set(merging.ACTION, merging.REMOVE)


def boot_order(parent: Element, order: int | None, field: str) -> None:
    """A device's place in the order of boot devices."""
    if order is not None:
        if order < 1:
            raise invalid(field, "counts from 1")
        put(parent, "boot", order=order)


def finished(element: Element, field: str, *, patch: bool) -> str:
    """The text to send. Raises XML_INVALID (characters that XML cannot hold), XML_TOO_LARGE, INVALID_ARGUMENT."""
    if sum(1 for _ in element.iter()) > merging.MAX_ELEMENTS:
        raise invalid(field, f"it makes more than {merging.MAX_ELEMENTS} XML elements")
    text = merging.text(element if patch else merging.plain(element))
    parsed(text, field)
    return text


def parsed(text: str, field: str, *roots: str) -> Element:
    """What a caller wrote, parsed. Raises XML_INVALID, XML_TOO_LARGE."""
    try:
        return xmls.parse(text, *roots)
    except DriverError as error:
        raise Refusal(problem_of(error.fault, field=field)) from None
