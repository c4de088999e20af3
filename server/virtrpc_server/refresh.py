"""Reading what was announced, and in time everything: the only writer of state and configuration.

An event marks a domain dirty and a read decides. Dirty again while a read is in flight means another read. What no event
announces is found by the audit, which has everything read, spread over its period.

A read that hangs is left behind, and its domains are read one by one: so the one that hangs it is found, and rests until its
read is back.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import logging
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from virtrpc_drivers.errors import DriverError
from virtrpc_drivers.protocol import Driver
from virtrpc_drivers.values import Control, Group, Readings
from virtrpc_server.domains import Domains

log = logging.getLogger(__name__)

T = TypeVar("T")

BATCH = 32
"""Domains in one read."""
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


@dataclass(slots=True)
class Wish:
    """A read that is due. Only one that was `announced` says that what is held may be wrong: an audit looks at what may well be right."""

    announced: bool = False
    not_before: float = 0.0
    """Loop time until which it rests, after a read that failed."""
    alone: bool = False
    """Whether to read it by itself: a read of several hung."""
    waiters: list[asyncio.Future[bool]] = field(default_factory=list)

    def finish(self, *, read: bool) -> None:
        """Let those who waited for it go on: True where the domain was read, or was seen to be gone."""
        for wait in self.waiters:
            if not wait.done():
                wait.set_result(read)
        self.waiters.clear()


class Refresher:
    """Reads the domains of one host that are due, each group apart, so that a slow group does not make the other stale."""

    def __init__(self, host: str, driver: Driver, domains: Domains) -> None:
        self._host = host
        self._driver = driver
        self._domains = domains
        self._due: dict[Group, dict[str, Wish]] = {group: {} for group in GROUPS}
        self._reading: dict[Group, dict[str, Wish]] = {group: {} for group in GROUPS}
        # Counted apart from the tasks, which end a moment after they have looked for work for the last time.
        self._readers = dict.fromkeys(GROUPS, 0)
        self._stuck = dict.fromkeys(GROUPS, 0)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._in_use: set[str] = set()
        self._paused = True
        self._drained = asyncio.Event()

    def is_dirty(self, uuid: str, group: Group) -> bool:
        """Whether a change was announced that no finished read has seen."""
        due, reading = self._due[group].get(uuid), self._reading[group].get(uuid)
        return (due is not None and due.announced) or (reading is not None and reading.announced)

    async def drained(self, limit: float) -> bool:
        """Wait until nothing is due but what failed and rests, for at most `limit` seconds."""
        self._note_drained()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._drained.wait(), limit)
        return self._drained.is_set()

    def _note_drained(self) -> None:
        waits = any(not wish.not_before for group in GROUPS for wish in self._due[group].values())
        if waits or any(self._reading.values()):
            self._drained.clear()
        else:
            self._drained.set()

    def pause(self) -> None:
        """The host is not connected: keep what is due, read nothing, and let nobody wait."""
        self._paused = True
        for group in GROUPS:
            for wish in self._due[group].values():
                wish.finish(read=False)

    def go_on(self) -> None:
        """The host is connected."""
        self._paused = False
        self._spawn()

    def mark(self, uuids: Iterable[str], groups: Iterable[Group] = GROUPS, *, announced: bool = True) -> None:
        """These domains must be read by a read that starts after now; where it was `announced`, what is held is STALE until then."""
        uuids = list(uuids)
        for group in groups:
            for uuid in uuids:
                self._wish(group, uuid, announced=announced)
        self._spawn()

    def _wish(self, group: Group, uuid: str, *, announced: bool) -> Wish:
        wish = self._due[group].setdefault(uuid, Wish())
        wish.announced = wish.announced or announced
        return wish

    async def refresh(self, uuid: str, limit: float) -> bool:
        """Read this domain now; False where no read that began after this call came back with an answer within `limit` seconds."""
        if self._paused:
            return False
        waits = [self._first_in_line(group, uuid) for group in GROUPS]
        self._spawn()
        done, _ = await asyncio.wait(waits, timeout=limit)
        return len(done) == len(waits) and all(wait.result() for wait in done)

    def _first_in_line(self, group: Group, uuid: str) -> asyncio.Future[bool]:
        # A finished job waits for it.
        wish = self._wish(group, uuid, announced=True)
        wish.not_before = 0.0
        self._due[group] = {uuid: wish, **self._due[group]}
        wait: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        wish.waiters.append(wait)
        return wait

    async def close(self) -> None:
        """Stop reading."""
        self.pause()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for wish in itertools.chain.from_iterable(reading.values() for reading in self._reading.values()):
            wish.finish(read=False)

    def _spawn(self) -> None:
        if self._paused:
            return
        for group in GROUPS:
            if self._readers[group] < IN_FLIGHT and self._ready(group):
                self._readers[group] += 1
                _ = self._start(self._read_some(group))

    def _start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _ready(self, group: Group) -> list[str]:
        reading, now = self._reading[group], asyncio.get_running_loop().time()
        due = self._due[group]
        ready = list(itertools.islice((uuid for uuid, wish in due.items() if uuid not in reading and wish.not_before <= now), BATCH))
        if ready and due[ready[0]].alone:
            return ready[:1]
        return [uuid for uuid in ready if not due[uuid].alone]

    async def _read_some(self, group: Group) -> None:
        try:
            await self._read_until_done(group)
        finally:
            self._readers[group] -= 1

    async def _read_until_done(self, group: Group) -> None:
        while not self._paused and (taken := self._take(group)):
            call = self._start(self._driver.read(list(taken), group))
            await asyncio.wait([call], timeout=HANG_SECONDS)
            if not call.done() and self._stuck[group] < MAX_STUCK:
                self._leave_behind(group, taken, call)
                continue
            await asyncio.wait([call])
            self._settle(group, taken, call)
            self._note_drained()

    def _leave_behind(self, group: Group, taken: dict[str, Wish], call: asyncio.Task[Readings]) -> None:
        log.warning("host %s: reading %s of %d domains hangs", self._host, group, len(taken))
        self._stuck[group] += 1
        if len(taken) > 1:
            for uuid, wish in taken.items():
                del self._reading[group][uuid]
                wish.alone = True
                self._put_back(group, uuid, wish)
            taken = {}
        call.add_done_callback(functools.partial(self._came_back, group, taken))

    def _came_back(self, group: Group, taken: dict[str, Wish], call: asyncio.Task[Readings]) -> None:
        self._stuck[group] -= 1
        if not call.cancelled():
            self._settle(group, taken, call)
            self._note_drained()
            self._spawn()

    def _take(self, group: Group) -> dict[str, Wish]:
        taken = {uuid: self._due[group].pop(uuid) for uuid in self._ready(group)}
        self._reading[group].update(taken)
        return taken

    def _result(self, group: Group, call: asyncio.Task[Readings]) -> tuple[set[str], set[str]]:
        """What a read that is over has read, and what it has left for another one."""
        try:
            readings = call.result()
        except DriverError as error:
            log.info("host %s: reading %s failed: %s", self._host, group, error)
            return set(), set()
        except Exception:
            log.exception("host %s: a fault of this server or of the driver in reading %s", self._host, group)
            return set(), set()
        return self._keep(readings), set(readings.rest)

    def _keep(self, readings: Readings) -> set[str]:
        for gone in readings.missing:
            self._domains.missing(self._host, gone)
        for reading in readings.found:
            self._domains.read(self._host, reading)
            if reading.state is not None and reading.state.control not in (None, Control.OK):
                self._look_again(reading.uuid)
        return {*(gone.uuid for gone in readings.missing), *(reading.uuid for reading in readings.found)}

    def _look_again(self, uuid: str) -> None:
        if uuid not in self._in_use:
            self._in_use.add(uuid)
            asyncio.get_running_loop().call_later(CONTROL_SECONDS, self._looked_again, uuid)

    def _looked_again(self, uuid: str) -> None:
        self._in_use.discard(uuid)
        if self._domains.get((self._host, uuid)) is not None:
            self.mark([uuid], (Group.STATE,), announced=False)

    def _settle(self, group: Group, taken: dict[str, Wish], call: asyncio.Task[Readings]) -> None:
        read, rest = self._result(group, call)
        failed = taken.keys() - read - rest
        loop = asyncio.get_running_loop()
        again = loop.time() + RETRY_SECONDS
        for uuid, wish in taken.items():
            del self._reading[group][uuid]
            if uuid in read:
                wish.finish(read=True)
                continue
            if uuid in failed:
                wish.finish(read=False)
                wish.not_before = again
            self._put_back(group, uuid, wish)
        if failed:
            # A timer may fire a clock's tick early.
            loop.call_at(again + TICK, self._spawn)

    def _put_back(self, group: Group, uuid: str, wish: Wish) -> None:
        due = self._due[group].setdefault(uuid, wish)
        if due is not wish:
            # Marked again meanwhile: that one need not rest.
            due.announced = due.announced or wish.announced
            due.alone = due.alone or wish.alone
            due.waiters.extend(wish.waiters)
