"""Live migration to another host's libvirt."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

import libvirt

from virtrpc_drivers.errors import Reason, failure
from virtrpc_drivers.libvirt import flags
from virtrpc_drivers.operations import Migrate
from virtrpc_drivers.values import Outcome

MIB = 1024 * 1024

_DATA_SCHEMES = frozenset({"tcp", "rdma", "unix"})
_RUNS_COMMANDS = frozenset({"command", "netcat", "proxy", "keyfile", "known_hosts", "known_hosts_verify", "sshauth"})


def check_target(operation: Migrate, schemes: tuple[str, ...]) -> None:
    """Refuse a destination that could make libvirt run something or that is not allow-listed. Raises MIGRATION_TARGET_NOT_ALLOWED.

    The server has resolved hosts' names and judged callers' URIs; this is the last look before libvirt gets them. `schemes`
    empty leaves the choice of scheme to the server.
    """
    destination = urlsplit(operation.destination_uri)
    scheme = destination.scheme.lower()
    transport = scheme.partition("+")[2]
    if not scheme or transport == "ext" or _RUNS_COMMANDS & parse_qs(destination.query, keep_blank_values=True).keys():
        raise failure(Reason.MIGRATION_TARGET_NOT_ALLOWED, "the destination's URI is not allowed: it names a transport that runs commands")
    if schemes and scheme not in schemes:
        raise failure(Reason.MIGRATION_TARGET_NOT_ALLOWED, f"migration over {scheme!r} is not allowed")
    if operation.migrate_uri and urlsplit(operation.migrate_uri).scheme.lower() not in _DATA_SCHEMES:
        raise failure(Reason.MIGRATION_TARGET_NOT_ALLOWED, "the migration URI must begin with tcp:, rdma: or unix:")


def parameters(operation: Migrate) -> dict[str, Any]:
    """The typed parameters of virDomainMigrate3; libvirt counts bandwidth in MiB a second, rounded up here."""
    wanted: dict[str, Any] = {}
    if operation.migrate_uri:
        wanted[libvirt.VIR_MIGRATE_PARAM_URI] = operation.migrate_uri
    if operation.new_name:
        wanted[libvirt.VIR_MIGRATE_PARAM_DEST_NAME] = operation.new_name
    if operation.bandwidth_bytes_per_second:
        wanted[libvirt.VIR_MIGRATE_PARAM_BANDWIDTH] = -(-operation.bandwidth_bytes_per_second // MIB)
    return wanted


def migrate(connection: Any, operation: Migrate) -> Outcome:
    """virDomainMigrateToURI3, or virDomainMigrate3 over a connection of our own where it is not peer to peer.

    A migration that this process manages ends with it; a peer-to-peer one goes on.
    """
    domain = connection.lookupByUUIDString(operation.uuid)
    if operation.peer_to_peer:
        domain.migrateToURI3(operation.destination_uri, parameters(operation), flags.migrate(operation))
    else:
        destination = libvirt.open(operation.destination_uri)
        try:
            domain.migrate3(destination, parameters(operation), flags.migrate(operation))
        finally:
            destination.close()
    return Outcome(uuid=operation.uuid, destination_uri=operation.destination_uri)


def runs_at(uri: str, uuid: str) -> bool:
    """Whether a domain is active at a destination. Raises libvirt's error where that host cannot be asked."""
    destination = libvirt.openReadOnly(uri)
    try:
        return bool(destination.lookupByUUIDString(uuid).isActive())
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return False
        raise
    finally:
        destination.close()
