"""What a guest's agent tells of the guest."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import libvirt
from msgspec.structs import replace

from virtrpc_drivers.errors import Reason, failure
from virtrpc_drivers.libvirt.errors import driver_error, fault_of
from virtrpc_drivers.libvirt.readings import Clock
from virtrpc_drivers.resources import numbers
from virtrpc_drivers.values import GuestFilesystem, GuestInfo, GuestInterface, GuestPart, GuestUser, GuestVcpu

Fields = dict[str, Any]

_TYPES = {
    GuestPart.HOSTNAME: libvirt.VIR_DOMAIN_GUEST_INFO_HOSTNAME,
    GuestPart.OS: libvirt.VIR_DOMAIN_GUEST_INFO_OS,
    GuestPart.TIME: libvirt.VIR_DOMAIN_GUEST_INFO_TIMEZONE,
    GuestPart.USERS: libvirt.VIR_DOMAIN_GUEST_INFO_USERS,
    GuestPart.FILESYSTEMS: libvirt.VIR_DOMAIN_GUEST_INFO_FILESYSTEM,
}
_OS = ("id", "name", "pretty-name", "version", "kernel-release", "kernel-version", "machine")


def guest_info(connection: Any, uuid: str, parts: Collection[GuestPart], clock: Clock) -> GuestInfo:
    """virDomainGetGuestInfo, with GetTime and InterfaceAddresses; the older calls where a hypervisor has only those.

    A part that the agent does not know is left out. Raises AGENT_UNRESPONSIVE where it does not answer at all, WRONG_STATE.
    """
    domain = connection.lookupByUUIDString(uuid)
    if not domain.isActive():
        raise failure(Reason.WRONG_STATE, "the domain is not running")
    info = _told(domain, parts, clock)
    if GuestPart.TIME in parts:
        time = _asked(lambda: domain.getTime(0))
        info = replace(info, time=time["seconds"] + time["nseconds"] / 1e9 if time else None)
    if GuestPart.INTERFACES in parts:
        info = replace(info, interfaces=_interfaces(_asked(lambda: domain.interfaceAddresses(libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_AGENT, 0))))
    return info


def _told(domain: Any, parts: Collection[GuestPart], clock: Clock) -> GuestInfo:
    stamp = clock.stamp()
    types = 0
    for part in parts:
        types |= _TYPES.get(part, 0)
    fields: Fields | None = _asked(lambda: domain.guestInfo(types, 0)) if types else {}
    if fields is None:
        return _by_older_calls(domain, parts, GuestInfo(stamp=stamp))
    return GuestInfo(
        stamp=stamp,
        hostname=fields.get("hostname", ""),
        os={name: str(fields[f"os.{name}"]) for name in _OS if f"os.{name}" in fields},
        timezone=fields.get("timezone.name", ""),
        users=tuple(_user(fields, number) for number in range(fields.get("user.count", 0))),
        filesystems=tuple(_filesystem(fields, number) for number in range(fields.get("fs.count", 0))),
    )


def _by_older_calls(domain: Any, parts: Collection[GuestPart], info: GuestInfo) -> GuestInfo:
    if GuestPart.HOSTNAME in parts:
        info = replace(info, hostname=_asked(lambda: domain.hostname(0)) or "")
    if GuestPart.FILESYSTEMS in parts:
        rows = _asked(domain.fsInfo) or ()
        found = (GuestFilesystem(mountpoint=row[0], device=row[1], type=row[2], disks=tuple(row[3] or ())) for row in rows)
        info = replace(info, filesystems=tuple(found))
    return info


def _asked(call: Any) -> Any:
    """The answer, or None where hypervisor or agent lack the call. An agent that does not answer is raised."""
    try:
        return call()
    except libvirt.libvirtError as error:
        fault = fault_of(error)
        if fault.reason in (Reason.UNSUPPORTED, Reason.FAILED, Reason.INVALID_ARGUMENT):
            return None
        raise driver_error(error) from None


def _user(fields: Fields, number: int) -> GuestUser:
    row = f"user.{number}"
    login = fields.get(f"{row}.login-time")
    return GuestUser(name=fields.get(f"{row}.name", ""), domain=fields.get(f"{row}.domain", ""), login=login / 1000 if login else None)


def _filesystem(fields: Fields, number: int) -> GuestFilesystem:
    row = f"fs.{number}"
    disks = (fields.get(f"{row}.disk.{disk}.alias", "") for disk in range(fields.get(f"{row}.disk.count", 0)))
    return GuestFilesystem(
        mountpoint=fields.get(f"{row}.mountpoint", ""),
        device=fields.get(f"{row}.name", ""),
        type=fields.get(f"{row}.fstype", ""),
        total_bytes=fields.get(f"{row}.total-bytes"),
        used_bytes=fields.get(f"{row}.used-bytes"),
        disks=tuple(filter(None, disks)),
    )


def _interfaces(answer: Fields | None) -> tuple[GuestInterface, ...]:
    return tuple(
        GuestInterface(
            name=name,
            mac=(row["hwaddr"] or "").lower(),
            addresses=tuple(f"{address['addr']}/{address['prefix']}" for address in row["addrs"] or ()),
        )
        for name, row in (answer or {}).items()
    )


def guest_vcpus(domain: Any) -> tuple[GuestVcpu, ...]:
    """virDomainGetGuestVcpus."""
    told: Fields | None = domain.guestVcpus(0)
    if told is None:
        # The binding misses that the call has failed, and its words are gone now and then: this one asks the same agent, and says why it fails.
        domain.getTime(0)
        told = domain.guestVcpus(0)
    if told is None:
        raise libvirt.libvirtError("virDomainGetGuestVcpus() failed")
    online, offlinable = numbers(told.get("online", "")), numbers(told.get("offlinable", ""))
    return tuple(GuestVcpu(number=number, online=number in online, offlinable=number in offlinable) for number in sorted(numbers(told["vcpus"])))


def authorized_ssh_keys(domain: Any, user: str) -> tuple[str, ...]:
    """virDomainAuthorizedSSHKeysGet."""
    return tuple(domain.authorizedSSHKeysGet(user, 0))
