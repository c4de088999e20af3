"""What libvirt says of a domain's state and configuration, as the protocol's values."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar
from xml.etree import ElementTree

import libvirt
import msgspec

from virtrpc_drivers.device_xml import devices
from virtrpc_drivers.errors import Reason
from virtrpc_drivers.libvirt import domain_xml, shared
from virtrpc_drivers.libvirt.errors import fault_of
from virtrpc_drivers.metadata import metadata
from virtrpc_drivers.values import (
    ACTIVE_STATES,
    Address,
    Control,
    DomainConfig,
    DomainReading,
    DomainState,
    Failed,
    Group,
    Listed,
    Listing,
    Metadata,
    Missing,
    Readings,
    Stamp,
    State,
)

T = TypeVar("T")

ANSWER_BYTES = 4 << 20
"""Readings stop here, well under the socket's 8 MiB message, and name what was not looked at."""
ANSWER_SECONDS = 2.0
"""They stop here as well: a domain whose call waits for its job must not hold up the others for long."""

KIB = 1024

_STATES = (
    State.NOSTATE,
    State.RUNNING,
    State.BLOCKED,
    State.PAUSED,
    State.SHUTDOWN,
    State.SHUTOFF,
    State.CRASHED,
    State.PMSUSPENDED,
)
_REASONS: dict[State, tuple[str, ...]] = {
    State.RUNNING: ("unknown", "booted", "migrated", "restored", "from_snapshot", "unpaused", "migration_canceled", "save_canceled", "wakeup",
                    "crashed", "postcopy", "postcopy_failed"),
    State.PAUSED: ("unknown", "user", "migration", "save", "dump", "ioerror", "watchdog", "from_snapshot", "shutting_down", "snapshot",
                   "crashed", "starting_up", "postcopy", "postcopy_failed", "api_error"),
    State.SHUTDOWN: ("unknown", "user"),
    State.SHUTOFF: ("unknown", "shutdown", "destroyed", "crashed", "migrated", "saved", "failed", "from_snapshot", "daemon"),
    State.CRASHED: ("unknown", "panicked"),
}  # fmt: skip
_ADDRESS_SOURCES = (("lease", libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_LEASE), ("arp", libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_ARP))
_LIMITED_BY_HOST = frozenset({"vmware", "vbox", "hyperv", "openvz"})
_CONTROLS = (Control.OK, Control.JOB, Control.OCCUPIED, Control.ERROR)


class Clock:
    """Makes stamps for one driver process."""

    def __init__(self, process: int) -> None:
        self.process = process

    def stamp(self) -> Stamp:
        """Now: taken before the call that makes a reading."""
        return Stamp(process=self.process, monotonic=time.monotonic(), wall=time.time())


def optional(call: Callable[[], T]) -> T | None:
    """The call's answer, or None where this hypervisor or this domain has none. A domain that went away, or a lost connection, is raised."""
    try:
        return call()
    except libvirt.libvirtError as error:
        if fault_of(error).reason in (Reason.DOMAIN_NOT_FOUND, Reason.HOST_UNREACHABLE):
            raise
        return None


def state_of(domain: Any) -> tuple[State, str]:
    """virDomainGetState: the state and its reason's name."""
    state, reason = domain.state(0)
    return state_name(state), reason_name(state, reason)


def state_name(state: int) -> State:
    """The name of a virDomainState; one that is newer than this code is NOSTATE."""
    return _STATES[state] if 0 <= state < len(_STATES) else State.NOSTATE


def reason_name(state: int, reason: int) -> str:
    """The name of a state's reason."""
    names = _REASONS.get(state_name(state), ("unknown",))
    return names[reason] if 0 <= reason < len(names) else "unknown"


def listing(connection: Any, clock: Clock) -> Listing:
    """virConnectListAllDomains, active and inactive."""
    stamp = clock.stamp()
    if isinstance(connection, shared.Lent):
        connection.look_again()
    domains = connection.listAllDomains(0)
    return Listing(stamp=stamp, domains=tuple(Listed(uuid=domain.UUIDString(), name=domain.name(), id=domain.ID()) for domain in domains))


def readings(connection: Any, uuids: Sequence[str], group: Group, clock: Clock) -> Readings:
    """One group of each of these domains, until the answer is full or the time is up."""
    found: list[DomainReading] = []
    missing: list[Missing] = []
    failed: list[Failed] = []
    size = 0
    end = time.monotonic() + ANSWER_SECONDS
    for place, uuid in enumerate(uuids):
        if place and (size > ANSWER_BYTES or time.monotonic() > end):
            return Readings(found=tuple(found), missing=tuple(missing), failed=tuple(failed), rest=tuple(uuids[place:]))
        stamp = clock.stamp()
        try:
            reading = _reading(connection.lookupByUUIDString(uuid), group, stamp)
        except libvirt.libvirtError as error:
            fault = fault_of(error)
            if fault.libvirt_code == libvirt.VIR_ERR_NO_DOMAIN:
                missing.append(Missing(uuid=uuid, stamp=stamp))
            elif fault.reason is Reason.HOST_UNREACHABLE or not connection.isAlive():
                raise
            else:
                failed.append(Failed(uuid=uuid, message=fault.message))
        else:
            size += len(msgspec.msgpack.encode(reading))
            found.append(reading)
    return Readings(found=tuple(found), missing=tuple(missing), failed=tuple(failed))


def _reading(domain: Any, group: Group, stamp: Stamp) -> DomainReading:
    if group is Group.STATE:
        return DomainReading(uuid=domain.UUIDString(), name=domain.name(), stamp=stamp, state=_state(domain))
    return DomainReading(uuid=domain.UUIDString(), name=domain.name(), stamp=stamp, config=_config(domain))


def _state(domain: Any) -> DomainState:
    state, reason = state_of(domain)
    active = state in ACTIVE_STATES
    info = optional(domain.info)
    number = domain.ID() if active else -1
    return DomainState(
        state=state,
        reason=reason,
        id=number if number >= 0 else None,
        active=active,
        max_memory_bytes=info[1] * KIB if info else None,
        memory_bytes=info[2] * KIB if info else None,
        vcpus=info[3] if info else None,
        cpu_time_ns=info[4] if info else None,
        has_managed_save=_flag(optional(lambda: domain.hasManagedSaveImage(0))),
        updated=_flag(optional(domain.isUpdated)),
        control=optional(lambda: control_of(domain)) if active else None,
        messages=tuple(optional(lambda: domain.messages(0)) or ()) if active else (),
    )


def _config(domain: Any) -> DomainConfig:
    xml = domain.XMLDesc(0)
    inactive = optional(lambda: domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))
    migratable = optional(lambda: domain.XMLDesc(libvirt.VIR_DOMAIN_XML_MIGRATABLE))
    live, found = domain_xml.sizes(xml), devices(xml)
    config = domain_xml.sizes(inactive) if inactive else live
    active = bool(optional(domain.isActive))
    return DomainConfig(
        xml=xml,
        inactive_xml=inactive,
        migratable_xml=domain_xml.without_secrets(migratable) if migratable else None,
        os_type=live.os_type or optional(domain.OSType),
        persistent=_flag(optional(domain.isPersistent)) is not False,
        autostart=_flag(optional(domain.autostart)),
        memory_bytes=config.memory_bytes,
        max_memory_bytes=config.max_memory_bytes,
        vcpus_live=live.vcpus if active else None,
        vcpus_config=config.vcpus,
        vcpus_maximum=_vcpus_maximum(domain, config),
        disks=found.disks,
        interfaces=found.interfaces,
        graphics=found.graphics,
        metadata=_metadata(xml),
        inactive_metadata=_metadata(inactive) if inactive and active else None,
        addresses=_addresses(domain) if active else (),
    )


def _metadata(xml: str) -> Metadata:
    # Most definitions have none, and parsing each once more costs.
    if not any(tag in xml for tag in ("<title>", "<description>", "<metadata>")):
        return Metadata()
    return metadata(ElementTree.fromstring(xml))


def _addresses(domain: Any) -> tuple[Address, ...]:
    """virDomainInterfaceAddresses of the sources that ask neither guest nor monitor."""
    found: dict[tuple[str, str], Address] = {}
    for source, number in _ADDRESS_SOURCES:
        answer = _interface_addresses(domain, number)
        for interface in answer.values():
            for row in interface["addrs"] or ():
                mac = (interface["hwaddr"] or "").lower()
                found.setdefault((mac, row["addr"]), Address(mac=mac, address=row["addr"], prefix=row["prefix"] or None, source=source))
    return tuple(found.values())


def _vcpus_maximum(domain: Any, sizes: domain_xml.Sizes) -> int | None:
    # Where a definition says how many there are, and not how many there can be, the host's limit is the only one.
    limit = optional(domain.maxVcpus) if sizes.domain_type in _LIMITED_BY_HOST else None
    return max(limit, sizes.vcpus_maximum or 0) if limit is not None else sizes.vcpus_maximum


def _interface_addresses(domain: Any, source: int) -> dict[str, Any]:
    try:
        answer: dict[str, Any] = domain.interfaceAddresses(source, 0)
    except libvirt.libvirtError:
        # Leases are another driver's, whose connection may be missing (qemu:///embed) or lost: that says nothing of this domain.
        return {}
    return answer or {}


def _flag(answer: int | None) -> bool | None:
    return None if answer is None or answer < 0 else bool(answer)


def control_of(domain: Any) -> Control:
    """virDomainGetControlInfo: the state of the channel to the guest's process."""
    state = domain.controlInfo(0)[0]
    return _CONTROLS[state] if 0 <= state < len(_CONTROLS) else Control.ERROR
