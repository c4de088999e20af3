"""How a verb changes a domain's definitions: the running guest's, the stored one, or both."""

from __future__ import annotations

from typing import TYPE_CHECKING

from virtrpc_drivers.operations import Scope
from virtrpc_drivers.sim import effects
from virtrpc_drivers.sim.checks import targets
from virtrpc_drivers.sim.sdk import JobHandle
from virtrpc_drivers.sim.xmldoc import Document

if TYPE_CHECKING:
    from collections.abc import Callable

    from virtrpc_drivers.sim.hypervisor import SimHypervisor


async def edit(hypervisor: SimHypervisor, job: JobHandle, uuid: str, scope: Scope, change: Callable[[Document], Document]) -> bool:
    """Change the definitions that the scope names, all or none; whether the running guest was among them."""
    targets(hypervisor.domain(uuid), scope)
    await hypervisor.monitor(uuid)
    await job.strike(1)
    domain = hypervisor.domain(uuid)
    live, config = targets(domain, scope)
    changed_live = change(domain.definition) if live else None
    changed_config = change(domain.document) if config else None
    effects.edit(hypervisor, domain, live=changed_live, config=changed_config)
    return live
