"""The reads of one group that are due, and those that are out. Every step costs the same, however many domains there are."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from virtrpc_drivers.values import Stamp

BATCH = 32
"""Domains in one read."""


@dataclass(slots=True)
class Wish:
    """A read that is due, and who wants it."""

    audit: bool = False
    """An audit: it looks at what may well be right."""
    doubted: bool = False
    """That audit follows a time in which changes went unheard."""
    urgent: bool = False
    """A job, a listing, or an event that says nothing of its time: only a read that begins later will do."""
    event: Stamp | None = None
    """When the newest event came in: a reading that began later has seen what it announced."""
    alone: bool = False
    """Whether to read it by itself: a read of several hung."""
    parked: bool = False
    """It waits for the domain's control channel."""
    waiters: list[asyncio.Future[bool]] = field(default_factory=list)

    @property
    def dirty(self) -> bool:
        """Whether what is held may be wrong."""
        return self.urgent or self.doubted or self.event is not None

    @property
    def patient(self) -> bool:
        """Whether it can wait until reading the domain is easy."""
        return not self.urgent and self.event is None and not self.waiters

    def answered(self, stamp: Stamp) -> bool:
        """Take note of a reading that began at `stamp`; whether nothing is left to be read."""
        if self.event is not None and self.event < stamp:
            self.event = None
        return self.patient and not self.audit

    def heard(self, event: Stamp | None) -> None:
        """An event came in at this moment; None: at one that nobody knows."""
        if event is None:
            self.urgent = True
        elif self.event is None or self.event < event:
            self.event = event

    def join(self, other: Wish) -> None:
        """Want what the other one wants, too."""
        self.audit |= other.audit
        self.doubted |= other.doubted
        self.urgent |= other.urgent
        self.alone |= other.alone
        self.waiters.extend(other.waiters)
        if other.event is not None:
            self.heard(other.event)

    def finish(self, *, read: bool) -> None:
        """Let those who waited for it go on: True where the domain was read, or was seen to be gone."""
        for wait in self.waiters:
            if not wait.done():
                wait.set_result(read)
        self.waiters.clear()


class Due:
    """The wishes of one group by domain: at most one that is out, and one that is not."""

    def __init__(self) -> None:
        self._pending: dict[str, Wish] = {}
        self._ready: OrderedDict[str, Wish] = OrderedDict()
        """Those of the pending ones that neither rest, nor are parked, nor have another one of their domain out."""
        self._out: dict[str, Wish] = {}

    @property
    def ready(self) -> bool:
        """Whether there is something to take."""
        return bool(self._ready)

    @property
    def drained(self) -> bool:
        """Whether nothing is due but what rests or is parked."""
        return not self._ready and not self._out

    def is_dirty(self, uuid: str) -> bool:
        """Whether what is held of this domain may be wrong."""
        pending, out = self._pending.get(uuid), self._out.get(uuid)
        return (pending is not None and pending.dirty) or (out is not None and out.dirty)

    def announced(self, uuid: str) -> Stamp | None:
        """When the newest event about this domain came in that no finished read has seen."""
        wishes = (self._pending.get(uuid), self._out.get(uuid))
        return max((wish.event for wish in wishes if wish is not None and wish.event is not None), default=None)

    def wish(self, uuid: str) -> Wish:
        """What is wanted of a domain by a read that has yet to begin; something is, from now on."""
        wish = self._pending.get(uuid)
        if wish is None:
            wish = self._pending[uuid] = Wish()
            if uuid not in self._out:
                self._ready[uuid] = wish
        elif wish.parked:
            self.unpark(uuid)
        return wish

    def asked(self, uuid: str) -> Wish:
        """The same for somebody who waits: before all others, and also where it rested."""
        wish = self.wish(uuid)
        wish.urgent = True
        if uuid not in self._out:
            self._ready[uuid] = wish
            self._ready.move_to_end(uuid, last=False)
        return wish

    def awaited(self, uuid: str) -> Wish:
        """What is wanted already, to wait for: the read that is out, where no other one has to follow it."""
        out = self._out.get(uuid)
        return out if out is not None and uuid not in self._pending else self.wish(uuid)

    def unpark(self, uuid: str) -> None:
        """The domain's control channel is free again."""
        wish = self._pending.get(uuid)
        if wish is not None and wish.parked:
            wish.parked = False
            self._ready[uuid] = wish

    def take(self, busy: Callable[[str], bool]) -> dict[str, Wish]:
        """The next read's domains; patient wishes of domains that are `busy` are parked."""
        taken: dict[str, Wish] = {}
        while self._ready and len(taken) < BATCH:
            uuid, wish = next(iter(self._ready.items()))
            if wish.alone and taken:
                break
            del self._ready[uuid]
            if wish.patient and busy(uuid):
                wish.parked = True
                continue
            taken[uuid] = self._pending.pop(uuid)
            if wish.alone:
                break
        self._out.update(taken)
        return taken

    def read(self, uuid: str, stamp: Stamp) -> None:
        """A domain that was out was read by a call that began at `stamp`."""
        self._out.pop(uuid).finish(read=True)
        wish = self._pending.get(uuid)
        if wish is None:
            return
        if wish.answered(stamp):
            del self._pending[uuid]
            return
        self._line_up(uuid, wish)

    def failed(self, uuid: str) -> bool:
        """A domain that was out could not be read; whether its wish rests until it is woken. One that was made meanwhile need not."""
        self._out[uuid].finish(read=False)
        rests = uuid not in self._pending
        self.put_back(uuid)
        if rests:
            del self._ready[uuid]
        return rests

    def put_back(self, uuid: str) -> None:
        """A domain that was out was not looked at."""
        wish = self._out.pop(uuid)
        later = self._pending.get(uuid)
        if later is not None:
            later.join(wish)
            wish = later
        self._pending[uuid] = wish
        self._line_up(uuid, wish)

    def _line_up(self, uuid: str, wish: Wish) -> None:
        self._ready[uuid] = wish
        if wish.waiters:
            self._ready.move_to_end(uuid, last=False)

    def wake(self, uuid: str) -> None:
        """A wish that failed has rested."""
        wish = self._pending.get(uuid)
        if wish is not None and not wish.parked and uuid not in self._out:
            self._ready.setdefault(uuid, wish)

    def give_up(self) -> None:
        """Let nobody wait for what is not out."""
        for wish in self._pending.values():
            if wish.waiters:
                wish.finish(read=False)

    def abandon(self) -> None:
        """Let nobody wait for anything."""
        self.give_up()
        for wish in self._out.values():
            wish.finish(read=False)
