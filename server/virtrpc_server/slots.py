"""Who may go on, and who waits: FIFO slots for the domain's condition, the host's limits and the daemon's budget.

One mechanism, four uses. Nothing here awaits but `Ticket.wait`; granting and releasing happen under the domain lock, so a
ticket is granted, waiting or gone, and never two of these. Whoever moves a queue, `on_move` is told, so that no releaser can forget those
who wait.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar
from weakref import WeakValueDictionary

K = TypeVar("K", bound=Hashable)


async def first_of(limit: float | None, *events: asyncio.Event) -> None:
    """Wait until one of these is set, for at most `limit` seconds."""
    if any(event.is_set() for event in events):
        return
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()


@dataclass(eq=False, slots=True)
class Ticket:
    """A place in one queue. `owner` is the id of the job (or other user) that asked."""

    slots: Slots
    owner: str
    since: float | None = None
    """Wall time in seconds at which it was granted."""
    granted: asyncio.Event = field(default_factory=asyncio.Event)

    async def wait(self, limit: float | None, stop: asyncio.Event) -> bool:
        """Wait to be granted, for at most `limit` seconds or until `stop` is set. True where it was granted.

        Invariant: afterwards the ticket was granted and this returned True, or it is withdrawn; so also where this is cancelled.
        """
        granted = False
        try:
            await first_of(limit, self.granted, stop)
            granted = self.granted.is_set()
        finally:
            if not granted:
                self.release()
        return granted

    def release(self) -> None:
        """Give the place back, granted or not. Giving it back twice is harmless."""
        self.slots.withdraw(self)


class Slots:
    """`limit` places, granted in order of arrival. `limit` None grants everything at once."""

    def __init__(self, limit: int | None = 1, clock: Callable[[], float] = time.time) -> None:
        self.on_move: Callable[[Slots], None] | None = None
        """Called when those who wait have somebody else in their way, or another place in the queue."""
        self._limit = limit
        self._clock = clock
        self._holders: OrderedDict[Ticket, None] = OrderedDict()
        self._waiters: OrderedDict[Ticket, None] = OrderedDict()
        self._held_off: set[str] = set()

    @property
    def limit(self) -> int | None:
        """How many may hold a place at once."""
        return self._limit

    @limit.setter
    def limit(self, limit: int | None) -> None:
        if limit != self._limit:
            self._limit = limit
            self._grant()

    @property
    def holders(self) -> list[Ticket]:
        """Who holds a place, oldest first."""
        return list(self._holders)

    @property
    def waiters(self) -> list[Ticket]:
        """Who waits, next first."""
        return list(self._waiters)

    @property
    def awaited(self) -> bool:
        """Whether anybody waits."""
        return bool(self._waiters)

    @property
    def idle(self) -> bool:
        """Whether nobody holds, waits or holds off."""
        return not (self._holders or self._waiters or self._held_off)

    @property
    def busy_with(self) -> str | None:
        """The owner that a new arrival would wait for, or None where it would wait for nobody."""
        if self._held_off:
            return next(iter(self._held_off))
        if self._full() and self._holders:
            return next(iter(self._holders)).owner
        return None

    def position(self, ticket: Ticket) -> int | None:
        """This ticket's place in the queue, the next to be granted being 1; None where it does not wait."""
        # Who asks has mostly just arrived; and when a server starts again thousands may, each in a queue as long as that.
        if self._waiters and next(reversed(self._waiters)) is ticket:
            return len(self._waiters)
        return next((place for place, waiter in enumerate(self._waiters, 1) if waiter is ticket), None)

    def take(self, owner: str) -> Ticket:
        """Queue up; granted before this returns where a place is free and nobody waits."""
        ticket = Ticket(self, owner)
        self._waiters[ticket] = None
        if not self._hindered():
            self._grant()
        return ticket

    def hold(self, owner: str) -> Ticket:
        """A place for one who had it in an earlier life of the server: granted at once, whoever holds, and beyond the limit."""
        ticket = Ticket(self, owner)
        self._grant_to(ticket)
        return ticket

    def inherit(self, other: Slots) -> None:
        """The places that others hold there are held here from now on, beyond the limit."""
        for ticket in other.holders:
            ticket.slots = self
        self._holders.update(other._holders)
        other._holders.clear()

    def withdraw(self, ticket: Ticket) -> None:
        """Take a ticket out, wherever it stands, and grant what that frees."""
        known = ticket in self._waiters or ticket in self._holders
        self._waiters.pop(ticket, None)
        self._holders.pop(ticket, None)
        if known:
            self._grant()

    def hold_off(self, owner: str) -> None:
        """Grant nothing until `let_go(owner)`: what destroy does while it is out, without waiting for the holder."""
        self._held_off.add(owner)
        self._tell()

    def let_go(self, owner: str) -> None:
        """End `hold_off`."""
        self._held_off.discard(owner)
        self._grant()

    def _full(self) -> bool:
        return self._limit is not None and len(self._holders) >= self._limit

    def _hindered(self) -> bool:
        return bool(self._held_off) or self._full()

    def _grant(self) -> None:
        while self._waiters and not self._hindered():
            ticket, _ = self._waiters.popitem(last=False)
            self._grant_to(ticket)
        self._tell()

    def _grant_to(self, ticket: Ticket) -> None:
        self._holders[ticket] = None
        ticket.since = self._clock()
        ticket.granted.set()

    def _tell(self) -> None:
        if self._waiters and self.on_move is not None:
            self.on_move(self)


class Conditions(Generic[K]):
    """One exclusive condition for each key, made when somebody asks and dropped when nobody does."""

    def __init__(self, clock: Callable[[], float] = time.time, on_move: Callable[[Slots], None] | None = None) -> None:
        # Whoever holds, awaits or holds off a condition keeps its slots alive.
        self._slots: WeakValueDictionary[K, Slots] = WeakValueDictionary()
        self._clock, self._on_move = clock, on_move

    def __iter__(self) -> Iterator[K]:
        return iter([key for key, slots in self._slots.items() if not slots.idle])

    def of(self, key: K) -> Slots:
        """The condition of this key; it is the same for all as long as anybody keeps it, or a ticket for it."""
        slots = self._slots.get(key)
        if slots is None:
            slots = self._slots[key] = Slots(1, self._clock)
            slots.on_move = self._on_move
        return slots

    def peek(self, key: K) -> Slots | None:
        """The condition of this key where somebody holds or awaits it."""
        slots = self._slots.get(key)
        return slots if slots is not None and not slots.idle else None
