"""What people and applications have written into a domain's definition."""

from __future__ import annotations

from xml.etree import ElementTree

from virtrpc_drivers.values import Metadata, MetadataElement

Element = ElementTree.Element


def metadata(root: Element) -> Metadata:
    """Title, description and elements of a <domain>; a namespace's first element is its own."""
    elements = {namespace(child): child for child in reversed(root.findall("metadata/*")) if namespace(child)}
    return Metadata(
        title=(root.findtext("title") or "").strip(),
        description=(root.findtext("description") or "").strip(),
        elements=tuple(MetadataElement(uri=uri, xml=_text(child)) for uri, child in reversed(elements.items())),
    )


def with_metadata(root: Element, kind: str, value: str, uri: str) -> None:
    """Set a <domain>'s title, description or element of a namespace, in place; an empty value removes it. Raises as ElementTree.fromstring."""
    if kind != "element":
        _set_text(root, kind, value)
        return
    holder = root.find("metadata")
    if holder is None:
        holder = ElementTree.SubElement(root, "metadata")
    for child in [child for child in holder if namespace(child) == uri]:
        holder.remove(child)
    if value:
        child = ElementTree.fromstring(value)
        # libvirt puts what has no namespace of its own into the one that it is set for.
        if not namespace(child):
            child.tag = f"{{{uri}}}{child.tag}"
        holder.append(child)


def namespace(element: Element) -> str:
    """An element's namespace; empty where it has none."""
    return element.tag[1:].partition("}")[0] if element.tag.startswith("{") else ""


def _set_text(root: Element, tag: str, value: str) -> None:
    for child in root.findall(tag):
        root.remove(child)
    if value:
        ElementTree.SubElement(root, tag).text = value


def _text(element: Element) -> str:
    tail, element.tail = element.tail, None
    try:
        return ElementTree.tostring(element, encoding="unicode")
    finally:
        element.tail = tail
