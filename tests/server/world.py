"""A server's core without a transport: simulated hosts, their part of the cache, and the jobs. For tests of what lies below the services."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import wraps
from types import TracebackType
from typing import Any

from tests.virtual_time import run, wall
from virtrpc_drivers.operations import AnyOperation
from virtrpc_drivers.protocol import DriverSettings
from virtrpc_drivers.sim.driver import SimDriver
from virtrpc_drivers.sim.events import LoopDeliverer
from virtrpc_drivers.sim.hypervisor import SimHypervisor
from virtrpc_drivers.sim.options import from_uri
from virtrpc_server.budgets import Budgets
from virtrpc_server.domains import Domains, Entry
from virtrpc_server.history import DEFAULT_RETENTION, Retention
from virtrpc_server.hosts import Host, HostConfig, Hosts
from virtrpc_server.jobs import Jobs
from virtrpc_server.listening import Listener
from virtrpc_server.policy.decisions import Decisions
from virtrpc_server.policy.job_sight import JobSight
from virtrpc_server.policy.sight import Sight
from virtrpc_server.records import Job, JobState, Order
from virtrpc_server.store import MemoryStore, Store

HANG_GUARD = 60.0
"""Seconds after which a condition that never comes true fails its test; on virtual time these cost nothing."""
VIRTUAL_GUARD = 1000.0
"""Virtual seconds that a whole test may take."""


async def _guarded(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    # Samplers and audits never end, so that a test which waits in vain would spin for ever instead of stopping.
    async with asyncio.timeout(VIRTUAL_GUARD):
        await test()


def virtual(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Run an async test on virtual time."""

    @wraps(test)
    def on_virtual_time() -> None:
        run(_guarded(test))

    # What pytest sees must be a plain function.
    del on_virtual_time.__wrapped__
    return on_virtual_time


async def until(condition: Callable[[], Any], guard: float = HANG_GUARD) -> None:
    """Wait for a condition by polling it."""
    async with asyncio.timeout(guard):
        while not condition():  # noqa: ASYNC110  # any condition, not one that announces itself
            await asyncio.sleep(0.01)


def all_seen(jobs: Jobs) -> JobSight:
    """Jobs as they are shown where there is no policy."""
    return JobSight(Sight(Decisions(), jobs.domains), jobs)


class World:
    """Hosts called a, b, c … for the URIs given, connected and listed."""

    def __init__(self, *uris: str, store: Store | None = None, retention: Retention = DEFAULT_RETENTION, **config: Any) -> None:
        self.domains = Domains()
        network: dict[str, SimHypervisor] = {}
        named = zip("abc", uris or ("sim://a/?domains=4&running=2",), strict=False)
        self.sims = {name: SimHypervisor(from_uri(uri), deliverer=LoopDeliverer(), wall=wall, network=network) for name, uri in named}
        self.drivers = {name: SimDriver(DriverSettings(uri="sim:", path_roots=("/images",)), sim) for name, sim in self.sims.items()}
        self.budgets = Budgets(wall)
        self.hosts = Hosts(
            [
                Host(HostConfig(name, f"sim://{name}/", **config), driver, self.domains, self.budgets, clock=wall)
                for name, driver in self.drivers.items()
            ]
        )
        self.jobs = Jobs(self.hosts, self.domains, store or MemoryStore(), wall, retention)

    async def __aenter__(self) -> World:
        for host in self.hosts:
            await host.start(self.jobs.report, lambda _host: None, lambda _spans: None)
        await until(lambda: all(host.listed for host in self.hosts))
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.jobs.close()
        for host in self.hosts:
            await host.close()
        for sim in self.sims.values():
            await sim.close()
            assert not sim.violations

    @property
    def sim(self) -> SimHypervisor:
        """The first host's simulated hypervisor."""
        return self.sims["a"]

    def guest(self, number: int = 1, host: str = "a") -> Entry:
        """The entry of guest-NUMBER; the first ones run."""
        (entry,) = self.domains.by_name(f"guest-{number}", host)
        return entry

    def order(self, operation: AnyOperation, host: str = "a", **more: Any) -> Order:
        """An order for an operation on a domain as it is now."""
        entry = self.domains.get((host, operation.uuid))
        name = entry.name if entry is not None else getattr(operation, "name", "")
        return Order(host=host, operation=operation, name=name, generation=entry.generation if entry is not None else None, **more)

    def accept(self, operation: AnyOperation, host: str = "a", **more: Any) -> Listener:
        """Accept an operation; the listener's caller has not left."""
        return self.jobs.accept(self.order(operation, host, **more))

    async def run(self, operation: AnyOperation, host: str = "a", **more: Any) -> Job:
        """Run an operation to its end."""
        return await self.end(self.accept(operation, host, **more))

    async def end(self, listener: Listener) -> Job:
        """The final form of a job."""
        await listener.stored()
        updates = [job async for job in listener.updates()]
        assert updates[-1].finished
        return updates[-1]

    async def running(self, listener: Listener) -> Job:
        """The job once its call is out."""
        await until(lambda: listener.job.state is JobState.RUNNING)
        return listener.job
