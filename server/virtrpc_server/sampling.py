"""Sampling the running guests' statistics, so that no query ever asks a monitor.

A sweep asks for all at once and waits for no job. A guest that was wedged while idle hangs a sweep all the same: then the
monitors are asked which of them are occupied (that takes no job), those are left out, and the rest is sampled in small batches
on a replaced place. VDSM's sampling works the same way.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from virtrpc_drivers.errors import DriverError
from virtrpc_drivers.protocol import Driver
from virtrpc_drivers.values import Control
from virtrpc_server.domains import Domains, Entry

log = logging.getLogger(__name__)

SAMPLE_PERIOD = 1.0
SECONDS_PER_GUEST = 0.05
HANG_SECONDS = 5.0
MAX_STUCK = 3
"""Hung sweeps whose place is replaced; with one more, statistics go STALE until one returns."""
SMALL_BATCH = 4
LIVE_PERIODS = 3


class Sampler:
    """Samples one host. `period` is the target age of its statistics in seconds, LIVE up to three of them; `shortest` is that of few guests."""

    def __init__(self, host: str, driver: Driver, domains: Domains, shortest: float = SAMPLE_PERIOD) -> None:
        self._host = host
        self._driver = driver
        self._domains = domains
        self._shortest = shortest
        self._stuck: set[asyncio.Task[None]] = set()
        self._in_flight: dict[asyncio.Task[None], tuple[str, ...]] = {}
        self._task: asyncio.Task[None] | None = None
        self.quarantined: set[str] = set()
        self._guests = 0

    @property
    def period(self) -> float:
        """Seconds between two sweeps, by the number of running guests."""
        # Counted once for each sweep: every answer with statistics asks for this.
        return max(self._shortest, SECONDS_PER_GUEST * self._guests)

    @property
    def live_seconds(self) -> float:
        """How old statistics may be and still count as LIVE."""
        return LIVE_PERIODS * self.period

    def start(self) -> None:
        """Begin to sample, until `pause` or `stop`."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._sweep_for_ever())

    def pause(self) -> None:
        """The host is not connected: there is nothing to ask."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def stop(self) -> None:
        """Sample no more; calls that are out are abandoned."""
        tasks = [*self._in_flight, *([self._task] if self._task else [])]
        self._task = None
        self._stuck.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _running(self) -> list[Entry]:
        return [entry for entry in self._domains.on_host(self._host) if entry.active]

    async def _sweep_for_ever(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            try:
                await self._sweep()
            except (DriverError, TimeoutError) as error:
                log.info("host %s: sampling failed: %s", self._host, error)
            await asyncio.sleep(max(0.0, began + self.period - loop.time()))

    async def _sweep(self) -> None:
        running = [entry.uuid for entry in self._running()]
        self._guests = len(running)
        if not running:
            return
        if self._stuck or self.quarantined:
            await self._quarantine(running)
        healthy = [uuid for uuid in running if uuid not in self.quarantined]
        size = SMALL_BATCH if self._stuck else len(healthy)
        for start in range(0, len(healthy), size or 1):
            if len(self._stuck) > MAX_STUCK:
                return
            await self._sample(healthy[start : start + size])

    async def _sample(self, uuids: Sequence[str]) -> None:
        task = asyncio.get_running_loop().create_task(self._sample_once(uuids))
        self._in_flight[task] = tuple(uuids)
        task.add_done_callback(self._returned)
        done, _ = await asyncio.wait([task], timeout=HANG_SECONDS)
        if not done:
            log.warning("host %s: a sweep of %d guests hangs", self._host, len(uuids))
            self._stuck.add(task)

    async def _sample_once(self, uuids: Sequence[str]) -> None:
        samples = await self._driver.sample(uuids)
        for reading in samples.stats:
            self._domains.sampled(self._host, reading)

    def _returned(self, task: asyncio.Task[None]) -> None:
        self._in_flight.pop(task, None)
        self._stuck.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.info("host %s: sampling failed: %s", self._host, error)

    async def _quarantine(self, running: Sequence[str]) -> None:
        async with asyncio.timeout(HANG_SECONDS):
            controls = await self._driver.controls(running)
        # A guest is left out while its monitor is occupied, and one that hung alone until its call returns.
        occupied = {row.uuid for row in controls.controls if row.control in (Control.OCCUPIED, Control.ERROR)}
        alone = {uuids[0] for task in self._stuck if len(uuids := self._in_flight.get(task, ())) == 1}
        self.quarantined = occupied | alone
