"""One test of kills: a server on simulated hosts that outlive it, under load, killed again and again, and the reckoning at the end."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.beds.sim_daemon import SimDaemon
from tests.restart import bed
from tests.restart.bed import StubbornServer
from tests.restart.load import Load
from tests.restart.reckoning import Reckoning
from tests.restart.told import Told

Kill = Callable[[StubbornServer, random.Random], None]
"""Kills something and returns once the load may go on."""


@dataclass
class Ordeal:
    """A server, its hosts' daemon, and chances that a seed decides."""

    daemon: SimDaemon
    server: StubbornServer
    hosts: str
    chances: random.Random
    kills: list[float] = field(default_factory=list)
    """When something was killed, in seconds since the epoch."""
    told: Told = field(default_factory=Told)

    async def go(self, count: int, pause: float, kill: Kill) -> Reckoning:
        """Kill so often, after up to `pause` seconds each time, under load; then all must be one story."""
        async with self.server.client() as client:
            load = Load(client, self.told, self.chances, "/tmp")
            await load.begin()
            for _ in range(count):
                await asyncio.sleep(self.chances.uniform(0, pause))
                self.kills.append(time.time())
                await asyncio.to_thread(kill, self.server, self.chances)
                load.told.assert_well()
            await load.finish()
            reckoning = await Reckoning.of(client, self.daemon, self.hosts, self.kills)
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
    with SimDaemon() as daemon, StubbornServer(bed.sim_hosts(daemon, hosts, domains), state=state, path_roots=["/tmp"]) as server:
        server.wait_live()
        yield Ordeal(daemon, server, hosts, random.Random(seed))
        server.kill()
        server.check_journal()
        server.assert_no_fault_of_its_own()
