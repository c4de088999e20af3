"""What the server needs to know of a definition before anything is sent: that it is small, harmless and whose it is; and what drivers read in it."""

from __future__ import annotations

import re
import uuid as uuids
from xml.etree import ElementTree

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import DefusedXMLParser

from virtrpc_drivers.errors import Reason, failure
from virtrpc_drivers.values import Value

MAX_XML_BYTES = 1 << 20
"""The largest XML text that is accepted, in bytes of UTF-8."""
MAX_XML_DEPTH = 256
"""How deep elements may be nested: ElementTree writes XML recursively, and no definition comes near."""

LARGEST = (1 << 63) - 1
"""The largest number that the contract's fields hold."""

_NUMBER = re.compile(r"[+-]?[0-9]{1,19}")
_UNITS = {
    "b": 1, "bytes": 1, "kb": 10**3, "k": 2**10, "kib": 2**10, "mb": 10**6, "m": 2**20, "mib": 2**20,
    "gb": 10**9, "g": 2**30, "gib": 2**30, "tb": 10**12, "t": 2**40, "tib": 2**40,
    "pb": 10**15, "p": 2**50, "pib": 2**50, "eb": 10**18, "e": 2**60, "eib": 2**60,
}  # fmt: skip


class Definition(Value, frozen=True):
    """The identity that an XML definition claims, and the text to send (which always has a uuid)."""

    uuid: str
    name: str
    xml: str


def parse(xml: str, *roots: str) -> ElementTree.Element:
    """Parse untrusted XML whose root element must be one of `roots` (any where none is given).

    Raises DriverError: XML_TOO_LARGE above MAX_XML_BYTES; XML_INVALID where it is not well-formed, has a document type or
    entities, another root, or elements deeper than MAX_XML_DEPTH.
    """
    if len(xml) > MAX_XML_BYTES or len(xml.encode(errors="replace")) > MAX_XML_BYTES:
        raise failure(Reason.XML_TOO_LARGE, f"the XML is larger than {MAX_XML_BYTES} bytes")
    try:
        root = _parsed(xml)
    except DefusedXmlException:
        raise failure(Reason.XML_INVALID, "the XML has a document type or entities, which are not accepted") from None
    except (ElementTree.ParseError, ValueError) as error:
        # The parser's error stands in a frame of its own traceback: such a circle would keep the text until a collection, and those are rare.
        error.__traceback__ = None
        raise failure(Reason.XML_INVALID, f"the XML is not well-formed: {error}") from None
    if roots and root.tag not in roots:
        raise failure(Reason.XML_INVALID, f"the XML's root element is <{root.tag}>, expected <{'> or <'.join(roots)}>")
    if _deeper_than(root, MAX_XML_DEPTH):
        raise failure(Reason.XML_INVALID, f"the XML's elements are nested deeper than {MAX_XML_DEPTH} levels")
    return root


def _parsed(xml: str) -> ElementTree.Element:
    parser = DefusedXMLParser(target=ElementTree.TreeBuilder(), forbid_dtd=True)
    try:
        parser.feed(xml)
        root: ElementTree.Element = parser.close()
        return root
    finally:
        # It and its handlers refer to each other, and to what was parsed: see `parse`.
        vars(parser).clear()


def _deeper_than(root: ElementTree.Element, depth: int) -> bool:
    level = [root]
    for _ in range(depth):
        level = [child for element in level for child in element]
    return bool(level)


def definition(xml: str) -> Definition:
    """The identity of a domain definition; one without a uuid is given a random one. Raises as `parse`, and XML_INVALID without a name."""
    root = parse(xml, "domain")
    name = (root.findtext("name") or "").strip()
    if not name:
        raise failure(Reason.XML_INVALID, "the definition has no <name>")
    given = (root.findtext("uuid") or "").strip()
    if not given:
        return _with_uuid(root, name)
    try:
        return Definition(uuid=str(uuids.UUID(given)), name=name, xml=xml)
    except ValueError:
        raise failure(Reason.XML_INVALID, f"the definition's <uuid> is not a uuid: {given[:64]!r}") from None


def _with_uuid(root: ElementTree.Element, name: str) -> Definition:
    for empty in root.findall("uuid"):
        root.remove(empty)
    fresh = str(uuids.uuid4())
    element = ElementTree.Element("uuid")
    element.text = fresh
    root.insert(0, element)
    return Definition(uuid=fresh, name=name, xml=ElementTree.tostring(root, encoding="unicode"))


def integer(text: str | None) -> int | None:
    """The whole number that an element or an attribute holds; None where it is none, or one that no field holds."""
    plain = (text or "").strip()
    return _fitting(int(plain)) if _NUMBER.fullmatch(plain) else None


def memory_bytes(element: ElementTree.Element | None) -> int | None:
    """An element such as <memory unit='KiB'>, in bytes; None where it states no size, or one that no field holds.

    libvirt's unit where none is named is KiB.
    """
    if element is None:
        return None
    number, unit = integer(element.text), _UNITS.get(element.get("unit", "KiB").strip().lower())
    return None if number is None or unit is None else _fitting(number * unit)


def _fitting(number: int) -> int | None:
    return number if -LARGEST <= number <= LARGEST else None
