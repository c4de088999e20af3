"""Whose habits a simulated host has: the table of any hypervisor that `virtrpc_drivers.support` knows."""

from __future__ import annotations

from functools import cache

import msgspec

from virtrpc_drivers import support
from virtrpc_drivers.values import Slot, VerbSupport

_VZ_UNABORTABLE = frozenset({"Define", "Undefine"})
_VZ_PROGRESS = frozenset({"ManagedSave", "Migrate", "CreateSnapshot", "RevertToSnapshot"})


@cache
def verbs(shape: str) -> tuple[VerbSupport, ...]:
    """The table of a shape."""
    rows = support.table(shape)
    return tuple(_vz(row) for row in rows) if shape == "vz" else rows


@cache
def row(shape: str, verb: str) -> VerbSupport:
    """One row of the table."""
    return next(row for row in verbs(shape) if row.verb == verb)


def _vz(row: VerbSupport) -> VerbSupport:
    # Its asynchronous SDK can cancel, and watch, what libvirt's driver for it cannot.
    held = row.slot is Slot.CONDITION and row.verb not in _VZ_UNABORTABLE
    return msgspec.structs.replace(row, abortable=held, progress=row.verb in _VZ_PROGRESS)
