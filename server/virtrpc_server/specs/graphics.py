"""Screens: from the typed form to XML."""

from __future__ import annotations

from xml.etree import ElementTree

from virtrpc.v1 import devices_pb2
from virtrpc_server.messages.devices import GRAPHICS_TYPES
from virtrpc_server.orders.common import invalid
from virtrpc_server.specs.build import Element, put

_TYPES = {number: name for name, number in GRAPHICS_TYPES.items()}
_TYPED = ("vnc", "spice")
_MAX_PORT = 65535


def new_graphics(graphics: devices_pb2.Graphics, field: str) -> Element:
    """A screen that is to be added; the hypervisor chooses its ports where none is said."""
    element = changed_graphics(graphics, field)
    if not graphics.HasField("port") and not graphics.HasField("tls_port") and not graphics.socket:
        element.set("autoport", "yes")
    return element


def changed_graphics(graphics: devices_pb2.Graphics, field: str) -> Element:
    """What is to be different about a screen that is there."""
    kind = _TYPES.get(graphics.type, "")
    if kind not in _TYPED:
        raise invalid(f"{field}.type", "is VNC or SPICE: give another one as XML")
    if graphics.socket and graphics.listen_address:
        raise invalid(f"{field}.socket", "socket and listen_address exclude each other")
    element = ElementTree.Element("graphics", type=kind)
    _say_ports(element, graphics, field)
    _say_listen(element, graphics)
    if graphics.password:
        element.set("passwd", graphics.password)
    return element


def _say_ports(element: Element, graphics: devices_pb2.Graphics, field: str) -> None:
    ports = {
        "port": graphics.port if graphics.HasField("port") else None,
        "tlsPort": graphics.tls_port if graphics.HasField("tls_port") else None,
    }
    for name, port in ports.items():
        if port is None:
            continue
        if not 1 <= port <= _MAX_PORT:
            raise invalid(f"{field}.{'port' if name == 'port' else 'tls_port'}", f"is 1 to {_MAX_PORT}; unset, the hypervisor chooses")
        element.set(name, str(port))
        element.set("autoport", "no")


def _say_listen(element: Element, graphics: devices_pb2.Graphics) -> None:
    if graphics.socket:
        put(element, "listen", type="socket", socket=graphics.socket)
    elif graphics.listen_address:
        # libvirt writes both, and they must not contradict each other.
        element.set("listen", graphics.listen_address)
        put(element, "listen", type="address", address=graphics.listen_address)
