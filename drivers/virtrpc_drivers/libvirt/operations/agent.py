"""The libvirt calls of operations: the guest's agent."""

from __future__ import annotations

from typing import Any

import libvirt
from msgspec.structs import replace

from virtrpc_drivers import operations as ops
from virtrpc_drivers.errors import DriverError, Reason
from virtrpc_drivers.libvirt import flags
from virtrpc_drivers.libvirt.errors import fault_of
from virtrpc_drivers.libvirt.operations.common import DONE, Verb, domain_of, running_domain
from virtrpc_drivers.values import Outcome


def set_user_password(connection: Any, operation: ops.SetUserPassword) -> Outcome:
    """virDomainSetUserPassword."""
    wanted = flags.union((operation.encrypted, libvirt.VIR_DOMAIN_PASSWORD_ENCRYPTED))
    domain_of(connection, operation).setUserPassword(operation.user, operation.password, wanted)
    return DONE


def freeze(connection: Any, operation: ops.FreezeFilesystems) -> Outcome:
    """virDomainFSFreeze."""
    return Outcome(count=domain_of(connection, operation).fsFreeze(list(operation.mountpoints) or None, 0))


def thaw(connection: Any, operation: ops.ThawFilesystems) -> Outcome:
    """virDomainFSThaw."""
    return Outcome(count=domain_of(connection, operation).fsThaw(list(operation.mountpoints) or None, 0))


def trim(connection: Any, operation: ops.TrimFilesystems) -> Outcome:
    """virDomainFSTrim."""
    domain_of(connection, operation).fSTrim(None, operation.minimum_bytes, 0)
    return DONE


def set_guest_time(connection: Any, operation: ops.SetGuestTime) -> Outcome:
    """virDomainSetTime, of a domain that runs: of one that is off libvirt knows not even what its QEMU can do, and says that."""
    wanted = flags.union((operation.synchronise, libvirt.VIR_DOMAIN_TIME_SYNC))
    running_domain(connection, operation.uuid).setTime({"seconds": operation.seconds, "nseconds": operation.nanoseconds}, wanted)
    return DONE


def set_guest_vcpus(connection: Any, operation: ops.SetGuestVcpus) -> Outcome:
    """virDomainSetGuestVcpus. Raises INVALID_ARGUMENT for one that the guest cannot do without: libvirt calls that not supported."""
    try:
        domain_of(connection, operation).setGuestVcpus(",".join(map(str, operation.vcpus)), int(operation.online))
    except libvirt.libvirtError as error:
        if "is not offlinable" in str(error):
            raise DriverError(replace(fault_of(error), reason=Reason.INVALID_ARGUMENT)) from None
        raise
    return DONE


def set_authorized_ssh_keys(connection: Any, operation: ops.SetAuthorizedSshKeys) -> Outcome:
    """virDomainAuthorizedSSHKeysSet."""
    domain_of(connection, operation).authorizedSSHKeysSet(operation.user, list(operation.keys), flags.ssh_keys(operation.change))
    return DONE


VERBS: dict[str, Verb] = {
    "SetGuestVcpus": set_guest_vcpus,
    "SetAuthorizedSshKeys": set_authorized_ssh_keys,
    "FreezeFilesystems": freeze,
    "ThawFilesystems": thaw,
    "TrimFilesystems": trim,
    "SetGuestTime": set_guest_time,
    "SetUserPassword": set_user_password,
}
FUNCTIONS: dict[str, str] = {
    "SetGuestVcpus": "virDomainSetGuestVcpus",
    "SetAuthorizedSshKeys": "virDomainAuthorizedSSHKeysSet",
    "FreezeFilesystems": "virDomainFSFreeze",
    "ThawFilesystems": "virDomainFSThaw",
    "TrimFilesystems": "virDomainFSTrim",
    "SetGuestTime": "virDomainSetTime",
}
