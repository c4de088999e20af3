"""What numbers a definition may have: as libvirt refuses others where it reads them, and as every field of the contract holds."""

from __future__ import annotations

from typing import NamedTuple
from xml.etree.ElementTree import Element

from virtrpc_drivers.device_xml import LIMITS
from virtrpc_drivers.errors import Reason
from virtrpc_drivers.resources import BLKIO_LIMITS, ELEMENTS, MEMORY, QUOTAS, SCHEDULER, numbers
from virtrpc_drivers.sim.sdk import sdk_error
from virtrpc_drivers.xml import LARGEST, integer, memory_bytes

_INT, _UINT, _PORT = (1 << 31) - 1, (1 << 32) - 1, (1 << 16) - 1


class _Bound(NamedTuple):
    path: str
    attribute: str = ""
    """Empty is the element's text."""
    least: int = 0
    most: int = LARGEST


_BOUNDS = (
    *(_Bound(f"cputune/{ELEMENTS.get(name, name)}", least=-1 if name in QUOTAS else 0) for name in SCHEDULER),
    _Bound("blkiotune/weight", most=_UINT),
    *(_Bound(f"blkiotune/device/{name}") for name in BLKIO_LIMITS),
    *(_Bound(f"devices/disk/iotune/{name}") for name in LIMITS),
    *(_Bound(f"devices/interface/bandwidth/*[@{name}]", name) for name in ("average", "peak", "burst", "floor")),
    _Bound("devices/*/boot", "order", least=1, most=_UINT),
    _Bound("devices/interface/mtu", "size", most=_UINT),
    _Bound("devices/interface/vlan/tag", "id", most=4095),
    _Bound("devices/disk//host", "port", most=_PORT),
    _Bound("devices/graphics", "port", least=-1, most=_PORT),
    _Bound("devices/graphics", "tlsPort", least=-1, most=_PORT),
    _Bound("devices/memballoon/stats", "period", most=_INT),
    _Bound("vcpus/vcpu", "id", most=_UINT),
    _Bound("iothreads", most=_UINT),
    _Bound("iothreadids/iothread", "id", most=_UINT),
)
_SETS = (("numatune/*", "nodeset"), ("cputune/*", "cpuset"), ("vcpu", "cpuset"))


def check(root: Element) -> None:
    """Raises DriverError (XML_INVALID) where a number or a set of a <domain> is none, or one that cannot be."""
    for bound in _BOUNDS:
        for element in root.iterfind(bound.path):
            _check(element, bound)
    for name in MEMORY:
        limit = root.find(f"memtune/{name}")
        if limit is not None and (memory_bytes(limit) is None or (limit.text or "").strip().startswith("-")):
            raise sdk_error(Reason.XML_INVALID, f"<{name}> is not a memory size")
    for path, attribute in _SETS:
        for element in root.iterfind(path):
            numbers(element.get(attribute, ""))


def _check(element: Element, bound: _Bound) -> None:
    text = element.get(bound.attribute) if bound.attribute else element.text or ""
    if text is None:
        return
    number = integer(text)
    if number is None or not bound.least <= number <= bound.most:
        where = f"<{element.tag} {bound.attribute}>" if bound.attribute else f"<{element.tag}>"
        raise sdk_error(Reason.XML_INVALID, f"{where} is a number from {bound.least} to {bound.most}, not {text[:40]!r}")
