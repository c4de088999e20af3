"""Merging one XML description into another: what the patch says is changed, and everything else is kept.

The rules, which docs/devices.md tells users:
- Attributes and texts of the patch replace those of the base; children are merged one by one.
- A child is matched by what it is known by (`_IDENTITIES`: a disk by its target, an interface by its MAC …). One that does not say what
  it is known by, or is of a kind that has nothing, means the base's one at its place: the first of its kind the first, and so on.
- What matches nothing is added.
- A <source> that says another thing than the base's replaces it whole, with what was known of the old one's backing chain. So do lists (`_LISTS`).
- Two attributes of a namespace of ours say what cannot be said so: `action` (remove, replace, append) and `without` (names of attributes).
- An element of that namespace, `then`, holds a patch of its own, which is merged after the one that it stands in.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree

from virtrpc_drivers.xml import keeping, parse

Element = ElementTree.Element

MAX_ELEMENTS = 10_000
"""A patch has no more elements: merging must not take long."""

NAMESPACE = "urn:virtrpc:merge:1"
ACTION = f"{{{NAMESPACE}}}action"
WITHOUT = f"{{{NAMESPACE}}}without"
REMOVE = "remove"
REPLACE = "replace"
APPEND = "append"
THEN = f"{{{NAMESPACE}}}then"
ANY_DEVICE = "device"
"""The tag of a patch that means a device of any kind, by its alias."""

_IDENTITIES: dict[str, tuple[tuple[str, str, str], ...]] = {
    "disk": (("target", "dev", ""),),
    "interface": (("mac", "address", ""),),
    "graphics": ((".", "type", ""),),
    "controller": ((".", "type", ""), (".", "index", "0")),
    "channel": (("target", "name", ""),),
    "filesystem": (("target", "dir", ""),),
    "input": ((".", "type", ""), (".", "bus", "")),
    "feature": ((".", "name", ""),),
    "timer": ((".", "name", ""),),
}
"""What elements are known by: child (or the element itself), attribute, and the value where it does not say."""
_LISTS = frozenset({("os", "boot"), ("os", "initarg"), ("vlan", "tag")})
"""(parent, child): said anew as a whole."""
_OF_A_SOURCE = ("backingStore", "mirror")
_OF_A_CPU_MODE = ("model", "vendor", "feature")
_KEYS = (("alias", "name"), ("target", "dev"), ("mac", "address"))


def merged(base: Element, patch: Element) -> Element:
    """A copy of the base with what the patch says."""
    result = copy.deepcopy(base)
    for part in _parts(patch):
        _merge(result, part)
    return result


def followed(patch: Element, later: Element) -> Element:
    """The patch, and then another one: what either takes away or replaces is seen in what it is merged into, not in the other."""
    result = copy.deepcopy(patch)
    ElementTree.SubElement(result, THEN).append(later)
    return result


def plain(patch: Element) -> Element:
    """The patch as a description of its own: without removals and marks."""
    result, *later = map(copy.deepcopy, _parts(patch))
    _unmark(result)
    for part in later:
        _merge(result, part)
    return result


def applied(whole: Element, patch: Element) -> bool:
    """Whether all that the patch says is so: merging it would change nothing."""
    *before, last = _parts(patch)
    return _applied(whole, last) and (not before or text(merged(whole, patch)) == text(whole))


def _applied(whole: Element, patch: Element) -> bool:
    if whole.tag != patch.tag or not _same_text(whole, patch) or any(name in whole.attrib for name in _without(patch)):
        return False
    if any(whole.get(name) != value for name, value in _attributes(patch)):
        return False
    return all(
        found is None if child.get(ACTION) == REMOVE else found is not None and _applied(found, child) for child, found in _pairs(whole, patch)
    )


def merged_text(base: str, patch: Element) -> str:
    """The text of a description with what the patch says; where it says nothing of metadata, that of applications stays to the letter."""
    whole = text(merged(parse(base), patch))
    return whole if next(patch.iter("metadata"), None) is not None else keeping(whole, base, "metadata")


def device(devices: Element, patch: Element) -> Element | None:
    """The device that a patch means: by its alias, else its target, else its MAC; a screen by its type; else the only one of its kind."""
    fitting = [found for found in devices if patch.tag in (ANY_DEVICE, found.tag)]
    stated = [(child, name, value.lower()) for child, name in _KEYS if (value := _attribute(patch, child, name))]
    if stated:
        # An alias that libvirt gave belongs to the running domain: in the stored definition the same device is known by the others.
        found = (other for key in stated for other in fitting if (_attribute(other, *key[:2]) or "").lower() == key[2])
        return next(found, None)
    if patch.tag == "graphics":
        fitting = [found for found in fitting if found.get("type") == patch.get("type")]
    return fitting[0] if len(fitting) == 1 else None


def meaning(patch: Element) -> str:
    """What a patch means, for people. Nothing else of it: it may hold a password."""
    names = [value for child, name in _KEYS if (value := _attribute(patch, child, name))]
    kind = f"{patch.get('type', '')} {patch.tag}".strip() if patch.tag == "graphics" else patch.tag
    return f"{kind} {' '.join(names)}" if names else f"{kind}, or several, and none is named"


def text(element: Element) -> str:
    """The XML of an element."""
    return ElementTree.tostring(element, encoding="unicode")


def _parts(patch: Element) -> list[Element]:
    """The patch itself, and those that follow it."""
    first = Element(patch.tag, patch.attrib)
    first.text = patch.text
    first.extend(child for child in patch if child.tag != THEN)
    return [first, *(later for holder in patch.iterfind(THEN) for later in holder)]


def _merge(base: Element, patch: Element) -> None:
    if base.tag == "cpu" and patch.get("mode") not in (None, base.get("mode")):
        _drop(base, _OF_A_CPU_MODE)
    for name in _without(patch):
        base.attrib.pop(name, None)
    base.attrib.update(_attributes(patch))
    if (patch.text or "").strip():
        base.text = patch.text
    _drop(base, [child.tag for child in patch if (patch.tag, child.tag) in _LISTS])
    for child, found in list(_pairs(base, patch)):
        _merge_child(base, child, found)


def _merge_child(base: Element, child: Element, found: Element | None) -> None:
    action = child.get(ACTION)
    if child.tag == "source" and found is not None and (action == REMOVE or not _applied(found, child)):
        _drop(base, _OF_A_SOURCE)
        action = action or REPLACE
    if found is None:
        if action != REMOVE:
            base.append(plain(child))
    elif action == REMOVE:
        base.remove(found)
    elif action == REPLACE:
        base[list(base).index(found)] = plain(child)
    else:
        _merge(found, child)


def _pairs(base: Element, patch: Element) -> Iterator[tuple[Element, Element | None]]:
    """The patch's children, each with the base's that it means. What is known by something goes first, so that its place is not another's."""
    known = {(child.tag, _identity(child)): child for child in reversed(base)}
    places: dict[str, deque[Element]] = {}
    for child in base:
        places.setdefault(child.tag, deque()).append(child)
    taken: set[int] = set()
    for child in sorted(patch, key=lambda child: _identity(child) is None):
        found = None if child.get(ACTION) == APPEND else _meant(child, known, places.get(child.tag, deque()), taken)
        if found is not None:
            taken.add(id(found))
        yield child, found


def _meant(child: Element, known: dict[Any, Element], place: deque[Element], taken: set[int]) -> Element | None:
    identity = _identity(child)
    if identity is not None:
        found = known.get((child.tag, identity))
        return found if found is not None and id(found) not in taken else None
    while place:
        found = place.popleft()
        if id(found) not in taken:
            return found
    return None


def _identity(element: Element) -> tuple[str, ...] | None:
    if element.tag == "hostdev":
        return _host_device(element)
    keys = _IDENTITIES.get(element.tag)
    if keys is None:
        return None
    values = tuple((_attribute(element, child, name) or default).lower() for child, name, default in keys)
    return values if all(values) else None


def _host_device(element: Element) -> tuple[str, ...] | None:
    source = element.find("source")
    parts = [] if source is None else [part for place in source.iter() for part in (place.tag, *sorted(map("=".join, place.attrib.items())))]
    return tuple(parts) or None


def _drop(base: Element, tags: list[str] | tuple[str, ...]) -> None:
    for child in [child for child in base if child.tag in tags]:
        base.remove(child)


def _unmark(element: Element) -> None:
    element.attrib.pop(ACTION, None)
    element.attrib.pop(WITHOUT, None)
    for child in list(element):
        if child.get(ACTION) == REMOVE:
            element.remove(child)
        else:
            _unmark(child)


def _attributes(patch: Element) -> list[tuple[str, str]]:
    return [(name, value) for name, value in patch.attrib.items() if name not in (ACTION, WITHOUT)]


def _without(patch: Element) -> list[str]:
    return patch.get(WITHOUT, "").split()


def _same_text(whole: Element, patch: Element) -> bool:
    wanted = (patch.text or "").strip()
    return not wanted or wanted == (whole.text or "").strip()


def _attribute(element: Element, child: str, name: str) -> str | None:
    found = element.find(child)
    return found.get(name) if found is not None else None
