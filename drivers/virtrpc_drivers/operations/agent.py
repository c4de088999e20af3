"""Operations: what the guest's agent does."""

from __future__ import annotations

from virtrpc_drivers.operations.base import Operation


class SetUserPassword(Operation, frozen=True):
    """virDomainSetUserPassword, through the guest agent."""

    user: str
    password: str
    encrypted: bool = False


class FreezeFilesystems(Operation, frozen=True):
    """virDomainFSFreeze; all where no mountpoint is named. The outcome counts them."""

    mountpoints: tuple[str, ...] = ()


class ThawFilesystems(Operation, frozen=True):
    """virDomainFSThaw; all where no mountpoint is named. The outcome counts them."""

    mountpoints: tuple[str, ...] = ()


class TrimFilesystems(Operation, frozen=True):
    """virDomainFSTrim of all file systems; free stretches below this many bytes are left alone."""

    minimum_bytes: int = 0


class SetGuestTime(Operation, frozen=True):
    """virDomainSetTime: seconds and nanoseconds since the epoch, or by the guest's own hardware clock where `synchronise` is set."""

    seconds: int = 0
    nanoseconds: int = 0
    synchronise: bool = False


class SetGuestVcpus(Operation, frozen=True):
    """virDomainSetGuestVcpus: switch these on or off inside the guest, by the guest's numbers."""

    vcpus: tuple[int, ...]
    online: bool


class SetAuthorizedSshKeys(Operation, frozen=True):
    """virDomainAuthorizedSSHKeysSet. `change`: add, remove or replace."""

    user: str
    keys: tuple[str, ...] = ()
    change: str = "add"


AnyAgent = SetUserPassword | FreezeFilesystems | ThawFilesystems | TrimFilesystems | SetGuestTime | SetGuestVcpus | SetAuthorizedSshKeys
