"""What all values have in common."""

from __future__ import annotations

from typing import Any

import msgspec


class Value(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The base of all values and messages: frozen, keyword-only, encoded as a map so that fields can be added.

    They hold nothing but values, so no cycle: the garbage collector, which stops the loop while it looks, need not know them.
    """


class Stamp(msgspec.Struct, frozen=True, order=True, gc=False):
    """When a reading began. Ordered by (process, monotonic): wall time is for people."""

    process: int
    """Number of the driver process, growing with each restart; 0 for a driver in the server's process."""
    monotonic: float
    """Seconds of that process's monotonic clock."""
    wall: float
    """Seconds since the epoch."""


def to_builtins(value: Value) -> Any:
    """A value as plain dicts and lists, for logs and hashes."""
    return msgspec.to_builtins(value)
