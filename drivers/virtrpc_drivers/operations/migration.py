"""Operations: moving a domain to another host."""

from __future__ import annotations

from virtrpc_drivers.migration import Step
from virtrpc_drivers.operations.base import Operation


class Migrate(Operation, frozen=True):
    """virDomainMigrateToURI3; bytes, bytes a second, seconds, per cent. None: the hypervisor's own choice."""

    destination_uri: str
    migrate_uri: str = ""
    new_name: str = ""
    live: bool = True
    peer_to_peer: bool = True
    persist_destination: bool = False
    undefine_source: bool = False
    unsafe: bool = False
    offline: bool = False
    paused: bool = False
    bandwidth_bytes_per_second: int | None = None
    max_downtime_seconds: float | None = None
    auto_converge: bool = False
    auto_converge_initial: int | None = None
    auto_converge_increment: int | None = None
    post_copy: bool = False
    """Allowed: it begins when the call is tuned so."""
    post_copy_bandwidth_bytes_per_second: int | None = None
    parallel: bool = False
    parallel_connections: int | None = None
    zero_copy: bool = False
    compressed: bool = False
    compression: tuple[str, ...] = ()
    """libvirt's words: xbzrle, mt, zlib, zstd."""
    xbzrle_cache_bytes: int | None = None
    mt_level: int | None = None
    mt_threads: int | None = None
    mt_decompression_threads: int | None = None
    zlib_level: int | None = None
    zstd_level: int | None = None
    storage: str = ""
    """"all", "incremental", or nothing is copied."""
    disks: tuple[str, ...] = ()
    disks_port: int | None = None
    disks_uri: str = ""
    synchronous_writes: bool = False
    tls: bool = False
    tls_destination: str = ""
    tunnelled: bool = False
    abort_on_error: bool = False
    destination_xml: str = ""
    persistent_xml: str = ""
    listen_address: str = ""
    schedule: tuple[Step, ...] = ()
    """For the server, which tunes and stops it: kept here because it is stored with the job."""


AnyMigration = Migrate
