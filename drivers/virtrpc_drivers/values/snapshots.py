"""A domain's snapshots."""

from __future__ import annotations

from virtrpc_drivers.values.base import Value


class Snapshot(Value, frozen=True):
    """One snapshot's metadata. `state` is the domain's state in it, or "disk-snapshot"."""

    name: str
    parent: str | None = None
    current: bool = False
    has_metadata: bool = True
    description: str | None = None
    state: str | None = None
    creation_time: int | None = None
    """Seconds since the epoch."""
    children: int = 0
    """Direct children."""
    external: bool = False
    """Whether any of its disks, or its memory, lies in a file of its own."""
    disk_only: bool = False
    xml: str | None = None
    """Only where it was asked for."""


class Snapshots(Value, frozen=True):
    """All snapshots of a domain, parents before children."""

    snapshots: tuple[Snapshot, ...] = ()
