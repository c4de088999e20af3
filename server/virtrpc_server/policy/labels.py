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

Element = ElementTree.Element


def labels_of(config: DomainConfig | None) -> Labels:
    """Those of the stored definition, or of the running domain where nothing is stored: what an old memory image brings back counts for nothing."""
    if config is None:
        return NONE
    return _of_metadata(config.metadata if config.inactive_metadata is None else config.inactive_metadata)


def labels_in(root: Element) -> Labels:
    """Those that a <domain> has."""
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
    # libvirt keeps the first element of a namespace. What has two of them is no plain definition, and is never taken for having the labels of one.
    found = list(elements)
    pairs = {_name(child): child.get("value", "") for element in found[:1] for child in element if _is_label(child)}
    if len(found) > 1:
        pairs[""] = "several elements"
    return tuple(sorted(pairs.items()))


def _is_label(element: Element) -> bool:
    return element.tag.rpartition("}")[2] == "label" and bool(element.get("name"))


def _name(element: Element) -> str:
    return element.get("name", "")
