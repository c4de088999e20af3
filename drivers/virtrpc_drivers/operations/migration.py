"""Operations: moving a domain to another host."""

from __future__ import annotations

from virtrpc_drivers.operations.base import Operation


class Migrate(Operation, frozen=True):
    """virDomainMigrateToURI3; bandwidth in bytes a second."""

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


AnyMigration = Migrate
