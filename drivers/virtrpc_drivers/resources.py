"""What a domain may use of its host: the values that drivers and server share, and what a definition says of them.

`libvirt` and `sim` both keep them in the definition, in the same words: the one proves by it, the other has nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from xml.etree.ElementTree import Element, SubElement

from virtrpc_drivers.errors import Reason, failure
from virtrpc_drivers.values import Value
from virtrpc_drivers.xml import integer, memory_bytes

GROUPS = ("vcpu", "emulator", "global", "iothread")
QUOTAS = frozenset(f"{group}_quota" for group in GROUPS)
SCHEDULER = ("cpu_shares", *(f"{group}_{what}" for group in GROUPS for what in ("period", "quota")), "cap", "reservation", "limit")
"""Shares by the hypervisor's own measure, microseconds, per cent, MHz; a quota, a cap and a limit of 0 are none."""
MEMORY = ("hard_limit", "soft_limit", "swap_hard_limit")
"""Bytes; 0 is no limit."""
NUMA_MODES = ("strict", "preferred", "interleave", "restrictive")
"""In libvirt's order (virDomainNumatuneMemMode)."""
BLKIO_LIMITS = ("weight", "read_bytes_sec", "write_bytes_sec", "read_iops_sec", "write_iops_sec")

ELEMENTS = {"cpu_shares": "shares", "vcpu_period": "period", "vcpu_quota": "quota"}
"""What <cputune> calls otherwise than libvirt's parameters."""
_KIB = 1024
MAX_NUMBERS = 1 << 16
"""How many a set has at most: no host has more processors, nor nodes."""
_SPAN = re.compile(r"(\^?)([0-9]{1,5})(?:-([0-9]{1,5}))?")


class Numa(Value, frozen=True):
    """Where memory lies: the mode, and the host's nodes; none is any."""

    mode: str = ""
    nodes: tuple[int, ...] = ()


class BlkioDevice(Value, frozen=True):
    """What is said of one device, by BLKIO_LIMITS' names; 0 takes it away."""

    path: str
    limits: dict[str, int]


class Blkio(Value, frozen=True):
    """The weight, and what is said of single devices."""

    weight: int | None = None
    devices: tuple[BlkioDevice, ...] = ()


class ResourceParameters(Value, frozen=True):
    """All of it. A group that the hypervisor or the host lacks is None."""

    scheduler_type: str = ""
    scheduler: dict[str, int] | None = None
    memory: dict[str, int] | None = None
    numa: Numa | None = None
    blkio: Blkio | None = None


def scheduler(root: Element) -> dict[str, int]:
    """What <cputune> says, by SCHEDULER's names; what it does not say is missing."""
    found = {name: integer(root.findtext(f"cputune/{ELEMENTS.get(name, name)}")) for name in SCHEDULER}
    return {name: max(number, 0) for name, number in found.items() if number is not None}


def put_scheduler(root: Element, parameters: Mapping[str, int]) -> None:
    """Say it in <cputune>."""
    tune = child(root, "cputune")
    for name, number in parameters.items():
        child(tune, ELEMENTS.get(name, name)).text = str(number)


def memory(root: Element) -> dict[str, int]:
    """What <memtune> says, in bytes; all of MEMORY's names."""
    return {name: memory_bytes(root.find(f"memtune/{name}")) or 0 for name in MEMORY}


def put_memory(root: Element, limits: Mapping[str, int]) -> None:
    """Say it in <memtune>."""
    tune = child(root, "memtune")
    for name, limit in limits.items():
        said = child(tune, name)
        said.text, said.attrib = str(in_kib(limit)), {"unit": "KiB"}


def numa(root: Element) -> Numa:
    """What <numatune> says; nothing is strictly any node."""
    found = root.find("numatune/memory")
    if found is None:
        return Numa(mode="strict")
    return Numa(mode=found.get("mode", "strict"), nodes=tuple(sorted(numbers(found.get("nodeset", "")))))


def put_numa(root: Element, wanted: Numa) -> None:
    """Say it in <numatune>."""
    place = child(child(root, "numatune"), "memory")
    if wanted.mode:
        place.set("mode", wanted.mode)
    if wanted.nodes:
        place.set("nodeset", ",".join(map(str, wanted.nodes)))


def blkio(root: Element) -> Blkio:
    """What <blkiotune> says."""
    found = ((device.findtext("path", ""), {name: integer(device.findtext(name)) for name in BLKIO_LIMITS}) for device in _devices(root))
    devices = tuple(BlkioDevice(path=path, limits={name: limit for name, limit in limits.items() if limit}) for path, limits in found)
    return Blkio(weight=integer(root.findtext("blkiotune/weight")), devices=tuple(device for device in devices if device.limits))


def put_blkio(root: Element, wanted: Blkio) -> None:
    """Say it in <blkiotune>."""
    tune = child(root, "blkiotune")
    if wanted.weight is not None:
        child(tune, "weight").text = str(wanted.weight)
    for device in wanted.devices:
        place = next((one for one in _devices(root) if one.findtext("path") == device.path), None)
        if place is None:
            place = SubElement(tune, "device")
            SubElement(place, "path").text = device.path
        for name, limit in device.limits.items():
            child(place, name).text = str(limit)


def includes(found: Blkio, wanted: Blkio) -> bool:
    """Whether all that is wanted is so."""
    there = {device.path: device.limits for device in found.devices}
    same = (there.get(device.path, {}).get(name, 0) == limit for device in wanted.devices for name, limit in device.limits.items())
    return wanted.weight in (None, found.weight) and all(same)


def in_kib(size: int) -> int:
    """Bytes as libvirt counts memory, rounded up."""
    return -(-size // _KIB)


def numbers(text: str) -> frozenset[int]:
    """The numbers of libvirt's text of a set: "0-3,^2,8". Raises XML_INVALID where it is none, or one of more than MAX_NUMBERS."""
    found: set[int] = set()
    left = MAX_NUMBERS
    for part in filter(None, text.split(",")):
        span = _SPAN.fullmatch(part.strip())
        among = range(int(span[2]), int(span[3] or span[2]) + 1) if span is not None else range(0)
        left -= len(among)
        if span is None or not among or left < 0:
            raise failure(Reason.XML_INVALID, f"{text[:64]!r} is not a set of at most {MAX_NUMBERS} numbers, such as 0-3,8")
        (found.difference_update if span[1] else found.update)(among)
    return frozenset(found)


def child(root: Element, tag: str) -> Element:
    """The first child of this tag, made where there is none."""
    found = root.find(tag)
    return SubElement(root, tag) if found is None else found


def _devices(root: Element) -> list[Element]:
    return root.findall("blkiotune/device")
