"""Orders: devices. One function a verb, each refusing what can be seen to be wrong.

A typed device is made into XML here. To attach, that is the device; to change one, a patch that the driver merges into the device as it is when
the job runs: what a queued job changes meanwhile is not lost, and no old reading is relied on.
"""

from __future__ import annotations

from virtrpc.v1 import job_pb2
from virtrpc_drivers import operations as op
from virtrpc_drivers.merging import ANY_DEVICE
from virtrpc_server.domains import Entry
from virtrpc_server.orders.common import invalid, scope_of
from virtrpc_server.specs.build import Element, finished, parsed, put
from virtrpc_server.specs.disk import changed_disk, new_disk
from virtrpc_server.specs.graphics import changed_graphics
from virtrpc_server.specs.interface import changed_interface, new_interface
from virtrpc_server.specs.site import site_of_entry


def attach_device(request: job_pb2.AttachDeviceRequest, entry: Entry) -> op.AttachDevice:
    """AttachDevice."""
    match request.WhichOneof("source"):
        case "disk":
            xml = finished(new_disk(request.disk, site_of_entry(entry), _targets(entry), "disk"), "disk", patch=False)
        case "interface":
            xml = finished(new_interface(request.interface, "interface"), "interface", patch=False)
        case _:
            xml = _device(request.xml)
    return op.AttachDevice(uuid=entry.uuid, xml=xml, scope=scope_of(request.scope))


def detach_device(request: job_pb2.DetachDeviceRequest, entry: Entry) -> op.DetachDevice:
    """DetachDevice."""
    source = request.WhichOneof("source")
    xml = _device(request.xml) if source in (None, "xml") else finished(_named(request), str(source), patch=True)
    return op.DetachDevice(uuid=entry.uuid, xml=xml, scope=scope_of(request.scope), merge=source not in (None, "xml"))


def _named(request: job_pb2.DetachDeviceRequest) -> Element:
    match request.WhichOneof("source"):
        case "disk_target":
            return _having("disk", "target", "dev", request.disk_target, "disk_target")
        case "interface_mac":
            return _having("interface", "mac", "address", request.interface_mac, "interface_mac")
        case _:
            return _having(ANY_DEVICE, "alias", "name", request.alias, "alias")


def _having(tag: str, child: str, name: str, value: str, field: str) -> Element:
    if not value:
        raise invalid(field, "must not be empty")
    element = Element(tag)
    put(element, child).set(name, value)
    return element


def update_device(request: job_pb2.UpdateDeviceRequest, entry: Entry) -> op.UpdateDevice:
    """UpdateDevice."""
    source, scope = request.WhichOneof("source"), scope_of(request.scope)
    match source:
        case "disk":
            patch = changed_disk(request.disk, source)
        case "interface":
            patch = changed_interface(request.interface, source)
        case "graphics":
            patch = changed_graphics(request.graphics, source)
        case _:
            return op.UpdateDevice(uuid=entry.uuid, xml=_device(request.xml), scope=scope, force=request.force)
    return op.UpdateDevice(uuid=entry.uuid, xml=finished(patch, source, patch=True), scope=scope, force=request.force, merge=True)


def _targets(entry: Entry) -> set[str]:
    return {disk.target for disk in entry.config.value.disks} if entry.config is not None else set()


def _device(xml: str) -> str:
    if not xml:
        raise invalid("xml", "a device is required")
    parsed(xml, "xml")
    return xml
