"""What proves operations: memory that went to a file, and came back."""

from __future__ import annotations

from typing import Any

import libvirt

from virtrpc_drivers import operations as ops
from virtrpc_drivers.libvirt.operations.files import save_image
from virtrpc_drivers.libvirt.proofs.common import Proof, Verdict, state_text
from virtrpc_drivers.libvirt.readings import state_of
from virtrpc_drivers.values import Outcome, State


def _saved(domain: Any, operation: ops.Save) -> Verdict:
    state, reason = state_of(domain)
    whole = _is_whole(domain.connect(), operation)
    text = f"{state_text(domain)}, {'with a complete image' if whole else 'without a complete image'} in {operation.path!r}"
    # Whether it is ours its file tells, as `_written` looks at it: it may hold what was saved earlier.
    return Verdict(whole and state is State.SHUTOFF and reason in ("saved", "unknown"), text, Outcome(path=operation.path))


def _is_whole(connection: Any, operation: ops.Save) -> bool:
    """libvirt marks an image that was not finished, and refuses to read it."""
    try:
        return save_image(connection, operation.path).uuid == operation.uuid
    except libvirt.libvirtError:
        return False


def _restored(domain: Any, operation: ops.Restore) -> Verdict:
    # One that is paused, or was, does not say any more where it comes from.
    return Verdict(state_of(domain) == (State.RUNNING, "restored"), state_text(domain), Outcome(path=operation.path))


def _dumped(domain: Any, operation: ops.DumpCore) -> Verdict:
    stats = domain.jobStats(libvirt.VIR_DOMAIN_JOB_STATS_COMPLETED | libvirt.VIR_DOMAIN_JOB_STATS_KEEP_COMPLETED)
    ours = stats.get(libvirt.VIR_DOMAIN_JOB_OPERATION) == libvirt.VIR_DOMAIN_JOB_OPERATION_DUMP and stats.get("success", True)
    text = "its completed statistics are those of a core dump" if ours else "its completed statistics are not those of a core dump"
    # Whether it is ours its file tells, as `_written` looks at it: these statistics may be those of an earlier one.
    return Verdict(bool(ours), f"{text}; {operation.path!r} may be incomplete", Outcome(path=operation.path))


PROOFS: dict[str, Proof] = {
    "Save": _saved,
    "Restore": _restored,
    "DumpCore": _dumped,
}
