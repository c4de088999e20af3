"""What proves operations: what a domain may use of its host. It stands in the definition, but what a scheduler without one is told."""

from __future__ import annotations

from typing import Any
from xml.etree.ElementTree import Element

from virtrpc_drivers import operations as ops
from virtrpc_drivers import resources
from virtrpc_drivers.libvirt import capabilities
from virtrpc_drivers.libvirt.proofs.common import Proof, Verdict, shows
from virtrpc_drivers.libvirt.resources import ONE_SCHEDULER, resource_parameters


def _scheduled(domain: Any, operation: ops.SetSchedulerParameters) -> Verdict:
    connection = domain.connect()
    if capabilities.hypervisor_of(connection) not in ONE_SCHEDULER:
        return shows(_says_scheduler)(domain, operation)
    found = resource_parameters(connection, operation.uuid, ops.Scope.CURRENT).scheduler or {}
    proven = operation.parameters.items() <= found.items()
    return Verdict(proven, f"its scheduler {'has' if proven else 'does not have'} these parameters")


def _says_scheduler(root: Element, operation: ops.SetSchedulerParameters) -> bool:
    found = resources.scheduler(root)
    return all(found.get(name, 0) == number for name, number in operation.parameters.items())


def _says_memory(root: Element, operation: ops.SetMemoryParameters) -> bool:
    found = resources.memory(root)
    return all(resources.in_kib(found[name]) == resources.in_kib(limit) for name, limit in operation.limits.items())


def _says_numa(root: Element, operation: ops.SetNumaParameters) -> bool:
    found = resources.numa(root)
    return operation.mode in ("", found.mode) and operation.nodes in ((), found.nodes)


def _says_blkio(root: Element, operation: ops.SetBlkioParameters) -> bool:
    return resources.includes(resources.blkio(root), resources.Blkio(weight=operation.weight, devices=operation.devices))


PROOFS: dict[str, Proof] = {
    "SetSchedulerParameters": _scheduled,
    "SetMemoryParameters": shows(_says_memory),
    "SetNumaParameters": shows(_says_numa),
    "SetBlkioParameters": shows(_says_blkio),
}
