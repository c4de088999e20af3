"""A simulated host in this process on virtual time, for tests of the simulation itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.drivers.bed import Notices, call_of
from tests.virtual_time import wall
from virtrpc_drivers import operations as ops
from virtrpc_drivers.errors import DriverError, Reason
from virtrpc_drivers.protocol import Call, DomainChanged, DriverSettings, HostUp
from virtrpc_drivers.sim.driver import SimDriver
from virtrpc_drivers.sim.events import LoopDeliverer
from virtrpc_drivers.sim.hypervisor import Network, SimHypervisor
from virtrpc_drivers.sim.options import SimOptions
from virtrpc_drivers.values import DomainState, Group, HostInfo, Outcome


class World:
    """One host, its driver and what it said."""

    def __init__(self, hypervisor: SimHypervisor, settings: DriverSettings) -> None:
        self.hypervisor = hypervisor
        self.driver = SimDriver(settings, hypervisor)
        self.notices = Notices()

    @property
    def uuid(self) -> str:
        """The domain that runs at first."""
        return next(iter(self.hypervisor.domains))

    @property
    def info(self) -> HostInfo:
        """What the host said of itself."""
        return self.notices.since(0, HostUp)[-1].info

    @property
    def off(self) -> str:
        """A domain that is off at first."""
        return list(self.hypervisor.domains)[-1]

    def begin(self, operation: ops.AnyOperation, **fields: Any) -> tuple[Call, asyncio.Task[Outcome]]:
        """Run an operation in the background; it has reached the hypervisor when this has been awaited once."""
        call = call_of(operation, began=wall(), **fields)
        return call, asyncio.get_running_loop().create_task(self.driver.run(call))

    async def run(self, operation: ops.AnyOperation, **fields: Any) -> Outcome:
        """Run an operation to its end."""
        return await self.driver.run(call_of(operation, began=wall(), **fields))

    async def refused(self, operation: ops.AnyOperation, **fields: Any) -> Reason:
        """Run an operation that must fail; says why it did."""
        return await reason(self.driver.run(call_of(operation, began=wall(), **fields)))

    async def state(self, uuid: str = "") -> DomainState:
        """A domain's state."""
        state = (await self.driver.read([uuid or self.uuid], Group.STATE)).found[0].state
        assert state is not None
        return state

    def events(self) -> list[tuple[str, str]]:
        """All events so far: what changed, and how."""
        return [(event.change.value, event.detail) for event in self.notices.since(0, DomainChanged)]

    async def close(self) -> None:
        """Switch it off."""
        await self.driver.close()
        await self.hypervisor.close()


async def reason(work: Any) -> Reason:
    """Await something that must fail; says why it did."""
    with pytest.raises(DriverError) as caught:
        await work
    return caught.value.reason


@asynccontextmanager
async def world(network: Network | None = None, settings: DriverSettings | None = None, **options: Any) -> AsyncIterator[World]:
    """A connected host with these options (SimOptions), away from all others unless they share a network."""
    chosen = SimOptions(**options)
    alone: Network = {}
    deliverer = LoopDeliverer(chosen.seed)
    hypervisor = SimHypervisor(chosen, deliverer=deliverer, wall=wall, network=alone if network is None else network)
    made = World(hypervisor, settings or DriverSettings(uri="sim:"))
    await made.driver.start(made.notices)
    await made.notices.until(HostUp)
    try:
        yield made
    finally:
        await made.close()
        assert asyncio.all_tasks() == {asyncio.current_task()}, "the simulation left tasks behind"
