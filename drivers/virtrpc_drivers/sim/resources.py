"""The verbs that say what a domain may use of its host, and what it is told to use: all of it stands in its definition."""

from __future__ import annotations

from typing import TYPE_CHECKING

from virtrpc_drivers import operations as ops
from virtrpc_drivers import resources
from virtrpc_drivers.errors import Reason
from virtrpc_drivers.resources import Blkio, Numa, ResourceParameters
from virtrpc_drivers.sim.checks import targets
from virtrpc_drivers.sim.editing import edit
from virtrpc_drivers.sim.sdk import JobHandle, sdk_error

if TYPE_CHECKING:
    from collections.abc import Callable
    from xml.etree.ElementTree import Element

    from virtrpc_drivers.operations.resources import AnyResources
    from virtrpc_drivers.sim.hypervisor import SimHypervisor

NODES = 1
"""How many NUMA nodes a simulated host has."""


async def set_scheduler_parameters(hypervisor: SimHypervisor, job: JobHandle, operation: ops.SetSchedulerParameters) -> None:
    """Set a share of processors."""
    await _edit(hypervisor, job, operation, lambda root: resources.put_scheduler(root, operation.parameters))


async def set_memory_parameters(hypervisor: SimHypervisor, job: JobHandle, operation: ops.SetMemoryParameters) -> None:
    """Limit memory. Raises INVALID_ARGUMENT for one of swap space that is below that of memory."""

    def change(root: Element) -> None:
        resources.put_memory(root, operation.limits)
        said = resources.memory(root)
        if 0 < said["swap_hard_limit"] < (said["hard_limit"] or said["swap_hard_limit"] + 1):
            raise sdk_error(Reason.INVALID_ARGUMENT, "memory hard_limit tunable value must be lower than or equal to swap_hard_limit")

    await _edit(hypervisor, job, operation, change)


async def set_numa_parameters(hypervisor: SimHypervisor, job: JobHandle, operation: ops.SetNumaParameters) -> None:
    """Place memory. Raises INVALID_ARGUMENT for a node that the host does not have."""
    if any(node >= NODES for node in operation.nodes):
        raise sdk_error(Reason.INVALID_ARGUMENT, f"the host has the NUMA nodes 0 to {NODES - 1}, not {max(operation.nodes)}")
    await _edit(hypervisor, job, operation, lambda root: resources.put_numa(root, Numa(mode=operation.mode, nodes=operation.nodes)))


async def set_blkio_parameters(hypervisor: SimHypervisor, job: JobHandle, operation: ops.SetBlkioParameters) -> None:
    """Set a share of block devices."""
    await _edit(hypervisor, job, operation, lambda root: resources.put_blkio(root, Blkio(weight=operation.weight, devices=operation.devices)))


def resource_parameters(hypervisor: SimHypervisor, uuid: str, scope: ops.Scope) -> ResourceParameters:
    """What a domain is told to use. Raises WRONG_STATE."""
    domain = hypervisor.domain(uuid)
    live, _ = targets(domain, scope)
    root = (domain.definition if live else domain.document).copy()
    return ResourceParameters(
        scheduler_type="sim",
        scheduler=resources.scheduler(root),
        memory=resources.memory(root),
        numa=resources.numa(root),
        blkio=resources.blkio(root),
    )


async def _edit(hypervisor: SimHypervisor, job: JobHandle, operation: AnyResources, change: Callable[[Element], None]) -> None:
    await edit(hypervisor, job, operation.uuid, operation.scope, lambda document: document.edited(change))
