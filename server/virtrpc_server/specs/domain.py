"""Definitions: from the typed form to XML."""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree import ElementTree

from virtrpc.v1 import spec_pb2
from virtrpc_drivers import merging
from virtrpc_drivers.device_xml import Devices
from virtrpc_server.messages.devices import GRAPHICS_TYPES
from virtrpc_server.orders.common import invalid
from virtrpc_server.specs.boot import put_os
from virtrpc_server.specs.build import Element, Site, parsed, put, put_if
from virtrpc_server.specs.disk import changed_disk, new_disk, target_of
from virtrpc_server.specs.graphics import changed_graphics, new_graphics
from virtrpc_server.specs.interface import changed_interface, new_interface
from virtrpc_server.specs.platform import put_platform
from virtrpc_server.specs.site import NO_DEVICES

_ACTIONS = {
    spec_pb2.LIFECYCLE_ACTION_DESTROY: "destroy",
    spec_pb2.LIFECYCLE_ACTION_RESTART: "restart",
    spec_pb2.LIFECYCLE_ACTION_RENAME_RESTART: "rename-restart",
    spec_pb2.LIFECYCLE_ACTION_PRESERVE: "preserve",
    spec_pb2.LIFECYCLE_ACTION_COREDUMP_DESTROY: "coredump-destroy",
    spec_pb2.LIFECYCLE_ACTION_COREDUMP_RESTART: "coredump-restart",
}
_KIB = 1024


def domain_patch(spec: spec_pb2.DomainSpec, uuid: str, site: Site, *, new: bool, present: Devices = NO_DEVICES) -> Element:
    """The definition of a new domain, or what is to be different about one that exists and has these devices, as far as the last reading shows."""
    if spec.virtualization_type or spec.arch:
        site = Site(spec.virtualization_type or site.type, spec.arch or site.arch)
    _check(spec, new=new)
    root = ElementTree.Element("domain")
    if new or spec.virtualization_type:
        root.set("type", site.type)
    put(root, "name", spec.name)
    put(root, "uuid", uuid)
    _put_texts(root, spec)
    _put_sizes(root, spec, new=new)
    put_os(root, spec, site, new=new)
    put_platform(root, spec, site, new=new)
    for tag, action in (("on_poweroff", spec.on_poweroff), ("on_reboot", spec.on_reboot), ("on_crash", spec.on_crash)):
        if action in _ACTIONS:
            put(root, tag, _ACTIONS[action])
    _put_devices(root, spec, site, present, new=new)
    return _overlaid(root, spec.xml_overlay, new=new)


def _check(spec: spec_pb2.DomainSpec, *, new: bool) -> None:
    if not spec.name or "/" in spec.name or "\n" in spec.name:
        raise invalid("spec.name", "a domain's name is required, and has no slash and no line break")
    if "\n" in spec.title:
        raise invalid("spec.title", "a title is one line")
    if spec.memory_bytes <= 0 and (new or spec.memory_bytes < 0):
        raise invalid("spec.memory_bytes", "a new domain needs memory" if not spec.memory_bytes else "must not be negative")
    for field in ("max_memory_bytes", "vcpus", "max_vcpus"):
        if spec.HasField(field) and getattr(spec, field) <= 0:
            raise invalid(f"spec.{field}", "must be above zero")
    if spec.HasField("max_memory_bytes") and spec.max_memory_bytes < spec.memory_bytes:
        raise invalid("spec.max_memory_bytes", "is below memory_bytes")
    if spec.HasField("max_vcpus") and spec.max_vcpus < spec.vcpus:
        raise invalid("spec.max_vcpus", "is below vcpus")
    if spec.boot_devices and any(device.HasField("boot_order") for device in (*spec.disks, *spec.interfaces)):
        raise invalid("spec.boot_devices", "boot_devices and a device's boot_order exclude each other")


def _put_texts(root: Element, spec: spec_pb2.DomainSpec) -> None:
    for tag, text in (("title", spec.title), ("description", spec.description)):
        if text:
            put(root, tag, text)


def _put_sizes(root: Element, spec: spec_pb2.DomainSpec, *, new: bool) -> None:
    if spec.memory_bytes or spec.HasField("max_memory_bytes"):
        most = spec.max_memory_bytes if spec.HasField("max_memory_bytes") else spec.memory_bytes
        put(root, "memory", str(-(-most // _KIB)), unit="KiB")
    if spec.memory_bytes:
        put(root, "currentMemory", str(-(-spec.memory_bytes // _KIB)), unit="KiB")
    if spec.HasField("vcpus") or spec.HasField("max_vcpus") or new:
        count = spec.vcpus or 1
        element = put(root, "vcpu", str(spec.max_vcpus if spec.HasField("max_vcpus") else count))
        if spec.HasField("vcpus") or new:
            element.set("current", str(count))


def _put_devices(root: Element, spec: spec_pb2.DomainSpec, site: Site, present: Devices, *, new: bool) -> None:
    devices = root.find("devices")
    devices = put(root, "devices") if devices is None else devices
    devices.extend(list(_disks(spec, site, present)))  # it words errors of a generator anew
    for place, interface in enumerate(spec.interfaces):
        field = f"spec.interfaces[{place}]"
        devices.append(new_interface(interface, field) if new else changed_interface(interface, field))
    for place, graphics in enumerate(spec.graphics):
        known = any(GRAPHICS_TYPES.get(screen.kind) == graphics.type for screen in present.graphics)
        devices.append((changed_graphics if known else new_graphics)(graphics, f"spec.graphics[{place}]"))
    put_if(devices, "memballoon", model=_balloon(spec))


def _disks(spec: spec_pb2.DomainSpec, site: Site, present: Devices) -> Iterator[Element]:
    there = {disk.target for disk in present.disks}
    said: set[str] = set()
    for place, disk in enumerate(spec.disks):
        field = f"spec.disks[{place}]"
        target = disk.target or target_of(disk, present.disks, said)
        if target in there - said:
            said.add(target)
            yield changed_disk(disk, field, target)
        else:
            yield new_disk(disk, site, said, field, there)


def _balloon(spec: spec_pb2.DomainSpec) -> str | None:
    if not spec.HasField("memory_balloon"):
        return None
    return "virtio" if spec.memory_balloon else "none"


def _overlaid(root: Element, overlay: str, *, new: bool) -> Element:
    if not overlay:
        return root
    given = parsed(overlay, "spec.xml_overlay", "domain")
    if sum(1 for _ in given.iter()) > merging.MAX_ELEMENTS:
        raise invalid("spec.xml_overlay", f"has more than {merging.MAX_ELEMENTS} elements")
    for tag in ("name", "uuid"):
        if given.find(tag) is not None:
            raise invalid("spec.xml_overlay", f"<{tag}> is said by spec.{tag}")
    return merging.merged(root, given) if new else merging.followed(root, given)
