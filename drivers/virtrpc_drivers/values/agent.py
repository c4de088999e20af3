"""What a guest's agent tells."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from virtrpc_drivers.values.base import Stamp, Value


class GuestPart(StrEnum):
    """A part of what a guest's agent can tell."""

    HOSTNAME = "hostname"
    OS = "os"
    TIME = "time"
    USERS = "users"
    FILESYSTEMS = "filesystems"
    INTERFACES = "interfaces"


class GuestUser(Value, frozen=True):
    """Who is logged in; since when in seconds since the epoch."""

    name: str
    domain: str = ""
    login: float | None = None


class GuestFilesystem(Value, frozen=True):
    """A mounted file system, as the guest calls it, and the disks under it, by target."""

    mountpoint: str
    device: str = ""
    type: str = ""
    total_bytes: int | None = None
    used_bytes: int | None = None
    disks: tuple[str, ...] = ()


class GuestInterface(Value, frozen=True):
    """An interface as the guest sees it; addresses as "10.0.0.2/24"."""

    name: str
    mac: str = ""
    addresses: tuple[str, ...] = ()


class GuestVcpu(Value, frozen=True):
    """A virtual CPU by the guest's number: whether the guest uses it, and whether it can do without."""

    number: int
    online: bool
    offlinable: bool


class GuestInfo(Value, frozen=True):
    """What an agent told at `stamp`; what it did not tell is empty."""

    stamp: Stamp
    hostname: str = ""
    os: dict[str, str] = msgspec.field(default_factory=dict)
    """id, name, pretty-name, version, kernel-release, kernel-version, machine, as virDomainGetGuestInfo calls them."""
    timezone: str = ""
    time: float | None = None
    """The guest's clock, in seconds since the epoch."""
    users: tuple[GuestUser, ...] = ()
    filesystems: tuple[GuestFilesystem, ...] = ()
    interfaces: tuple[GuestInterface, ...] = ()
