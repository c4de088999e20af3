"""Network interfaces: from the typed form to XML."""

from __future__ import annotations

from xml.etree import ElementTree

from virtrpc.v1 import devices_pb2
from virtrpc_server.messages.devices import LINK_STATES
from virtrpc_server.orders.common import invalid
from virtrpc_server.specs.build import Element, boot_order, put, put_if, take_away

_LINKS = {number: name for name, number in LINK_STATES.items()}
_MAX_VLAN = 4094


def new_interface(interface: devices_pb2.Interface, field: str) -> Element:
    """An interface that is to be added."""
    if interface.WhichOneof("source") is None:
        raise invalid(f"{field}.source", "say what it is connected to: network, bridge, direct, user or ethernet")
    if interface.WhichOneof("source") == "other":
        raise invalid(f"{field}.other", f"an interface of type {interface.other!r} has no typed form: give the device as XML")
    element = ElementTree.Element("interface")
    _say(element, interface, field)
    return element


def changed_interface(interface: devices_pb2.Interface, field: str) -> Element:
    """What is to be different about an interface that is there."""
    element = ElementTree.Element("interface")
    if interface.alias:
        put(element, "alias", name=interface.alias)
    _say(element, interface, field)
    return element


def _say(element: Element, interface: devices_pb2.Interface, field: str) -> None:
    put_if(element, "mac", address=interface.mac)
    _say_source(element, interface, field)
    put_if(element, "target", dev=interface.target)
    put_if(element, "model", type=interface.model)
    if interface.HasField("mtu_bytes"):
        put(element, "mtu", size=interface.mtu_bytes)
    put_if(element, "link", state=_LINKS.get(interface.link_state))
    if interface.HasField("vlan_id"):
        if not 1 <= interface.vlan_id <= _MAX_VLAN:
            raise invalid(f"{field}.vlan_id", f"is 1 to {_MAX_VLAN}")
        put(put(element, "vlan"), "tag", id=interface.vlan_id)
    boot_order(element, interface.boot_order if interface.HasField("boot_order") else None, f"{field}.boot_order")


def _say_source(element: Element, interface: devices_pb2.Interface, field: str) -> None:
    kind = interface.WhichOneof("source")
    if kind is None or kind == "other":
        return
    element.set("type", kind)
    match kind:
        case "network":
            put(element, "source", network=_some(interface.network, f"{field}.network"))
        case "bridge":
            put(element, "source", bridge=_some(interface.bridge, f"{field}.bridge"))
        case "direct":
            put(element, "source", dev=_some(interface.direct.device, f"{field}.direct.device"), mode=interface.direct.mode)
        case _:
            take_away(element, "source")


def _some(text: str, field: str) -> str:
    if not text:
        raise invalid(field, "must not be empty")
    return text
