"""A domain's checkpoints."""

from __future__ import annotations

from virtrpc_drivers.values.base import Value


class Checkpoint(Value, frozen=True):
    """One checkpoint's metadata; `disks` are the targets of those that take part."""

    name: str
    parent: str | None = None
    description: str | None = None
    creation_time: int | None = None
    """Seconds since the epoch."""
    children: int = 0
    """Direct children."""
    disks: tuple[str, ...] = ()


class Checkpoints(Value, frozen=True):
    """All checkpoints of a domain."""

    checkpoints: tuple[Checkpoint, ...] = ()
