"""Sampling the running guests' statistics, so that no query ever asks a monitor.

The guests are cut into shards, one call each, spread over the period: one call is out at a time. No call waits for a job, but a
guest that was wedged while idle hangs the call that asks it. Such a call is left behind, and what it brings when it comes back is
taken in all the same. While any hangs, only guests that have given a sign of life since are asked (`suspicion.py`): so the number
of calls that hang stays small however many guests are wedged. Each of them holds one of a daemon's few workers.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from virtrpc_drivers.errors import DriverError
from virtrpc_drivers.protocol import Driver
from virtrpc_drivers.values import Pulse, Pulses
from virtrpc_server.domains import Domains
from virtrpc_server.suspicion import Suspicion

log = logging.getLogger(__name__)

SAMPLE_PERIOD = 1.0
SECONDS_PER_GUEST = 0.05
LIVE_PERIODS = 3
SHARDS = 8
LARGEST_SHARD = 64
HANG_SECONDS = 1.0
"""A call that is not back after this long, or after HANG_FACTOR times what it should take where that is longer, hangs."""
HANG_FACTOR = 4.0
LATE = 0.25
"""The part of that time after which it is late, and the guests' pulses are taken: to compare with, should it hang."""
USUAL_COST = 0.025
"""Seconds for one guest, before any was measured."""
TRIALS = 2
"""While as many calls hang, or monitors are occupied, no guest is tried that gives no sign of life."""
MAX_HUNG = 4
"""While as many calls hang, nothing is sampled: the statistics go STALE, and nothing else suffers."""
PULSE_SECONDS = 5.0
WATCH_SECONDS = 0.5
"""How often pulses are taken while guests have yet to give a sign of life."""


class Sampler:
    """Samples one host. `period` is the target age of its statistics in seconds, LIVE up to three of them; `shortest` is that of few guests."""

    def __init__(self, host: str, driver: Driver, domains: Domains, shortest: float = SAMPLE_PERIOD) -> None:
        self._host = host
        self._driver = driver
        self._domains = domains
        self._shortest = shortest
        self._suspicion = Suspicion(host, self._name)
        self._out: dict[asyncio.Task[None], tuple[str, ...]] = {}
        self._hung: set[asyncio.Task[None]] = set()
        self._pulsing: asyncio.Task[Pulses] | None = None
        self._task: asyncio.Task[None] | None = None
        self._cost = USUAL_COST
        self._guests = 0

    @property
    def period(self) -> float:
        """Seconds in which every running guest is sampled once, by their number."""
        # Counted once for each round: every answer with statistics asks for this.
        return max(self._shortest, SECONDS_PER_GUEST * self._guests)

    @property
    def live_seconds(self) -> float:
        """How old statistics may be and still count as LIVE."""
        return LIVE_PERIODS * self.period

    @property
    def quarantined(self) -> set[str]:
        """The guests that are not sampled until they give a sign of life."""
        return self._suspicion.left_out

    @property
    def hung(self) -> int:
        """How many calls hang."""
        return len(self._hung)

    def start(self) -> None:
        """Begin to sample, until `pause` or `stop`."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._sample_for_ever())

    def pause(self) -> None:
        """The host is not connected: there is nothing to ask."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def stop(self) -> None:
        """Sample no more; calls that are out are abandoned."""
        tasks = [task for task in (*self._out, self._pulsing, self._task) if task is not None]
        self._task = None
        self._hung.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _name(self, uuid: str) -> str:
        entry = self._domains.get((self._host, uuid))
        return entry.name if entry is not None else uuid

    async def _sample_for_ever(self) -> None:
        while True:
            running = self._running()
            self._guests = len(running)
            began = asyncio.get_running_loop().time()
            careful = self._hung or self._suspicion.left_out or self._suspicion.occupied
            try:
                await (self._careful_round(running, began) if careful else self._round(running, began))
            except Exception:
                log.exception("host %s: a fault of this server ended a round of sampling", self._host)
                await _until(began + self.period)

    def _running(self) -> list[str]:
        return [entry.uuid for entry in self._domains.on_host(self._host) if entry.active]

    async def _round(self, running: Sequence[str], began: float) -> None:
        shards = _cut(running)
        for number, shard in enumerate(shards):
            await _until(began + number * self.period / len(shards))
            if not await self._sample(shard):
                return
        await _until(began + self.period)

    async def _careful_round(self, running: Sequence[str], began: float) -> None:
        pulses = await self._pulses(running)
        if pulses is None:
            await _until(began + WATCH_SECONDS)
            return
        alone = [uuids[0] for task in self._hung if len(uuids := self._out[task]) == 1]
        good = self._suspicion.weigh(running, pulses, alone, asyncio.get_running_loop().time())
        if not self._hung and not self._suspicion.occupied:
            self._suspicion.forget()
            return
        for shard in _cut(good):
            if not await self._sample(shard):
                return
        await self._try_some(began)
        sorted_out = {*good, *self.quarantined} >= {*running}
        await _until(began + (self.period if sorted_out else min(self.period, WATCH_SECONDS)))

    async def _try_some(self, began: float) -> None:
        """Ask guests alone that stand still, as long as they answer, the round lasts and not too much hangs."""
        loop = asyncio.get_running_loop()
        for uuid in self._suspicion.to_try(loop.time()):
            if max(len(self._hung), len(self._suspicion.occupied)) >= TRIALS or loop.time() >= began + self.period:
                return
            answered = await self._ask([uuid])
            self._suspicion.tried(uuid, loop.time(), answered=answered)
            if not answered:
                return

    async def _sample(self, shard: Sequence[str]) -> bool:
        """Sample guests that are trusted; where the call hangs, none is trusted any more. Whether it came back."""
        if len(self._hung) >= MAX_HUNG:
            return True
        if await self._ask(shard, note=True):
            return True
        self._suspicion.begin()
        return False

    async def _ask(self, uuids: Sequence[str], *, note: bool = False) -> bool:
        """One call; whether it came back in time. Where it is late, the pulses of all running guests are noted."""
        loop = asyncio.get_running_loop()
        began, patience = loop.time(), max(HANG_SECONDS, HANG_FACTOR * self._cost * len(uuids))
        task = loop.create_task(self._take_in(uuids))
        self._out[task] = tuple(uuids)
        task.add_done_callback(self._returned)
        await asyncio.wait([task], timeout=LATE * patience)
        if not task.done() and note and (pulses := await self._pulses(self._running())) is not None:
            self._suspicion.note(pulses, loop.time())
        await asyncio.wait([task], timeout=max(0.0, began + patience - loop.time()))
        if task.done():
            self._cost += ((loop.time() - began) / len(uuids) - self._cost) / 8
            return True
        names = ", ".join(self._name(uuid) for uuid in uuids)
        log.warning("host %s: a call for the statistics of %s hangs", self._host, names)
        self._hung.add(task)
        return False

    async def _take_in(self, uuids: Sequence[str]) -> None:
        samples = await self._driver.sample(uuids)
        for reading in samples.stats:
            self._domains.sampled(self._host, reading)

    def _returned(self, task: asyncio.Task[None]) -> None:
        self._out.pop(task, None)
        self._hung.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.info("host %s: sampling failed: %s", self._host, error)

    async def _pulses(self, running: Sequence[str]) -> tuple[Pulse, ...] | None:
        """The guests' pulses; None where the host does not say in time. Never two such calls at once."""
        if self._pulsing is None or self._pulsing.done():
            self._pulsing = asyncio.get_running_loop().create_task(self._feel(running))
        await asyncio.wait([self._pulsing], timeout=PULSE_SECONDS)
        return self._pulsing.result().pulses if self._pulsing.done() else None

    async def _feel(self, running: Sequence[str]) -> Pulses:
        try:
            return await self._driver.pulses(running)
        except DriverError as error:
            log.info("host %s: taking pulses failed: %s", self._host, error)
            return Pulses()


def _cut(guests: Sequence[str]) -> list[Sequence[str]]:
    """Guests in shards of like size."""
    count = max(min(SHARDS, len(guests)), -(-len(guests) // LARGEST_SHARD))
    return [guests[number::count] for number in range(count)]


async def _until(moment: float) -> None:
    await asyncio.sleep(max(0.0, moment - asyncio.get_running_loop().time()))
