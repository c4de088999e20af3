"""Lanes: libvirt connections by role, each with its cap, so that no role's stuck calls can hold up another's.

A connection to a daemon carries one call at a time. Two threads on one lose a wake-up in libvirt's client now and then (measured with 9.0: 9 of
120 short calls beside a long one), and the second call is not even sent before the next keepalive, 5 s later.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import libvirt
import msgspec

from virtrpc_drivers.errors import DriverError, Fault, Reason, failure
from virtrpc_drivers.libvirt.errors import driver_error, fault_of
from virtrpc_drivers.libvirt.threads import in_thread, spawn

T = TypeVar("T")
Connection = Any
"""A libvirt.virConnect; libvirt-python has no types."""
Opener = Callable[[], Connection]

OPEN_SECONDS = 30.0
SHARED = 4
"""Calls at once on a connection that needs no daemon: such drivers take locks of their own."""
STUCK_SECONDS = 5.0
STATS_CALLS = 4
"""Calls for statistics that may be out, those that hang included: the server has one that does not hang out at a time."""


def closed(connection: Connection) -> None:
    """Close on a thread of its own: the last reference's end is a remote call, which may hang."""
    spawn(lambda: close(connection), "libvirt-close")


def close(connection: Connection) -> None:
    """Close, whatever state the connection is in. Blocks."""
    for end in (connection.unregisterCloseCallback, connection.close):
        try:
            end()
        except libvirt.libvirtError:
            pass  # it had no callback, or is dead already


class Link:
    """One connection of a lane, opened at its first use and again after it was lost."""

    def __init__(self, opener: Opener) -> None:
        self._opener = opener
        self._connection: Connection | None = None
        self._opening: asyncio.Future[Connection] | None = None
        self._dropped: list[Connection] = []
        self.busy = 0

    async def open(self) -> Connection:
        """The connection. Raises HOST_UNREACHABLE where it cannot be opened, or not within OPEN_SECONDS."""
        if self._connection is not None and self._connection.isAlive():
            return self._connection
        self.drop()
        if self._opening is None:
            self._opening = in_thread(self._opener, "libvirt-open")
        opening = self._opening
        try:
            # An opening that hangs is waited for again by the next call: never two at once for one link.
            connection = await asyncio.wait_for(asyncio.shield(opening), OPEN_SECONDS)
        except TimeoutError:
            raise failure(Reason.HOST_UNREACHABLE, f"opening a connection took longer than {OPEN_SECONDS:.0f} s") from None
        except Exception as error:
            self._opening = None
            if isinstance(error, libvirt.libvirtError):
                raise DriverError(_unreachable(fault_of(error))) from None
            raise
        self._opening = None
        self._connection = connection
        return connection

    async def take(self) -> Connection:
        """As `open`; the connection is the caller's to close, and the next one is opened anew."""
        connection = await self.open()
        self._connection = None
        return connection

    def drop(self) -> None:
        """Use what is open no more; calls that are out end when the hypervisor lets them."""
        if self._connection is not None:
            self._dropped.append(self._connection)
            self._connection = None
        self._close_dropped()

    def enter(self) -> None:
        """A call is going to use it."""
        self.busy += 1

    def leave(self) -> None:
        """A call has returned."""
        self.busy -= 1
        self._close_dropped()

    def _close_dropped(self) -> None:
        # Closing frees it, also under the hands of a call that goes on to use it: that one must have returned.
        if not self.busy:
            for connection in self._dropped:
                closed(connection)
            self._dropped.clear()


def _unreachable(fault: Fault) -> Fault:
    """Whatever keeps a connection from opening, the host cannot be reached: only a refusal of rights keeps its own word."""
    if fault.reason in (Reason.PERMISSION_DENIED, Reason.UNAUTHENTICATED):
        return fault
    return msgspec.structs.replace(fault, reason=Reason.HOST_UNREACHABLE)


@dataclass(eq=False)
class Place:
    """One call's place in a lane."""

    link: Link
    stuck: bool = False


@dataclass(eq=False)
class Lane:
    """Calls of one role: at most `cap` at once (None: no limit), `per_link` on one connection, first come first served.

    A call that is stuck gives its place up, to at most `replacements` others.
    """

    name: str
    opener: Opener
    cap: int | None
    per_link: int = SHARED
    replacements: int = 3
    patience: float = STUCK_SECONDS
    """Seconds after which a call that is out counts as stuck."""
    refused: Fault | None = None
    """While set, calls are refused with it at once: the host is down."""
    on_stuck: Callable[[], None] = lambda: None
    """Called when `stuck` changes."""
    _links: list[Link] = field(default_factory=list)
    _places: set[Place] = field(default_factory=set)
    _waiting: deque[asyncio.Future[Place]] = field(default_factory=deque)

    async def call(self, work: Callable[[Connection], T]) -> T:
        """Run `work` with the lane's connection on a thread. Raises DriverError for libvirt's errors.

        Abandoning it (cancellation) abandons the answer only; the call counts as stuck until it returns.
        """
        if self.refused is not None:
            raise DriverError(self.refused)
        place = await self._enter()
        try:
            connection = await place.link.open()
        except BaseException:
            self._leave(place)
            raise
        patience = asyncio.get_running_loop().call_later(self.patience, self._count_stuck, place)

        def finished() -> None:
            patience.cancel()
            self._leave(place)

        future = in_thread(lambda: work(connection), f"libvirt-{self.name}", finished)
        try:
            return await future
        except asyncio.CancelledError:
            self._count_stuck(place)
            raise
        except libvirt.libvirtError as error:
            raise driver_error(error) from None

    async def bounded(self, work: Callable[[Connection], T], seconds: float = STUCK_SECONDS) -> T:
        """As `call`; raises TimeoutError where no answer has come in time."""
        return await asyncio.wait_for(self.call(work), seconds)

    def refuse(self, fault: Fault | None) -> None:
        """Refuse calls from now on and drop the connections, or (None) accept them again."""
        self.refused = fault
        if fault is not None:
            for link in self._links:
                link.drop()
            self._links = [link for link in self._links if link.busy]
            while self._waiting:
                waiter = self._waiting.popleft()
                if not waiter.done():
                    waiter.set_exception(DriverError(fault))

    @property
    def most(self) -> int | None:
        """How many calls may be out at once, stuck ones included; None where that is for others to bound."""
        return None if self.cap is None else self.cap + self.replacements

    @property
    def stuck(self) -> int:
        """How many calls are out longer than the lane has patience for, or were abandoned."""
        return sum(place.stuck for place in self._places)

    def _room(self) -> bool:
        if self.cap is None:
            return True
        stuck = self.stuck
        return len(self._places) - stuck < self.cap - max(0, stuck - self.replacements)

    async def _enter(self) -> Place:
        if self._room() and not self._waiting:
            return self._take()
        waiter: asyncio.Future[Place] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self._leave(waiter.result())
            raise

    def _take(self) -> Place:
        link = next((link for link in self._links if link.busy < self.per_link), None)
        if link is None:
            link = Link(self.opener)
            self._links.append(link)
        link.enter()
        place = Place(link)
        self._places.add(place)
        return place

    def _leave(self, place: Place) -> None:
        self._places.discard(place)
        place.link.leave()
        if place.stuck:
            self.on_stuck()
        self._hand_on()

    def _count_stuck(self, place: Place) -> None:
        if place in self._places and not place.stuck:
            place.stuck = True
            self.on_stuck()
            self._hand_on()

    def _hand_on(self) -> None:
        while self._waiting and self._room():
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(self._take())


class Lanes:
    """All lanes of one host; see the design's chapter "The driver process: connections and budgets"."""

    def __init__(self, opener: Opener, per_link: int = SHARED) -> None:
        self.reads = Lane("reads", opener, 3, per_link)
        # A call that hangs in these keeps its place: with those that are replaced there would be too many for a daemon's workers.
        self.progress = Lane("progress", opener, 4, per_link, replacements=0)
        self.abort = Lane("abort", opener, 4, per_link, replacements=0)
        self.destroy = Lane("destroy", opener, 3, per_link, replacements=0)
        self.stats = Lane("stats", opener, STATS_CALLS, per_link=1, replacements=0)
        self.probe = Lane("probe", opener, 3, per_link, replacements=0)
        self.work = Lane("work", opener, None, per_link)

    @property
    def all(self) -> tuple[Lane, ...]:
        """Every lane."""
        return self.reads, self.progress, self.abort, self.destroy, self.stats, self.probe, self.work

    def tell_stuck(self, tell: Callable[[dict[str, int]], None]) -> None:
        """Call this with how many calls are stuck in each lane, whenever that changes."""
        for lane in self.all:
            lane.on_stuck = lambda: tell({lane.name: lane.stuck for lane in self.all})

    def refuse(self, fault: Fault | None) -> None:
        """As `Lane.refuse`, for all."""
        for lane in self.all:
            lane.refuse(fault)
