"""Reading what was announced, and in time everything: the only writer of state and configuration.

An event marks a domain dirty and a read decides. Dirty again while a read is in flight means another read, unless that one began
after the event had come in: events and readings of one driver process carry its stamps. What no event announces is found by the
audit, which has everything read, spread over its period.

A read that hangs is left behind, and its domains are read one by one: so the one that hangs it is found, and rests until its
read is back. A domain whose control channel is in use is not asked for its configuration by an audit: since libvirt 11 that may
wait as long as the channel is.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextvars import Context
from typing import Any, TypeVar

from virtrpc_drivers.errors import DriverError
from virtrpc_drivers.protocol import Driver
from virtrpc_drivers.values import Control, Group, Readings, Stamp
from virtrpc_server.domains import Domains
from virtrpc_server.due import Due, Wish

log = logging.getLogger(__name__)

T = TypeVar("T")

IN_FLIGHT = 2
"""Reads of one group at a time."""
HANG_SECONDS = 5.0
MAX_STUCK = 4
"""Reads of one group that are left behind; one more that hangs is waited for."""
RETRY_SECONDS = 2.0
CONTROL_SECONDS = 2.0
"""After this long a domain whose control channel was in use is read again: its coming free raises no event."""
TICK = 0.001
GROUPS = (Group.STATE, Group.CONFIG)
WEDGED = (Control.OCCUPIED, Control.ERROR)


class Refresher:
    """Reads the domains of one host that are due, each group apart, so that a slow group does not make the other stale."""

    def __init__(self, host: str, driver: Driver, domains: Domains) -> None:
        self._host = host
        self._driver = driver
        self._domains = domains
        self._due = {group: Due() for group in GROUPS}
        # Counted apart from the tasks, which end a moment after they have looked for work for the last time.
        self._readers = dict.fromkeys(GROUPS, 0)
        self._stuck = dict.fromkeys(GROUPS, 0)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._costs = dict.fromkeys(GROUPS, 0.0)
        self._in_use: set[str] = set()
        self._timers: set[asyncio.TimerHandle] = set()
        self._paused = True
        self._drained = asyncio.Event()

    def is_dirty(self, uuid: str, group: Group) -> bool:
        """Whether a change was announced that no finished read has seen."""
        return self._due[group].is_dirty(uuid)

    def announced(self, uuid: str) -> Stamp | None:
        """When the newest event about this domain came in that has yet to be read."""
        return self._due[Group.STATE].announced(uuid)

    @property
    def cost(self) -> float:
        """Seconds that reading both groups of one domain usually takes."""
        return sum(self._costs.values())

    @property
    def stuck(self) -> int:
        """How many reads hang."""
        return sum(self._stuck.values())

    @property
    def idle(self) -> bool:
        """Whether nothing is due but what failed and rests, or waits for a control channel."""
        return all(due.drained for due in self._due.values())

    async def drained(self, limit: float) -> bool:
        """Wait until nothing is due but what failed and rests, or waits for a control channel, for at most `limit` seconds."""
        self._note_drained()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._drained.wait(), limit)
        return self._drained.is_set()

    def _note_drained(self) -> None:
        if self.idle:
            self._drained.set()
        else:
            self._drained.clear()

    def pause(self) -> None:
        """The host is not connected: keep what is due, read nothing, and let nobody wait."""
        self._paused = True
        for due in self._due.values():
            due.give_up()

    def go_on(self) -> None:
        """The host is connected."""
        self._paused = False
        self._spawn()

    def heard(self, uuid: str, groups: Iterable[Group], event: Stamp | None) -> None:
        """An event about a domain came in at this moment (None: nobody knows when). What was read by a call that began later has seen it."""
        for group in groups:
            if event is None or not self._domains.was_read_after((self._host, uuid), group, event):
                self._due[group].wish(uuid).heard(event)
        self._spawn()

    def mark(self, uuids: Iterable[str], groups: Iterable[Group] = GROUPS) -> None:
        """These domains must be read by a read that starts after now; what is held is STALE until then."""
        uuids = list(uuids)
        for group in groups:
            for uuid in uuids:
                self._due[group].wish(uuid).urgent = True
        self._spawn()

    def audit(self, uuids: Sequence[str], *, doubted: bool) -> None:
        """Look at these domains again, in their turn. `doubted`: changes went unheard, so that what is held is STALE until then."""
        for due in self._due.values():
            for uuid in uuids:
                wish = due.wish(uuid)
                wish.audit = True
                wish.doubted |= doubted
        self._spawn()

    async def refresh(self, uuid: str, limit: float) -> bool:
        """Read this domain now; False where no read that began after this call came back with an answer within `limit` seconds.

        An event that came in after that read had begun is answered by one more, which is waited for as well; once, since more may come.
        """
        if self._paused:
            return False
        end = asyncio.get_running_loop().time() + limit
        if not await self._wait([due.asked(uuid) for due in self._due.values()], end):
            return False
        overtaken = [due.awaited(uuid) for due in self._due.values() if due.is_dirty(uuid)]
        if overtaken and not self._paused:
            await self._wait(overtaken, end)
        return True

    async def _wait(self, wishes: list[Wish], end: float) -> bool:
        loop = asyncio.get_running_loop()
        waits: list[asyncio.Future[bool]] = [loop.create_future() for _ in wishes]
        for wish, wait in zip(wishes, waits, strict=True):
            wish.waiters.append(wait)
        self._spawn()
        done, _ = await asyncio.wait(waits, timeout=max(0.0, end - loop.time()))
        return len(done) == len(waits) and all(wait.result() for wait in done)

    async def close(self) -> None:
        """Stop reading."""
        self.pause()
        for timer in self._timers:
            timer.cancel()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for due in self._due.values():
            due.abandon()

    def _spawn(self) -> None:
        if self._paused:
            return
        for group in GROUPS:
            if self._readers[group] < IN_FLIGHT and self._due[group].ready:
                self._readers[group] += 1
                _ = self._start(self._read_some(group))

    def _start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        # On nobody's behalf: whoever asked for it does not follow what else is read with it.
        task = asyncio.get_running_loop().create_task(work, context=Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _later(self, seconds: float, work: Callable[..., None], *arguments: object) -> None:
        def run() -> None:
            self._timers.discard(timer)
            work(*arguments)

        timer = asyncio.get_running_loop().call_later(seconds, run)
        self._timers.add(timer)

    def _is_wedged(self, group: Group, uuid: str) -> bool:
        entry = self._domains.get((self._host, uuid))
        return group is Group.CONFIG and entry is not None and entry.state is not None and entry.state.value.control in WEDGED

    async def _read_some(self, group: Group) -> None:
        try:
            await self._read_until_done(group)
        finally:
            self._readers[group] -= 1

    async def _read_until_done(self, group: Group) -> None:
        while not self._paused and (taken := self._due[group].take(functools.partial(self._is_wedged, group))):
            call = self._start(self._driver.read(list(taken), group))
            began = asyncio.get_running_loop().time()
            await asyncio.wait([call], timeout=HANG_SECONDS)
            if not call.done() and self._stuck[group] < MAX_STUCK:
                self._leave_behind(group, taken, call)
                continue
            await asyncio.wait([call])
            self._learn_cost(group, (asyncio.get_running_loop().time() - began) / len(taken))
            self._settle(group, taken, call)
        self._note_drained()

    def _learn_cost(self, group: Group, seconds: float) -> None:
        self._costs[group] += (seconds - self._costs[group]) / 8 if self._costs[group] else seconds

    def _leave_behind(self, group: Group, taken: dict[str, Wish], call: asyncio.Task[Readings]) -> None:
        log.warning("host %s: reading %s of %d domains hangs", self._host, group, len(taken))
        self._stuck[group] += 1
        if len(taken) > 1:
            for uuid, wish in taken.items():
                wish.alone = True
                self._due[group].put_back(uuid)
            taken = {}
        call.add_done_callback(functools.partial(self._came_back, group, taken))

    def _came_back(self, group: Group, taken: dict[str, Wish], call: asyncio.Task[Readings]) -> None:
        self._stuck[group] -= 1
        if not call.cancelled():
            self._settle(group, taken, call)
            self._spawn()

    def _result(self, group: Group, call: asyncio.Task[Readings]) -> tuple[dict[str, Stamp], set[str]]:
        """What a read that is over has read, and when that began; and what it has left for another one."""
        try:
            readings = call.result()
        except DriverError as error:
            log.info("host %s: reading %s failed: %s", self._host, group, error)
            return {}, set()
        except Exception:
            log.exception("host %s: a fault of this server or of the driver in reading %s", self._host, group)
            return {}, set()
        self._keep(readings)
        began = {gone.uuid: gone.stamp for gone in readings.missing} | {reading.uuid: reading.stamp for reading in readings.found}
        return began, set(readings.rest)

    def _keep(self, readings: Readings) -> None:
        for gone in readings.missing:
            self._domains.missing(self._host, gone)
            self._due[Group.CONFIG].unpark(gone.uuid)
        for reading in readings.found:
            self._domains.read(self._host, reading)
            if reading.state is None:
                continue
            if reading.state.control not in WEDGED:
                self._due[Group.CONFIG].unpark(reading.uuid)
            if reading.state.control not in (None, Control.OK):
                self._look_again(reading.uuid)

    def _look_again(self, uuid: str) -> None:
        if uuid not in self._in_use:
            self._in_use.add(uuid)
            self._later(CONTROL_SECONDS, self._looked_again, uuid)

    def _looked_again(self, uuid: str) -> None:
        self._in_use.discard(uuid)
        if self._domains.get((self._host, uuid)) is not None:
            self._due[Group.STATE].wish(uuid).audit = True
        else:
            self._due[Group.CONFIG].unpark(uuid)
        self._spawn()

    def _settle(self, group: Group, taken: dict[str, Wish], call: asyncio.Task[Readings]) -> None:
        read, rest = self._result(group, call)
        due = self._due[group]
        resting: list[str] = []
        for uuid in taken:
            if uuid in read:
                due.read(uuid, read[uuid])
            elif uuid in rest:
                due.put_back(uuid)
            elif due.failed(uuid):
                resting.append(uuid)
        if resting:
            # A timer may fire a clock's tick early.
            self._later(RETRY_SECONDS + TICK, self._wake, group, resting)
        # The configuration may have been waiting for what the state says.
        self._spawn()
        self._note_drained()

    def _wake(self, group: Group, uuids: Iterable[str]) -> None:
        for uuid in uuids:
            self._due[group].wake(uuid)
        self._spawn()
