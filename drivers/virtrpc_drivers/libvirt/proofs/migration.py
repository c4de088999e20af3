"""What proves operations: moves to another host."""

from __future__ import annotations

from typing import Any

import libvirt

from virtrpc_drivers import operations as ops
from virtrpc_drivers.libvirt import migration
from virtrpc_drivers.libvirt.errors import fault_of
from virtrpc_drivers.libvirt.proofs.common import Proof, Verdict, state_text
from virtrpc_drivers.libvirt.readings import state_of
from virtrpc_drivers.values import ACTIVE_STATES, Outcome, State


def _migrated(domain: Any, operation: ops.Migrate) -> Verdict:
    state, _ = state_of(domain)
    if state in ACTIVE_STATES and state is not State.PAUSED:
        return Verdict(False, f"at the source {state_text(domain)}")
    return at_destination(operation, f"at the source {state_text(domain)}")


def at_destination(operation: ops.Migrate, source: str) -> Verdict:
    """Whether the domain runs where it was to go; `source` says what was seen where it came from."""
    try:
        runs = migration.runs_at(operation.destination_uri, operation.uuid)
    except libvirt.libvirtError as error:
        return Verdict(False, f"{source}; the destination cannot be asked: {fault_of(error).message}")
    text = f"{source}; at the destination it {'runs' if runs else 'does not run'}"
    return Verdict(runs, text, Outcome(uuid=operation.uuid, destination_uri=operation.destination_uri))


PROOFS: dict[str, Proof] = {
    "Migrate": _migrated,
}
