"""The verbs that attach, detach and update devices."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from virtrpc_drivers import operations as ops
from virtrpc_drivers.errors import DriverError
from virtrpc_drivers.protocol import Change
from virtrpc_drivers.sim import effects
from virtrpc_drivers.sim.checks import same_run, targets
from virtrpc_drivers.sim.domain import SimDomain
from virtrpc_drivers.sim.editing import edit
from virtrpc_drivers.sim.sdk import JobHandle

if TYPE_CHECKING:
    from virtrpc_drivers.sim.hypervisor import SimHypervisor


async def attach(hypervisor: SimHypervisor, job: JobHandle, operation: ops.AttachDevice) -> None:
    """Add a device. Raises XML_INVALID, OPERATION_FAILED where it is there, WRONG_STATE."""
    if await edit(hypervisor, job, operation.uuid, operation.scope, lambda document: document.attach(operation.xml)):
        hypervisor.emit(operation.uuid, Change.DEVICE, "added")


async def update(hypervisor: SimHypervisor, job: JobHandle, operation: ops.UpdateDevice) -> None:
    """Replace a device. Raises XML_INVALID, DEVICE_NOT_FOUND, WRONG_STATE. No event, as in libvirt."""
    await edit(hypervisor, job, operation.uuid, operation.scope, lambda document: document.update(operation.xml, merge=operation.merge))


async def detach(hypervisor: SimHypervisor, job: JobHandle, operation: ops.DetachDevice) -> Callable[[], Awaitable[None]] | None:
    """Take a device out of the stored definition at once; ask a running guest to let it go. Raises as `update`."""
    domain = hypervisor.domain(operation.uuid)
    live, config = targets(domain, operation.scope)
    if live:
        domain.definition.detach(operation.xml)
    if config:
        await edit(hypervisor, job, operation.uuid, ops.Scope.CONFIG, lambda document: document.detach(operation.xml))
    else:
        await hypervisor.monitor(operation.uuid)
        await job.strike(1)
    if not live:
        return None
    run = domain.id
    hypervisor.spawn(_guest_lets_go(hypervisor, domain, run, operation.xml))
    return lambda: hypervisor.until(lambda: not same_run(hypervisor, domain, run) or not _has(domain, operation.xml))


async def _guest_lets_go(hypervisor: SimHypervisor, domain: SimDomain, run: int | None, xml: str) -> None:
    await hypervisor.monitor(domain.uuid)
    await asyncio.sleep(hypervisor.options.detach_seconds)
    if same_run(hypervisor, domain, run) and not domain.deaf and _has(domain, xml):
        effects.edit(hypervisor, domain, live=domain.definition.detach(xml))
        hypervisor.emit(domain.uuid, Change.DEVICE, "removed")


def _has(domain: SimDomain, xml: str) -> bool:
    try:
        domain.definition.detach(xml)
    except DriverError:
        return False
    return True
