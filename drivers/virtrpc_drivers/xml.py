"""What the server needs to know of a definition before anything is sent: that it is small, harmless and whose it is; and what drivers read in it."""

from __future__ import annotations

import re
import uuid as uuids
from typing import Any
from xml.etree import ElementTree
from xml.parsers import expat

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import DefusedXMLParser

from virtrpc_drivers.errors import DriverError, Reason, failure
from virtrpc_drivers.values import Value

MAX_XML_BYTES = 1 << 20
"""The largest XML text that is accepted, in bytes of UTF-8."""
MAX_NAME = 256
"""Characters of a domain's name, which stands in every list, job and line of a log that is about it."""
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
    name = _text(root, "name")  # with its blanks, which libvirt keeps
    if not name.strip():
        raise failure(Reason.XML_INVALID, "the definition has no <name>")
    if len(name) > MAX_NAME:
        raise failure(Reason.XML_INVALID, f"the definition's <name> has more than {MAX_NAME} characters")
    given = _text(root, "uuid").strip()
    if not given:
        return _with_uuid(xml, root, name)
    try:
        return Definition(uuid=str(uuids.UUID(given)), name=name, xml=xml)
    except ValueError:
        raise failure(Reason.XML_INVALID, f"the definition's <uuid> is not a uuid: {given[:64]!r}") from None


def _text(root: ElementTree.Element, tag: str) -> str:
    """The text of a child that is there once: libvirt would also count what stands in elements inside of it."""
    found = root.findall(tag)
    if len(found) > 1 or any(map(len, found)):
        raise failure(Reason.XML_INVALID, f"the definition's <{tag}> is there several times, or has elements in it")
    return found[0].text or "" if found else ""


def _with_uuid(xml: str, root: ElementTree.Element, name: str) -> Definition:
    fresh = str(uuids.uuid4())
    data, element = xml.encode(), f"<uuid>{fresh}</uuid>".encode()
    start, end = span(data, "name" if root.find("uuid") is None else "uuid")
    end = start if root.find("uuid") is None else end
    # Put into the text: written anew it would lose comments, and the prefixes that applications' metadata may rely on.
    return Definition(uuid=fresh, name=name, xml=(data[:start] + element + data[end:]).decode())


def keeping(text: str, original: str, tag: str) -> str:
    """A document that was written anew, with the root's first child of this tag as it stood in the original, where that can be."""
    new, old = text.encode(), original.encode()
    (start, end), (first, last) = span(new, tag), span(old, tag)
    if start == end or first == last:
        return text
    kept = (new[:start] + old[first:last] + new[end:]).decode()
    try:
        parse(kept)
    except DriverError:  # the original had a prefix that was said outside of it
        return text
    return kept


def span(data: bytes, tag: str) -> tuple[int, int]:
    """Where the root's first child of this tag stands in a document that was parsed before; (0, 0) where there is none."""
    parser = expat.ParserCreate("utf-8")
    depth, found = 0, [0, 0]

    def start(name: str, _attributes: Any) -> None:
        nonlocal depth
        if depth == 1 and name == tag and not found[0]:
            found[0] = parser.CurrentByteIndex
        depth += 1

    def end(name: str) -> None:
        nonlocal depth
        depth -= 1
        if depth == 1 and name == tag and not found[1]:
            opening = _tag(data, found[0])
            found[1] = found[0] + len(opening) if opening.endswith(b"/>") else data.index(b">", parser.CurrentByteIndex) + 1

    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.Parse(data, True)
    # They and it refer to each other, and to the text: see `parse`.
    parser.StartElementHandler = parser.EndElementHandler = None
    return found[0], found[1]


_TAG = re.compile(rb"""<(?:[^>"']|"[^"]*"|'[^']*')*>""")


def _tag(data: bytes, start: int) -> bytes:
    tag = _TAG.match(data, start)
    assert tag is not None
    return tag[0]


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
