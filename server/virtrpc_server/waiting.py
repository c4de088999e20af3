"""Who waits for whom: a holder in a caller's words, and telling those who wait whenever their queue moves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Protocol

from virtrpc_server.records import Holder, Job
from virtrpc_server.slots import Slots, Ticket

FOREMOST = 50
"""Waiters of one queue that are told at once that it moved; the others a little later, this many at a time."""
QUEUE_SECONDS = 1.0
QUEUE_SECONDS_PER_WAITER = 0.002


class Waiter(Protocol):
    """A job that may be waiting."""

    @property
    def job(self) -> Job:
        """The job as it is now."""

    def moved_up(self, holders: tuple[Holder, ...], position: int) -> None:
        """Its queue moved: these are in its way now, and it has this place."""


class Queues:
    """Tells the jobs that wait in any queue who is in their way and where they stand. Each queue's `on_move` is `moved`."""

    def __init__(
        self,
        waiters: Mapping[str, Waiter],
        ended: Callable[[str], Job | None],
        keep: Callable[[Coroutine[None, None, None]], None],
    ) -> None:
        """`waiters` are the unfinished jobs by id, `ended` finds a finished one, `keep` holds a task."""
        self._waiters = waiters
        self._ended = ended
        self._keep = keep
        self._moved: set[Slots] = set()
        self._late: set[Slots] = set()

    def holders(self, slots: Slots) -> tuple[Holder, ...]:
        """Who holds these places, in a caller's words."""
        held = tuple(self._holder(ticket.owner, ticket) for ticket in slots.holders)
        busy = slots.busy_with
        return held or (() if busy is None else (self._holder(busy, None),))

    def moved(self, slots: Slots) -> None:
        """A queue moved: soon, and once for all that moves it in this turn of the loop, those who wait in it are told."""
        if slots.awaited and slots not in self._moved:
            self._moved.add(slots)
            asyncio.get_running_loop().call_soon(self._tell_foremost, slots)

    def _holder(self, owner: str, ticket: Ticket | None) -> Holder:
        since = ticket.since if ticket is not None else None
        waiter = self._waiters.get(owner)
        job = waiter.job if waiter is not None else self._ended(owner)
        if job is None:
            return Holder(text=owner, since=since)
        since = since or job.started or job.created
        return Holder(job_id=job.id, verb=job.verb, owner=job.owner, since=since, ghost=job.finished, waiting_for=job.waiting_for)

    def _tell_foremost(self, slots: Slots) -> None:
        self._moved.discard(slots)
        self._tell(slots, 0)
        count = len(slots.waiters)
        if count > FOREMOST and slots not in self._late:
            self._late.add(slots)
            self._keep(self._tell_others(slots, max(QUEUE_SECONDS, count * QUEUE_SECONDS_PER_WAITER)))

    async def _tell_others(self, slots: Slots, pause: float) -> None:
        # Each time the whole of a long queue at once would stop the loop.
        await asyncio.sleep(pause)
        self._late.discard(slots)
        for first in range(FOREMOST, len(slots.waiters), FOREMOST):
            self._tell(slots, first)
            await asyncio.sleep(0)

    def _tell(self, slots: Slots, first: int) -> None:
        holders = self.holders(slots)
        for position, ticket in enumerate(slots.waiters[first : first + FOREMOST], first + 1):
            waiter = self._waiters.get(ticket.owner)
            if waiter is not None:
                waiter.moved_up(holders, position)
