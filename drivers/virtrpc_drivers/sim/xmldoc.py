"""Definitions as the simulated hypervisor keeps them: immutable documents, parsed when somebody looks inside."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from virtrpc_drivers import merging
from virtrpc_drivers.device_xml import of_domain
from virtrpc_drivers.errors import DriverError, Reason
from virtrpc_drivers.metadata import metadata, with_metadata
from virtrpc_drivers.sim import bounds
from virtrpc_drivers.sim.sdk import sdk_error
from virtrpc_drivers.values import DomainConfig, Metadata
from virtrpc_drivers.xml import integer, memory_bytes, parse

Element = ElementTree.Element

_MOST_VCPUS = 2**16 - 1

_TEMPLATE = """<domain type='sim'>
  <name>{name}</name>
  <uuid>{uuid}</uuid>
  <memory unit='KiB'>{memory}</memory>
  <currentMemory unit='KiB'>{memory}</currentMemory>
  <vcpu placement='static'>{vcpus}</vcpu>
  <os>
    <type arch='x86_64' machine='sim'>hvm</type>
  </os>
  <devices>
    <disk type='file' device='disk'>
      <source file='/var/lib/sim/{name}.img'/>
      <target dev='vda' bus='virtio'/>
    </disk>
    <interface type='bridge'>
      <mac address='{mac}'/>
      <source bridge='br0'/>
      <target dev='sim{number}'/>
    </interface>
  </devices>
</domain>
"""


class Document:
    """One definition. Nothing changes it: an edit makes another."""

    def __init__(self, text: str) -> None:
        self.text = text

    @classmethod
    def made(cls, *, number: int, name: str, uuid: str, memory_bytes: int, vcpus: int) -> Document:
        """The definition of the guest with this number."""
        mac = f"52:54:00:{number >> 16 & 255:02x}:{number >> 8 & 255:02x}:{number & 255:02x}"
        return cls(_TEMPLATE.format(name=escape(name), uuid=uuid, memory=memory_bytes >> 10, vcpus=vcpus, mac=mac, number=number))

    @classmethod
    def of(cls, root: Element) -> Document:
        """The definition with this root, which its maker changes no more."""
        return _document(root)

    @classmethod
    def given(cls, text: str) -> Document:
        """A definition as somebody wrote it. Raises DriverError (XML_INVALID), also for numbers that cannot be."""
        document = cls(text)
        bounds.check(document._root)
        return document

    @cached_property
    def _root(self) -> Element:
        return parse(self.text, "domain")

    def copy(self) -> Element:
        """The parsed document, free to be changed."""
        return parse(self.text, "domain")

    @property
    def name(self) -> str:
        """The domain's name."""
        return self._root.findtext("name") or ""

    @cached_property
    def config(self) -> DomainConfig:
        """All that it says, except what depends on the domain's state."""
        root, found = self._root, of_domain(self._root)
        maximum = _memory(root, "memory") or 0
        vcpu = root.find("vcpu")
        maximum_vcpus = _vcpus(vcpu.text or "1") if vcpu is not None else 1
        return DomainConfig(
            xml=self.text,
            os_type=(root.findtext("os/type") or "hvm").strip(),
            memory_bytes=_memory(root, "currentMemory") or maximum,
            max_memory_bytes=maximum,
            vcpus_config=_vcpus(vcpu.get("current") or str(maximum_vcpus)) if vcpu is not None else maximum_vcpus,
            vcpus_maximum=maximum_vcpus,
            disks=found.disks,
            interfaces=found.interfaces,
            graphics=found.graphics,
        )

    def public(self) -> Document:
        """The document without secrets."""
        if "passwd" not in self.text and "<cookies" not in self.text:
            return self
        root = self.copy()
        for element in root.iter():
            element.attrib.pop("passwd", None)
            for cookies in element.findall("cookies"):
                element.remove(cookies)
        return _document(root)

    def named(self, name: str) -> Document:
        """The same guest under another name."""
        root = self.copy()
        _child(root, "name").text = name
        return _document(root)

    def with_memory(self, size: int, *, maximum: bool) -> Document:
        """With another memory size in bytes: the current one, or the maximum (which lowers the current one where it must)."""
        root = self.copy()
        current = self.config.memory_bytes or 0
        changed = {"memory": size, "currentMemory": min(size, current)} if maximum else {"currentMemory": size}
        for tag, value in changed.items():
            element = _child(root, tag)
            element.text, element.attrib = str(-(-value >> 10)), {"unit": "KiB"}
        return _readable(root)

    @cached_property
    def metadata(self) -> Metadata:
        """What people and applications have written into it."""
        return metadata(self._root)

    def with_metadata(self, kind: str, value: str, uri: str) -> Document:
        """With a title, a description or an element. Raises DriverError (XML_INVALID)."""
        if kind == "element" and value:
            parse(value)
        root = self.copy()
        with_metadata(root, kind, value, uri)
        return _checked(root)

    def with_vcpus(self, number: int, *, maximum: bool) -> Document:
        """With another number of processors: the present one, or the maximum (which lowers the present one where it must)."""
        root = self.copy()
        element = _child(root, "vcpu")
        most = number if maximum else self.config.vcpus_maximum or 1
        present = min(self.config.vcpus_config or 1, number) if maximum else number
        element.text = str(most)
        element.set("current", str(present))
        return _readable(root)

    def with_stats_period(self, seconds: int) -> Document:
        """With another period of the balloon's reports."""
        root = self.copy()
        balloon = _child(_child(root, "devices"), "memballoon")
        balloon.attrib.setdefault("model", "virtio")
        _child(balloon, "stats").set("period", str(seconds))
        return _document(root)

    def edited(self, change: Callable[[Element], None]) -> Document:
        """With whatever the change does to its elements."""
        root = self.copy()
        change(root)
        return _checked(root)

    def attach(self, xml: str) -> Document:
        """With one more device. Raises DriverError: XML_INVALID; ALREADY_EXISTS where it has that device."""
        device = parse(xml)
        root = self.copy()
        devices = _child(root, "devices")
        if any(_same(device, other) for other in devices):
            raise sdk_error(Reason.ALREADY_EXISTS, f"the domain has this {device.tag} already")
        if device.tag == "interface" and device.find("mac") is None:
            ElementTree.SubElement(device, "mac", address=_free_mac(devices))
        devices.append(device)
        return _checked(root)

    def detach(self, xml: str) -> Document:
        """Without a device. Raises DriverError: XML_INVALID; DEVICE_NOT_FOUND."""
        root = self.copy()
        devices = _child(root, "devices")
        device = parse(xml)
        devices.remove(_meant(devices, device) if device.tag == merging.ANY_DEVICE else _found(devices, device))
        return _document(root)

    def update(self, xml: str, *, merge: bool = False) -> Document:
        """With a device replaced, or with what is said of it merged into it. Raises as `detach`."""
        device = parse(xml)
        root = self.copy()
        devices = _child(root, "devices")
        if merge:
            found = _meant(devices, device)
            devices[list(devices).index(found)] = merging.merged(found, device)
        else:
            devices[list(devices).index(_found(devices, device))] = device
        return _checked(root)


def _document(root: Element) -> Document:
    return Document(ElementTree.tostring(root, encoding="unicode"))


def _checked(root: Element) -> Document:
    """Read at once: what grew too large or too deep is refused now, not where somebody looks inside later."""
    return Document.given(ElementTree.tostring(root, encoding="unicode"))


def _readable(root: Element) -> Document:
    """Sizes that no definition can have are refused now: nothing could be read of what had them."""
    document = _document(root)
    try:
        _ = document.config
    except DriverError as error:
        raise sdk_error(Reason.INVALID_ARGUMENT, f"invalid argument: {error.fault.message}") from None
    return document


def _child(root: Element, tag: str) -> Element:
    child = root.find(tag)
    return ElementTree.SubElement(root, tag) if child is None else child


def _memory(root: Element, tag: str) -> int | None:
    element = root.find(tag)
    if element is None or not (element.text or "").strip():
        return None
    size = memory_bytes(element)
    if size is None or size < 0:
        raise sdk_error(Reason.XML_INVALID, f"<{tag}> is not a memory size")
    return size


def _vcpus(text: str) -> int:
    number = integer(text) or 0
    if not 1 <= number <= _MOST_VCPUS:
        raise sdk_error(Reason.XML_INVALID, "<vcpu> is not a number of virtual CPUs")
    return number


def _attribute(element: Element, path: str, *names: str) -> str | None:
    child = element.find(path)
    return None if child is None else next((value for name in names if (value := child.get(name))), None)


def _key(device: Element) -> tuple[str, str | None]:
    match device.tag:
        case "disk":
            return device.tag, _attribute(device, "target", "dev")
        case "interface":
            return device.tag, _attribute(device, "mac", "address")
        case _:
            return device.tag, _attribute(device, "alias", "name") or ElementTree.canonicalize(ElementTree.tostring(device), strip_text=True)


def _same(one: Element, other: Element) -> bool:
    return _key(one) == _key(other) and _key(one)[1] is not None


def _found(devices: Element, device: Element) -> Element:
    found = next((other for other in devices if _same(device, other)), None)
    if found is None:
        raise sdk_error(Reason.DEVICE_NOT_FOUND, f"the domain has no such {device.tag}")
    return found


def _meant(devices: Element, patch: Element) -> Element:
    found = merging.device(devices, patch)
    if found is None:
        raise sdk_error(Reason.DEVICE_NOT_FOUND, f"the domain has no {merging.meaning(patch)}")
    return found


def _free_mac(devices: Element) -> str:
    taken = {_attribute(other, "mac", "address") for other in devices.iterfind("interface")}
    return next(mac for number in range(1 << 16) if (mac := f"52:54:01:00:{number >> 8:02x}:{number & 255:02x}") not in taken)
