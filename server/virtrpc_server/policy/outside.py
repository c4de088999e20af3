"""Which parts of a definition reach outside of its guest. Works on values and may run in a thread."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import PurePosixPath
from xml.etree import ElementTree

from virtrpc_drivers import merging
from virtrpc_server.policy import inside
from virtrpc_server.policy.inside import ANY, Shape

Element = ElementTree.Element


def reaching(root: Element, roots: Sequence[str], present: Iterable[Element] = (), *, patch: bool = False) -> list[str]:
    """What reaches outside, in words; empty where nothing does.

    What stands in one of the `present` definitions just so is left out: who may change a domain need not take away what somebody else gave it.
    Of a `patch`, which is merged into the present one, what it says is looked at alone.
    """
    look = _Look(roots, patch=patch)
    found = [(unit, words) for unit, words in _units(look, root) if words]
    if not found:
        return []
    known = {_plain(unit) for definition in present for unit in _parts(definition)}
    return [words for unit, words in found if unit is None or _plain(unit) not in known]


def sharing(root: Element) -> str:
    """What a container shares with its host because its <domain> does not say otherwise, in words; nothing of any other guest."""
    if root.get("type") != "lxc":
        return ""
    if all(target.get("dir") != "/" for target in root.iterfind("devices/filesystem/target")):
        return "the host's root directory, for want of a <filesystem> at /"
    alone = root.find("devices/interface") is not None or root.find("features/privnet") is not None
    return "" if alone else "the host's network, for want of an <interface> or <privnet>"


def below_any(path: str, roots: Iterable[str]) -> bool:
    """Whether a path lies below one of the roots, by its text."""
    place = PurePosixPath(path)
    return ".." not in place.parts and any(place != root and place.is_relative_to(root) for root in map(PurePosixPath, roots))


def _units(look: _Look, root: Element) -> Iterator[tuple[Element | None, str]]:
    if root.tag == "domain":
        yield from _of_domain(look, root)
    elif root.tag in (inside.DEVICES.children or ()):
        yield root, look.device(root)
    elif root.tag in inside.IMAGES:
        for child in root:
            # A snapshot that is described anew brings the definitions of its domain.
            yield from _of_domain(look, child) if child.tag in ("domain", "inactiveDomain") else [(child, look.image(child, root.tag))]
    else:
        yield root, f"<{_tag(root)}>"


def _of_domain(look: _Look, root: Element) -> Iterator[tuple[Element | None, str]]:
    yield None, look.attributes(root)
    for child in root:
        if child.tag == "devices":
            yield None, look.attributes(child)
            for device in child:
                yield device, look.device(device)
        elif child.tag == merging.THEN and look.patch:
            for later in child:
                yield from _of_domain(look, later)
        elif child.tag != "metadata" and _plain(child) != _BY_ITSELF:
            yield child, look.within(child, inside.DOMAIN, "domain")


def _parts(definition: Element) -> Iterator[Element]:
    for child in definition:
        if child.tag == "devices":
            yield from child
        else:
            yield child


def _plain(unit: Element) -> str:
    """The element however it is written."""
    parts = [unit.tag, (unit.text or "").strip(), *(f"{name}={value!r}" for name, value in sorted(unit.attrib.items()))]
    return "<{} {}>".format(" ".join(parts), "".join(map(_plain, unit)))


_BY_ITSELF = _plain(ElementTree.fromstring("<resource><partition>/machine</partition></resource>"))
"""The place among control groups that every guest gets, which libvirt writes into the images of saved ones."""


def _tag(element: Element) -> str:
    return element.tag.rpartition("}")[2] if not element.tag.startswith("{") else element.tag[1:].replace("}", " ")


class _Look:
    """Looks at parts of a definition; each answer is what reaches outside first, in words, or nothing."""

    def __init__(self, roots: Sequence[str], *, patch: bool) -> None:
        self._roots = roots
        self.patch = patch

    def device(self, element: Element) -> str:
        """A device."""
        return self.within(element, inside.DEVICES, element.tag) or self._of_kind(element)

    def image(self, element: Element, root: str) -> str:
        """A child of what describes storage. A backup's server may listen on a socket in the roots, and nowhere else."""
        if element.tag == "server" and element.get("transport") != "unix":
            return "a <server> on the network"
        return self.within(element, inside.IMAGES[root], root)

    def within(self, element: Element, shape: Shape, where: str) -> str:
        """An element among those that its parent may have, with what it holds; `where` is the device or the document that it is part of."""
        if element.tag == merging.THEN and self.patch:
            return self._first(self.device(child) for child in element)
        if element.tag.startswith("{") or (shape.children is not None and element.tag not in shape.children):
            return f"<{_tag(element)}>"
        below = ANY if shape.children is None else shape.children[element.tag]
        return (
            self.attributes(element)
            or self._text(element)
            or self._source(element, where)
            or self._first(self.within(child, below, where) for child in element)
        )

    def attributes(self, element: Element) -> str:
        """Its attributes: none has a namespace, none is a path outside the roots, and none reaches the host's device itself."""
        for name, value in element.attrib.items():
            if name.startswith("{"):
                # libvirt takes an attribute by its name, whatever its prefix.
                if not self.patch or name not in (merging.ACTION, merging.WITHOUT):
                    return f"{name} of <{_tag(element)}>"
            elif name in inside.REFUSED or (element.tag not in inside.IN_THE_GUEST and self._leads_out(value, path=name in inside.PATHS)):
                return f"{name}={value!r} of <{_tag(element)}>"
        return ""

    def _text(self, element: Element) -> str:
        text = (element.text or "").strip()
        known = element.tag in inside.IN_THE_GUEST or text in inside.RANDOM
        return "" if known or not self._leads_out(text, path=element.tag in inside.PATH_TEXTS) else f"{text!r} in <{_tag(element)}>"

    def _leads_out(self, text: str, *, path: bool) -> bool:
        """Whether this is a path that does not lie below one of the roots. What must be a `path` may not be a relative one."""
        plain = text.strip()
        if not plain.startswith("/"):
            return path and bool(plain)
        return not below_any(plain, self._roots)

    def _source(self, element: Element, where: str) -> str:
        """What only some elements inside of devices have."""
        match element.tag:
            case "source" if where in inside.SOURCES:
                # A patch may be one of an interface that is in a bridge already.
                others = element.attrib.keys() - inside.SOURCES[where] | {name for name in element.attrib if self.patch and name == "bridge"}
                return f"{min(others)} of <source>" if others else ""
            case "backingStore" if len(element):
                return self._type(element, "disk")
            case "listen":
                return self._type(element, "listen")
            case _:
                return ""

    def _of_kind(self, element: Element) -> str:
        """What only devices of its kind have."""
        words = self._type(element, element.tag) if element.tag in inside.TYPES else ""
        match element.tag:
            case "disk" if element.get("device") == "lun":
                return "<disk device='lun'>"
            case "serial" | "parallel" | "console" | "channel":
                return words or self._connects(element)
            case "rng":
                return self._backend(element, "model", ("random", "builtin"))
            case "tpm":
                return self._backend(element, "type", ("emulator",))
            case _:
                return words

    def _type(self, element: Element, kind: str) -> str:
        given = element.get("type", "" if self.patch else inside.DEFAULT_TYPES.get(kind, ""))
        silent = self.patch and not given
        return "" if silent or given in inside.TYPES[kind] else f"<{element.tag} type={given!r}>"

    def _backend(self, element: Element, attribute: str, allowed: Sequence[str]) -> str:
        for backend in element.findall("backend"):
            given = backend.get(attribute, "")
            if given not in allowed and not (self.patch and not given):
                return f"<backend {attribute}={given!r}> of <{element.tag}>"
        return ""

    def _connects(self, element: Element) -> str:
        """Whether it connects to a socket that somebody else has, instead of listening at one of its own."""
        sockets = element.get("type") == "unix" or (self.patch and "type" not in element.attrib)
        modes = [source.get("mode", "") for source in element.findall("source")] if sockets else []
        return f"a socket that <{element.tag}> connects to" if any(mode != "bind" for mode in modes) else ""

    @staticmethod
    def _first(words: Iterable[str]) -> str:
        return next((each for each in words if each), "")
