"""A domain's labels: one element of its metadata, which rules may speak of and few may set.

<metadata>
  <v:labels xmlns:v="urn:virtrpc:labels:1"><v:label name="team" value="red"/></v:labels>
</metadata>
"""

from __future__ import annotations

from collections.abc import Iterable
from xml.etree import ElementTree

from virtrpc_drivers.errors import DriverError
from virtrpc_drivers.metadata import namespace
from virtrpc_drivers.values import DomainConfig, Metadata
from virtrpc_drivers.xml import parse

LABELS_URI = "urn:virtrpc:labels:1"
Labels = tuple[tuple[str, str], ...]
"""Pairs of name and value, in order of name."""
NONE: Labels = ()
SEVERAL: Labels = (("", "several elements"),)
"""Those of what is no plain definition: never the ones that a domain has."""

UNREAD: Labels = (("", "not read yet"),)
"""Those of a domain whose definition was not read yet. Where rules speak of labels, only what they say of all domains alike holds for it."""

Element = ElementTree.Element


def labels_of(config: DomainConfig | None) -> Labels:
    """Those of the stored definition, or of the running domain where nothing is stored: what an old memory image brings back counts for nothing."""
    if config is None:
        return NONE
    return _of_metadata(config.metadata if config.inactive_metadata is None else config.inactive_metadata)


def labels_as_running(config: DomainConfig | None) -> Labels:
    """Those of the running domain, which count once nothing is stored of it any more; of one that is off the stored ones."""
    return NONE if config is None else _of_metadata(config.metadata)


def labels_in(root: Element) -> Labels:
    """Those that a <domain> has."""
    if len(root.findall("metadata")) > 1:
        return SEVERAL  # libvirt keeps the first
    return _merged(child for child in root.findall("metadata/*") if namespace(child) == LABELS_URI)


def labels_of_element(xml: str) -> Labels:
    """Those of the element itself; none where it is empty or cannot be read."""
    if not xml:
        return NONE
    try:
        return _merged([parse(xml)])
    except DriverError:
        return NONE


def _of_metadata(metadata: Metadata) -> Labels:
    for element in metadata.elements:
        if element.uri == LABELS_URI:
            return labels_of_element(element.xml)
    return NONE


def _merged(elements: Iterable[Element]) -> Labels:
    found = list(elements)
    if len(found) > 1:
        return SEVERAL  # libvirt keeps the first of a namespace
    return tuple(sorted({child.get("name", ""): child.get("value", "") for element in found for child in element if _is_label(child)}.items()))


def _is_label(element: Element) -> bool:
    return element.tag.rpartition("}")[2] == "label" and bool(element.get("name"))
