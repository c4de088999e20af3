"""One simulated hypervisor and the lives of the server in front of it: each is ended as kill -9 does, and the next finds what the store had taken."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.server.world import until
from tests.virtual_time import wall
from virtrpc_drivers.operations import AnyOperation
from virtrpc_drivers.protocol import DriverSettings
from virtrpc_drivers.sim.driver import SimDriver
from virtrpc_drivers.sim.events import LoopDeliverer
from virtrpc_drivers.sim.hypervisor import SimHypervisor
from virtrpc_drivers.sim.options import from_uri
from virtrpc_server import tracing
from virtrpc_server.budgets import Budgets
from virtrpc_server.domains import Domains, Entry
from virtrpc_server.history import DEFAULT_RETENTION, Retention
from virtrpc_server.hosts import Host, HostConfig, Hosts
from virtrpc_server.jobs import Jobs
from virtrpc_server.listening import Listener
from virtrpc_server.records import Job, JobState, Order
from virtrpc_server.store import MemoryStore


class Disk(MemoryStore):
    """What outlives the process: only what was written. Every writing is as of then, however the job goes on."""

    @property
    def outlives(self) -> bool:
        """For the next life."""
        return True


class Life:
    """One life of the server."""

    def __init__(self, lives: Lives, number: int, retention: Retention) -> None:
        self.domains = Domains(generation=number * 1000)
        budgets = Budgets(wall)
        self.drivers = {
            name: SimDriver(DriverSettings(uri="sim:", path_roots=("/images",), process=number * 1000, tracing=True, host=name), sim)
            for name, sim in lives.sims.items()
        }
        self.hosts = Hosts([
            Host(HostConfig(name, f"sim://{name}/", **lives.config), self.drivers[name], self.domains, budgets, clock=wall) for name in lives.names
        ])  # fmt: skip
        self.jobs = Jobs(self.hosts, self.domains, lives.disk, wall, retention)

    async def begin(self) -> None:
        """Take up what there is, and reach the hosts."""
        await self.jobs.begin()
        for host in self.hosts:
            await host.start(self.jobs.report, lambda _host: None, tracing.export)

    async def listed(self) -> None:
        """Return once all hosts are known."""
        await until(lambda: all(host.listed for host in self.hosts))

    async def end(self) -> None:
        """End all that there is, without a word to anybody."""
        await self.jobs.close()
        for host in self.hosts:
            await host.close()


class Lives:
    """Simulated hypervisors called a, b … for the URIs given, and the present life of the server."""

    def __init__(self, *uris: str, retention: Retention = DEFAULT_RETENTION, **config: Any) -> None:
        network: dict[str, SimHypervisor] = {}
        named = zip("abc", uris or ("sim://a/?domains=4&running=2",), strict=False)
        self.sims = {name: SimHypervisor(from_uri(uri), deliverer=LoopDeliverer(), wall=wall, network=network) for name, uri in named}
        self.names = list(self.sims)
        self.config = config
        self.disk = Disk()
        self._retention = retention
        self._count = 1
        self.life = Life(self, self._count, retention)

    async def __aenter__(self) -> Lives:
        await self.life.begin()
        await self.life.listed()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.life.end()
        for sim in self.sims.values():
            await sim.close()
            assert not sim.violations

    async def killed(self) -> None:
        """The server is killed."""
        await self.life.end()

    async def restart(self, *, wait: bool = True) -> None:
        """The server is killed and started again; returns once its hosts are listed."""
        await self.killed()
        await self.started(wait=wait)

    async def started(self, *, wait: bool = True) -> None:
        """The next life begins."""
        self._count += 1
        self.life = Life(self, self._count, self._retention)
        await self.life.begin()
        if wait:
            await self.life.listed()

    @property
    def jobs(self) -> Jobs:
        """Those of the present life."""
        return self.life.jobs

    @property
    def sim(self) -> SimHypervisor:
        """The first simulated hypervisor."""
        return self.sims["a"]

    def guest(self, number: int = 1, host: str = "a") -> Entry:
        """The entry of guest-NUMBER; the first ones run."""
        (entry,) = self.life.domains.by_name(f"guest-{number}", host)
        return entry

    def accept(self, operation: AnyOperation, host: str = "a", **more: Any) -> Listener:
        """Accept an operation; the listener's caller has not left."""
        entry = self.life.domains.get((host, operation.uuid))
        name = entry.name if entry is not None else getattr(operation, "name", "")
        return self.jobs.accept(Order(host=host, operation=operation, name=name, generation=entry.generation if entry else None, **more))

    async def running(self, operation: AnyOperation, **more: Any) -> Job:
        """An operation whose call is out."""
        listener = self.accept(operation, **more)
        await listener.stored()
        await until(lambda: listener.job.state is JobState.RUNNING and listener.job.id in {call.partition(".")[0] for call in self.sim.jobs})
        return listener.job

    async def ended(self, job_id: str) -> Job:
        """A job's end, as the present life tells it."""
        last = None
        async with asyncio.timeout(3600):
            async for job in self.jobs.watch(job_id):
                last = job
        assert last is not None
        assert last.finished
        return last
