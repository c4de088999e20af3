"""One test of kills: a server on simulated hosts that outlive it, under load, killed again and again, and the reckoning at the end."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from unittest.mock import patch

from tests.beds.sim_daemon import SimDaemon
from tests.e2e.server import Setting
from tests.restart import bed
from tests.restart.bed import StubbornServer
from tests.restart.load import GUARD, Load
from tests.restart.reckoning import Reckoning
from tests.restart.told import Told
from virtrpc import AsyncClient
from virtrpc.address import CHANNEL_OPTIONS
from virtrpc_drivers.errors import Reason
from virtrpc_drivers.sim.control import AddFault
from virtrpc_drivers.sim.faults import Rule

FAILING = Rule(step=1, reason=Reason.FAILED, chance=0.1)
"""One call in ten fails at the hypervisor, half-way: also where nobody is there to hear it."""
HASTE = (
    patch.multiple(
        "virtrpc.credentials",
        CHANNEL_OPTIONS=tuple(dict(CHANNEL_OPTIONS, **{"grpc.initial_reconnect_backoff_ms": 50, "grpc.max_reconnect_backoff_ms": 100}).items()),
    ),
    patch("virtrpc.backoff.LONGEST_TRIAL", 0.2),
)
"""Clients that are back at once: else the next kill would find the server without load."""
Kill = Callable[[StubbornServer, random.Random], None]
"""Kills something and returns once the load may go on."""


@dataclass
class Ordeal:
    """A server, its hosts' daemon, and chances that a seed decides."""

    daemon: SimDaemon
    server: StubbornServer
    hosts: str
    chances: random.Random
    told: Told = field(default_factory=Told)

    async def go(self, count: int, pause: float, kill: Kill) -> Reckoning:
        """Kill so often, after up to `pause` seconds each time, under load; then all must be one story."""
        with HASTE[0], HASTE[1]:
            async with self.server.client(timeout=GUARD) as client:
                return await self._under_load(client, count, pause, kill)

    async def _under_load(self, client: AsyncClient, count: int, pause: float, kill: Kill) -> Reckoning:
        for host in self.hosts:
            async with self.daemon.connected(host) as driver:
                await driver.simulate(AddFault(rule=FAILING))
        load = Load(client, self.told, self.chances, self.hosts)
        await load.begin()
        for number in range(1, count + 1):
            await asyncio.sleep(self.chances.uniform(0, pause))
            print(f"kill {number} after {self.told.summary()}", flush=True)
            await asyncio.to_thread(kill, self.server, self.chances)
            load.assert_well()
        await load.finish()
        reckoning = await Reckoning.of(client, self.daemon, self.hosts, self.server.kills)
        await load.caught_up(reckoning.jobs)
        await load.stop_watching()
        print(reckoning.summary())
        reckoning.check(load)
        return reckoning


@contextmanager
def ordeal(hosts: str, domains: int, state: Path | None = None) -> Iterator[Ordeal]:
    """One whose hosts are LIVE; afterwards the journal is whole, and the server has no fault of its own to tell of."""
    seed = bed.seed()
    print(f"{bed.SEED}={seed}")
    settings: dict[str, Setting | list[str]] = {"path_roots": ["/tmp"], "history_jobs": 100_000}
    with SimDaemon() as daemon, StubbornServer(bed.sim_hosts(daemon, hosts, domains), state=state, **settings) as server:
        server.wait_live()
        yield Ordeal(daemon, server, hosts, random.Random(seed))
        server.kill()
        server.check_journal()
        server.assert_no_fault_of_its_own()
