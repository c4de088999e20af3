"""What shows that the hypervisor is still at a call of which it keeps no statistics, where its job on the domain cannot be taken."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import libvirt

from virtrpc_drivers import operations as ops
from virtrpc_drivers.libvirt import snapshots
from virtrpc_drivers.libvirt.readings import state_of
from virtrpc_drivers.protocol import Call
from virtrpc_drivers.values import State

_COMES_UP = ("starting_up", "migration")
"""Why a domain is paused that is being started, or has its memory read from an image."""


def _being_taken(domain: Any, operation: ops.CreateSnapshot, began: float) -> bool:
    """libvirt lists a snapshot from its beginning, and calls it the current one once it has been taken."""
    snapshot = snapshots.describe(domain.snapshotLookupByName(operation.name, 0))
    return not snapshot.current and snapshot.creation_time is not None and snapshot.creation_time >= int(began)


def _coming_up(domain: Any, _operation: ops.Operation, _began: float) -> bool:
    state, reason = state_of(domain)
    return state is State.PAUSED and reason in _COMES_UP


_SHOWN: dict[type[ops.Operation], Callable[[Any, Any, float], bool]] = {
    ops.CreateSnapshot: _being_taken,
    ops.Start: _coming_up,
    ops.Create: _coming_up,
    ops.Restore: _coming_up,
}


def is_under_way(connection: Any, call: Call) -> bool:
    """Whether the domain looks as it does during this call. Only reads that wait for no job."""
    shown = _SHOWN.get(type(call.operation))
    if shown is None:
        return False
    try:
        return shown(connection.lookupByUUIDString(call.operation.uuid), call.operation, call.began)
    except libvirt.libvirtError:
        return False
