"""What proves operations: what a domain may use of its host. It stands in the definition, but what a scheduler without one is told."""

from __future__ import annotations

from typing import Any

from virtrpc_drivers import operations as ops
from virtrpc_drivers.libvirt import capabilities
from virtrpc_drivers.libvirt.proofs.common import Proof, Verdict, shown_by_definition
from virtrpc_drivers.libvirt.resources import ONE_SCHEDULER, resource_parameters


def _scheduled(domain: Any, operation: ops.SetSchedulerParameters) -> Verdict:
    connection = domain.connect()
    if capabilities.hypervisor_of(connection) not in ONE_SCHEDULER:
        return shown_by_definition("SetSchedulerParameters")(domain, operation)
    found = resource_parameters(connection, operation.uuid, ops.Scope.CURRENT).scheduler or {}
    proven = operation.parameters.items() <= found.items()
    return Verdict(proven, f"its scheduler {'has' if proven else 'does not have'} these parameters")


PROOFS: dict[str, Proof] = {
    "SetSchedulerParameters": _scheduled,
    **{verb: shown_by_definition(verb) for verb in ("SetMemoryParameters", "SetNumaParameters", "SetBlkioParameters")},
}
