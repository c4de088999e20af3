"""Whose habits a simulated host has: the table of verbs of QEMU, of Virtuozzo and of ESX."""

from __future__ import annotations

from functools import cache

from virtrpc_drivers.operations import VERBS
from virtrpc_drivers.values import Slot, VerbSupport

_SLOTS = {"Shutdown": Slot.ASKING, "Reboot": Slot.ASKING, "DetachDevice": Slot.ASKING, "SetUserPassword": Slot.AGENT, "Destroy": Slot.DESTROY}
_LONG = frozenset({"ManagedSave", "Migrate", "CreateSnapshot"})
"""Verbs that can be watched and aborted on QEMU; a snapshot only where it writes memory to a file."""
_VZ_SHARED = frozenset({"DeleteSnapshot", "RemoveManagedSave"})
_VZ_UNABORTABLE = frozenset({"Destroy", "Define", "Create", "Undefine", *_VZ_SHARED})
_VZ_PROGRESS = frozenset({*_LONG, "RevertToSnapshot"})
_ESX_LACKS = frozenset({
    "ManagedSave", "RemoveManagedSave", "SetUserPassword", "AttachDevice", "DetachDevice", "UpdateDevice", "Migrate", "Create",
})  # fmt: skip


@cache
def verbs(shape: str) -> tuple[VerbSupport, ...]:
    """The table of verbs of a shape: qemu, vz or esx."""
    return tuple({"vz": _vz, "esx": _esx}.get(shape, _qemu)(verb) for verb in VERBS)


@cache
def row(shape: str, verb: str) -> VerbSupport:
    """One row of the table."""
    return next(row for row in verbs(shape) if row.verb == verb)


def _qemu(verb: str) -> VerbSupport:
    return VerbSupport(verb=verb, slot=_SLOTS.get(verb, Slot.CONDITION), progress=verb in _LONG, abortable=verb in _LONG)


def _vz(verb: str) -> VerbSupport:
    slot = Slot.DESTROY if verb == "Destroy" else Slot.NONE if verb in _VZ_SHARED else Slot.CONDITION
    return VerbSupport(verb=verb, slot=slot, progress=verb in _VZ_PROGRESS, abortable=verb not in _VZ_UNABORTABLE, supported=verb != "Create")


def _esx(verb: str) -> VerbSupport:
    return VerbSupport(verb=verb, slot=_SLOTS.get(verb, Slot.CONDITION), killable=True, supported=verb not in _ESX_LACKS)
