"""Reading libvirt's domain and snapshot XML. What libvirt wrote is parsed plainly; what callers wrote came through `virtrpc_drivers.xml`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from xml.etree import ElementTree

from virtrpc_drivers.merging import ANY_DEVICE
from virtrpc_drivers.xml import integer, memory_bytes, parse

Element = ElementTree.Element

_KEYS = (("alias", "name"), ("target", "dev"), ("mac", "address"))
"""What names a device, in the order in which libvirt goes by it."""
_NOT_NUMBERS = frozenset({"type", "multifunction"})
"""The attributes of an address that say nothing of where it is."""


HIDDEN = "*****"
_PASSWORD = re.compile(r"(<graphics\b[^>]*\spasswd=')[^']*(')")
_COOKIE = re.compile(r"(<cookie\b[^>]*>)[^<]*(</cookie>)")


@dataclass(frozen=True)
class Sizes:
    """Memory in bytes, and virtual CPUs, as a definition states them."""

    os_type: str | None
    memory_bytes: int | None
    max_memory_bytes: int | None
    vcpus: int | None
    vcpus_maximum: int | None
    domain_type: str | None = None
    """The hypervisor, as definitions name it."""


def sizes(xml: str) -> Sizes:
    """Memory and CPUs of a domain's XML."""
    root = ElementTree.fromstring(xml)
    maximum = memory_bytes(root.find("memory"))
    vcpu = root.find("vcpu")
    vcpus_maximum = integer(vcpu.text) if vcpu is not None else None
    current = integer(vcpu.get("current")) if vcpu is not None else None
    return Sizes(
        domain_type=root.get("type"),
        os_type=(root.findtext("os/type") or "").strip() or None,
        memory_bytes=memory_bytes(root.find("currentMemory")) or maximum,
        max_memory_bytes=maximum,
        vcpus=current or vcpus_maximum,
        vcpus_maximum=vcpus_maximum,
    )


def without_secrets(xml: str) -> str:
    """A text that libvirt wrote WITH secrets, as it writes it without: the migratable form carries passwords and cookies even unasked."""
    return _COOKIE.sub(rf"\1{HIDDEN}\2", _PASSWORD.sub(rf"\1{HIDDEN}\2", xml))


def alias_of(domain_xml: str, device_xml: str) -> str | None:
    """The alias, in the running domain's XML, of the device that the given XML means; None where none fits."""
    device = matching(domain_xml, device_xml)
    return _alias(device) if device is not None else None


def matching(domain_xml: str, device_xml: str) -> Element | None:
    """The device of a domain that the given device XML means.

    By what libvirt goes by itself: a user's alias, a disk's target, an interface's MAC. Where the XML names none of these, the
    first device of its kind that has all it says.
    """
    wanted = parse(device_xml)
    candidates = _of_kind(domain_xml, wanted)
    key = _key(wanted)
    if key is not None:
        return _with_key(candidates, wanted, key)
    return next((device for device in candidates if contains(device, wanted)), None)


def identified(domain_xml: str, device_xml: str) -> Element | None:
    """The device that can be no other: found by its alias, target or MAC, or by a whole address of its own."""
    wanted = parse(device_xml)
    candidates = _of_kind(domain_xml, wanted)
    key = _key(wanted)
    if key is not None:
        return _with_key(candidates, wanted, key)
    return next((device for device in candidates if _same_address(device, wanted) and contains(device, wanted)), None)


def only_one(domain_xml: str, device_xml: str) -> Element | None:
    """The only device of the given one's kind; None where there are more, or none."""
    candidates = _of_kind(domain_xml, parse(device_xml))
    return candidates[0] if len(candidates) == 1 else None


def _of_kind(domain_xml: str, wanted: Element) -> list[Element]:
    return ElementTree.fromstring(domain_xml).findall(f"devices/{'*' if wanted.tag == ANY_DEVICE else wanted.tag}")


def _key(wanted: Element) -> tuple[str, str] | None:
    return next((key for key in _KEYS if _attribute(wanted, *key) is not None), None)


def _with_key(candidates: list[Element], wanted: Element, key: tuple[str, str]) -> Element | None:
    value = (_attribute(wanted, *key) or "").lower()
    return next((device for device in candidates if (_attribute(device, *key) or "").lower() == value), None)


def _same_address(device: Element, wanted: Element) -> bool:
    """Whether the guest's or the host's address was named in full: a part of one ("on this bus") fits others as well."""
    for path in ("address", "source/address"):
        shown, named = device.find(path), wanted.find(path)
        if shown is not None and named is not None:
            numbers = set(shown.attrib) - _NOT_NUMBERS
            if numbers and all(shown.get(number) == named.get(number) for number in numbers):
                return True
    return False


def element(xml: str) -> Element:
    """The root element of an XML text. Raises DriverError as `virtrpc_drivers.xml.parse`."""
    return parse(xml)


def contains(whole: Element, part: Element) -> bool:
    """Whether every attribute, text and child of `part` stands in `whole` as well, at the same place; sizes compare in bytes."""
    if whole.tag != part.tag or not _same_text(whole, part):
        return False
    if any(name != "unit" and whole.get(name) != value for name, value in part.attrib.items()):
        return False
    return all(any(contains(mine, theirs) for mine in whole.iterfind(theirs.tag)) for theirs in part)


def _same_text(whole: Element, part: Element) -> bool:
    wanted = (part.text or "").strip()
    if not wanted or wanted == (whole.text or "").strip():
        return True
    return part.tag.lower().endswith("memory") and memory_bytes(part) is not None and memory_bytes(part) == memory_bytes(whole)


def _alias(device: Element) -> str | None:
    return _attribute(device, "alias", "name")


def _attribute(element: Element, child: str, name: str) -> str | None:
    found = element.find(child)
    return found.get(name) if found is not None else None
