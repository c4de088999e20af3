"""What proves operations: starting, stopping and saving domains."""

from __future__ import annotations

from typing import Any

import libvirt

from virtrpc_drivers import operations as ops
from virtrpc_drivers.libvirt.proofs.common import Proof, Verdict, state_text
from virtrpc_drivers.libvirt.readings import state_of
from virtrpc_drivers.values import ACTIVE_STATES, State


def _suspended(domain: Any, _operation: ops.Operation) -> Verdict:
    return Verdict(state_of(domain) == (State.PAUSED, "user"), state_text(domain))


def _running(domain: Any, _operation: ops.Operation) -> Verdict:
    return Verdict(state_of(domain)[0] is State.RUNNING, state_text(domain))


def started(domain: Any, operation: ops.Start | ops.Create) -> Verdict:
    """A domain that was to run does."""
    state, reason = state_of(domain)
    if isinstance(operation, ops.Start) and operation.force_boot and reason == "restored":
        return Verdict(False, f"it was to boot anew, and {state_text(domain)}")
    paused = operation.paused and state is State.PAUSED and reason != "starting_up"
    return Verdict(state is State.RUNNING or paused, state_text(domain))


def _off(domain: Any, _operation: ops.Operation) -> Verdict:
    return Verdict(state_of(domain)[0] not in ACTIVE_STATES, state_text(domain))


def _saved(domain: Any, _operation: ops.Operation) -> Verdict:
    state, reason = state_of(domain)
    image = bool(domain.hasManagedSaveImage(0))
    complete = image and _complete(domain)
    text = f"{state_text(domain)}, {'with' if complete else 'with an incomplete' if image else 'without a'} saved image"
    # A restarted daemon no longer knows why a domain is off; that it is, with a complete image, only a save can have done.
    return Verdict(complete and state is State.SHUTOFF and reason in ("saved", "unknown"), text)


def _complete(domain: Any) -> bool:
    """Whether the managed save image is whole: libvirt marks one that was not finished, and refuses to read it."""
    try:
        return bool(domain.managedSaveGetXMLDesc(0))
    except libvirt.libvirtError as error:
        return bool(error.get_error_code() == libvirt.VIR_ERR_NO_SUPPORT)


def _save_removed(domain: Any, _operation: ops.Operation) -> Verdict:
    image = bool(domain.hasManagedSaveImage(0))
    state, reason = state_of(domain)
    # A guest that was started has used its image up: that is not what was asked for.
    kept = state is State.SHUTOFF and reason in ("saved", "unknown")
    return Verdict(not image and kept, f"{state_text(domain)}, and has {'a' if image else 'no'} saved image")


def _asleep(domain: Any, operation: ops.PowerManagementSuspend) -> Verdict:
    if operation.target == "disk":
        return Verdict(False, f"{state_text(domain)}: one that sleeps on its disk is off like any other")
    return Verdict(state_of(domain)[0] is State.PMSUSPENDED, state_text(domain))


def _awake(domain: Any, _operation: ops.Operation) -> Verdict:
    return Verdict(state_of(domain) == (State.RUNNING, "wakeup"), state_text(domain))


PROOFS: dict[str, Proof] = {
    "PowerManagementSuspend": _asleep,
    "PowerManagementWakeup": _awake,
    "Suspend": _suspended,
    "Resume": _running,
    "Start": started,
    "Shutdown": _off,
    "Destroy": _off,
    "ManagedSave": _saved,
    "RemoveManagedSave": _save_removed,
}
