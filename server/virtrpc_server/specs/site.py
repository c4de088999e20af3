"""Where a domain is, or is to be: what is usual there."""

from __future__ import annotations

import re
from dataclasses import dataclass

from virtrpc_drivers.device_xml import Devices
from virtrpc_drivers.values import HostInfo
from virtrpc_server.domains import Entry
from virtrpc_server.specs.build import Site

_TYPE = re.compile(r"<domain\b[^>]*?\stype=['\"]([^'\"]*)")
_ARCH = re.compile(r"<type\b[^>]*?\sarch=['\"]([^'\"]*)")
_TYPES = {"esx": "vmware", "vmware": "vmware", "vz": "vz", "bhyve": "bhyve", "ch": "kvm", "hyper-v": "hyperv"}
"""How definitions name a hypervisor, where it calls itself otherwise."""


NO_DEVICES = Devices(disks=(), interfaces=(), graphics=())


@dataclass(frozen=True)
class Place:
    """Where a domain is to be made: what is usual there, and the domain that exists already."""

    site: Site
    entry: Entry | None = None


def site_of_entry(entry: Entry | None) -> Site:
    """The site of a domain as it was last read."""
    return site_of_xml(entry.config.value.xml) if entry is not None and entry.config is not None else Site()


def devices_of_entry(entry: Entry | None) -> Devices:
    """The devices of a domain as it was last read."""
    if entry is None or entry.config is None:
        return NO_DEVICES
    config = entry.config.value
    return Devices(disks=config.disks, interfaces=config.interfaces, graphics=config.graphics)


def site_of_xml(xml: str) -> Site:
    """The site of a domain whose XML libvirt wrote."""
    # By two searches: parsing all of it takes milliseconds of the loop's time.
    kind, arch = _TYPE.search(xml), _ARCH.search(xml)
    return Site(kind[1] if kind else "", arch[1] if arch else "")


def site_of_host(info: HostInfo | None) -> Site:
    """The site that a new domain finds: KVM where the host has it."""
    if info is None:
        return Site()
    name = info.hypervisor.lower()
    if name == "qemu":
        return Site("kvm" if "<domain type='kvm'" in (info.capabilities_xml or "") else "qemu")
    return Site(_TYPES.get(name, name))
