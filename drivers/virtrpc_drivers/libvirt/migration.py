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

_DATA_SCHEMES = frozenset({"tcp", "rdma"})
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
    for uri in (operation.migrate_uri, operation.disks_uri):
        if uri and urlsplit(uri).scheme not in _DATA_SCHEMES:
            raise failure(Reason.MIGRATION_TARGET_NOT_ALLOWED, "memory and disks are sent to tcp: or rdma: and nowhere else")


# Newer than libvirt 9.0: absent from an older libvirt-python, and refused by an older libvirt.
_ZLIB_LEVEL = getattr(libvirt, "VIR_MIGRATE_PARAM_COMPRESSION_ZLIB_LEVEL", "compression.zlib.level")
_ZSTD_LEVEL = getattr(libvirt, "VIR_MIGRATE_PARAM_COMPRESSION_ZSTD_LEVEL", "compression.zstd.level")
_SINCE_9_1 = frozenset({"zlib", "zstd"})
_ZLIB_VERSION = 9_001_000


def parameters(operation: Migrate) -> dict[str, Any]:
    """The typed parameters of virDomainMigrate3; libvirt counts bandwidth in MiB a second, rounded up here."""
    wanted: dict[str, Any] = {
        libvirt.VIR_MIGRATE_PARAM_URI: operation.migrate_uri,
        libvirt.VIR_MIGRATE_PARAM_DEST_NAME: operation.new_name,
        libvirt.VIR_MIGRATE_PARAM_DEST_XML: operation.destination_xml,
        libvirt.VIR_MIGRATE_PARAM_PERSIST_XML: operation.persistent_xml,
        libvirt.VIR_MIGRATE_PARAM_LISTEN_ADDRESS: operation.listen_address,
        libvirt.VIR_MIGRATE_PARAM_BANDWIDTH: mib_per_second(operation.bandwidth_bytes_per_second),
        libvirt.VIR_MIGRATE_PARAM_BANDWIDTH_POSTCOPY: mib_per_second(operation.post_copy_bandwidth_bytes_per_second),
        libvirt.VIR_MIGRATE_PARAM_AUTO_CONVERGE_INITIAL: operation.auto_converge_initial,
        libvirt.VIR_MIGRATE_PARAM_AUTO_CONVERGE_INCREMENT: operation.auto_converge_increment,
        libvirt.VIR_MIGRATE_PARAM_PARALLEL_CONNECTIONS: operation.parallel_connections,
        libvirt.VIR_MIGRATE_PARAM_TLS_DESTINATION: operation.tls_destination,
        libvirt.VIR_MIGRATE_PARAM_MIGRATE_DISKS: list(operation.disks),
        libvirt.VIR_MIGRATE_PARAM_DISKS_PORT: operation.disks_port,
        libvirt.VIR_MIGRATE_PARAM_DISKS_URI: operation.disks_uri,
        **_compression(operation),
    }
    return {name: value for name, value in wanted.items() if value not in (None, "", [])}


def _compression(operation: Migrate) -> dict[str, Any]:
    return {
        libvirt.VIR_MIGRATE_PARAM_COMPRESSION: list(operation.compression),
        libvirt.VIR_MIGRATE_PARAM_COMPRESSION_XBZRLE_CACHE: operation.xbzrle_cache_bytes,
        libvirt.VIR_MIGRATE_PARAM_COMPRESSION_MT_LEVEL: operation.mt_level,
        libvirt.VIR_MIGRATE_PARAM_COMPRESSION_MT_THREADS: operation.mt_threads,
        libvirt.VIR_MIGRATE_PARAM_COMPRESSION_MT_DTHREADS: operation.mt_decompression_threads,
        _ZLIB_LEVEL: operation.zlib_level,
        _ZSTD_LEVEL: operation.zstd_level,
    }


def mib_per_second(bytes_per_second: int | None) -> int | None:
    """libvirt's unit of bandwidth, rounded up: 0 would be no limit."""
    return -(-bytes_per_second // MIB) if bytes_per_second else None


def milliseconds(seconds: float) -> int:
    """libvirt's unit of downtime; at least one."""
    return max(1, round(seconds * 1000))


def migrate(connection: Any, operation: Migrate) -> Outcome:
    """virDomainMigrateToURI3, or virDomainMigrate3 over a connection of our own where it is not peer to peer.

    A migration that this process manages ends with it; a peer-to-peer one goes on.
    """
    _check_version(connection, operation)
    domain = connection.lookupByUUIDString(operation.uuid)
    if operation.max_downtime_seconds is None:
        _send(domain, operation)
    else:
        _send_with_downtime(domain, operation, operation.max_downtime_seconds)
    return Outcome(uuid=operation.uuid, destination_uri=operation.destination_uri)


def _check_version(connection: Any, operation: Migrate) -> None:
    if _SINCE_9_1 & set(operation.compression) and connection.getLibVersion() < _ZLIB_VERSION:
        raise failure(Reason.UNSUPPORTED, f"compression with {' and '.join(sorted(_SINCE_9_1 & set(operation.compression)))} needs libvirt 9.1")


def _send_with_downtime(domain: Any, operation: Migrate, seconds: float) -> None:
    """The limit is the guest's and no parameter of the call: it is set before, and set back where the guest stays."""
    before = domain.migrateGetMaxDowntime()
    domain.migrateSetMaxDowntime(milliseconds(seconds))
    try:
        _send(domain, operation)
    except libvirt.libvirtError:
        try:
            domain.migrateSetMaxDowntime(before)
        except libvirt.libvirtError:
            pass  # it is gone, or nobody answers for it: the error of the call says more
        raise


def _send(domain: Any, operation: Migrate) -> None:
    if operation.peer_to_peer:
        domain.migrateToURI3(operation.destination_uri, parameters(operation), flags.migrate(operation))
        return
    destination = libvirt.open(operation.destination_uri)
    try:
        domain.migrate3(destination, parameters(operation), flags.migrate(operation))
    finally:
        destination.close()


_INCOMING = (libvirt.VIR_DOMAIN_PAUSED_MIGRATION, libvirt.VIR_DOMAIN_PAUSED_STARTING_UP, libvirt.VIR_DOMAIN_PAUSED_POSTCOPY_FAILED)


def runs_at(uri: str, uuid: str) -> bool:
    """Whether a domain has arrived at a destination: one that still waits for its memory has not. Raises libvirt's error where it cannot be asked."""
    destination = libvirt.openReadOnly(uri)
    try:
        domain = destination.lookupByUUIDString(uuid)
        state, reason = domain.state()
        return bool(domain.isActive()) and not (state == libvirt.VIR_DOMAIN_PAUSED and reason in _INCOMING)
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return False
        raise
    finally:
        destination.close()
