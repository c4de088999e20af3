"""Following a feed: batches of changes for one stream, independent of gRPC.

A stream is a cursor and what it was shown, so a slow reader costs nothing and skips to the newest. Every batch is made at the
moment at which it is asked for; between two of them the cursor sleeps.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import msgspec

from virtrpc.v1 import types_pb2
from virtrpc_server import opaque
from virtrpc_server.errors import refuse
from virtrpc_server.feed import ALL, Change, Changes, Cursor, Feed

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
T = TypeVar("T")

HEARTBEAT_SECONDS = 15.0
INTERVAL_SECONDS = 0.1
"""Each stream's beat: at most one batch in this time, but for one that follows a late one by up to `LATE_SECONDS` less."""
LONGEST_INTERVAL_SECONDS = 0.5
BATCHES_PER_SECOND = 250
"""What all busy streams together may send before their intervals become longer: each batch takes the loop 0.2 ms."""
BUSY = 3
"""A stream is busy once it has sent more batches than these in a row, each as soon as it might."""
SETTLE_SECONDS = 1.0
"""How soon a change that was sent before it had settled is looked at again."""
GOLDEN = 0.618034
"""Multiples of it, taken modulo one, lie evenly wherever one stops."""
LATE_SECONDS = 0.02
"""A stream that was late for its beat by less than this keeps the next one all the same."""
TICK = 0.001
"""A timer may fire a clock's tick early."""
VAIN_SECONDS = 0.01
"""The pause after a look that found nothing to tell: what concerns others changes a thousand times a second while jobs run."""
WHOLE = "whole"
"""The standing of a stream that may see everything."""
MAX_CHANGES = 500
MAX_BYTES = 1 << 20
"""A batch that has come to this is sent."""
HELD_SECONDS = 10.0
"""How long who resumes from an earlier life of the server keeps what it holds, while not all hosts have been heard of."""
SLICE = 20
SLICE_SECONDS = 0.001
"""Changes that are told in one go, and the pause after them: 500 that nobody was told of before take 20 ms. In a pause of no length the
next slice would come between any two steps of a query, of which there are eight."""


class Pace:
    """The interval of a server's busy streams: longer while they are many, so that queries keep their turn."""

    def __init__(self) -> None:
        self._busy = 0

    @contextlib.contextmanager
    def interval(self, row: int) -> Iterator[float]:
        """Seconds that a stream waits in the block, having sent so many batches in a row."""
        busy = row > BUSY
        self._busy += busy
        try:
            yield min(LONGEST_INTERVAL_SECONDS, max(INTERVAL_SECONDS, self._busy / BATCHES_PER_SECOND)) if busy else INTERVAL_SECONDS
        finally:
            self._busy -= busy


@dataclass(slots=True)
class _Draft(Generic[K]):
    """A batch in the making."""

    told: dict[K, tuple[int, bytes]] = field(default_factory=dict)
    """Each key's newest change with the feed's revision of it, in order."""
    room: int = MAX_BYTES
    reset: bool = False

    def add(self, key: K, change: bytes, revision: int = 0) -> None:
        """Put a change in, in place of an earlier one of its key."""
        self.told.pop(key, None)
        self.told[key] = revision, change
        self.room -= len(change)

    @property
    def changes(self) -> list[bytes]:
        """What is to be sent."""
        return [change for _, change in self.told.values()]

    @property
    def full(self) -> bool:
        """Whether the next change has to wait for the next batch: the last one may have gone a little beyond the room."""
        return self.room <= 0 or len(self.told) >= MAX_CHANGES


class Shared(Generic[K]):
    """The newest changes as streams of everything tell them, no more than one batch has: each is made once, by the stream whose turn comes first.

    Without it, each of fifty streams looks at each of a thousand changes in a second.
    """

    def __init__(self) -> None:
        self.making = asyncio.Lock()
        """Held while what is new is made: who comes meanwhile has it then, too."""
        self._after = self.position = 0
        self._told: dict[K, tuple[int, bytes]] = {}
        self._bytes = 0

    def reaches(self, position: int) -> bool:
        """Whether all that follows a position up to this one's own is here."""
        return self._after <= position <= self.position

    def begin(self, after: int, position: int, draft: _Draft[K]) -> None:
        """These are all changes after one revision up to another. Who is behind has no use for them."""
        if position > self.position:
            self._after = self.position = after
            self._told, self._bytes = {}, 0
            self.extend(position, draft)

    def extend(self, position: int, draft: _Draft[K]) -> None:
        """These are all changes after `position` up to another; what `begin` has brought meanwhile is left out."""
        for key, (revision, change) in draft.told.items():
            if revision > self.position:
                _, before = self._told.pop(key, (0, b""))
                self._told[key] = revision, change
                self._bytes += len(change) - len(before)
        self.position = max(self.position, position)
        while self._bytes > MAX_BYTES or len(self._told) > MAX_CHANGES:
            self._after, change = self._told.pop(next(iter(self._told)))
            self._bytes -= len(change)

    def since(self, position: int) -> _Draft[K]:
        """What is new after a revision that this one reaches."""
        newer: list[tuple[K, tuple[int, bytes]]] = []
        for item in reversed(self._told.items()):
            if item[1][0] <= position:
                break
            newer.append(item)
        return _Draft(dict(reversed(newer)))


@dataclass(frozen=True, slots=True)
class View(Generic[K, V, T]):
    """What is watched, and how it is told: as the bytes of a batch with this one change.

    `T` is what is kept of each value that was shown, to tell of its removal later.
    """

    feed: Feed[K, V]
    fits: Callable[[V], bool] | None
    """What is to be told; None: everything."""
    current: Callable[[V], tuple[bytes, bool]]
    """That a value is new or different, and whether this is settled: it will not change without an entry in the feed."""
    trace: Callable[[V], T]
    removed: Callable[[K, T | None, V | None], bytes]
    """That it is gone: what this stream showed of it, None where that was an earlier one, and what was left behind, if anything."""
    unreachable: Callable[[], Sequence[types_pb2.UnreachableHost]]
    """All hosts that are not LIVE now."""
    pace: Pace
    topics: Collection[Hashable] = (ALL,)
    """The feed's topics that have all that can fit."""
    complete: Callable[[], bool] = lambda: True
    """Whether the feed has all that there is: soon after a start it may lack what merely has not been read yet."""
    standing: Callable[[], Hashable] = lambda: WHOLE
    """WHOLE where the stream may see everything. Else it changes whenever other values may fit than before although none of them has changed,
    and who resumes begins anew: what it was not shown it must not hear of, not even that it is gone."""
    ready: Callable[[Sequence[V]], Awaitable[None]] | None = None
    """What to wait for before these are looked at: whether they fit may take long to tell."""
    shared: Shared[K] | None = None
    """What streams of everything make for each other, where changes are settled at once."""


@dataclass(frozen=True, slots=True)
class Batch:
    """One message's worth: see WatchDomainsResponse. Without changes it is a heartbeat, or tells of hosts."""

    changes: list[bytes]
    resume_token: str
    reset: bool
    unreachable: Sequence[types_pb2.UnreachableHost]
    caught_up: bool


class Watch(Generic[K, V, T]):
    """One stream, the `number`th of its server. `bound_to` is the fingerprint of its request.

    Raises Refusal (RESUME_TOKEN_INVALID) when it is made.
    """

    def __init__(self, view: View[K, V, T], resume_token: str, bound_to: bytes, heartbeat: float = HEARTBEAT_SECONDS, number: int = 0) -> None:
        self._view = view
        self._feed = view.feed
        self._fits = view.fits
        self._standing: Hashable = None
        self._looked_at = 0
        self._bound_to = bound_to.hex()
        self._heartbeat = heartbeat
        self._cursor = self._opened(resume_token) if resume_token else None
        self._old_token = resume_token if self._cursor is None else ""
        self._shown: dict[K, T] = {}
        # Who resumes holds what earlier streams showed: removals of what this one has not shown are for it, too.
        self._holds_more = self._cursor is not None
        self._unsettled: dict[K, V] = {}
        self._caught_up = False
        self._in_vain = False
        self._beat = INTERVAL_SECONDS * (number * GOLDEN % 1)
        self._told: Sequence[types_pb2.UnreachableHost] = ()
        self._looked = asyncio.get_running_loop().time()
        self._idle = False

    @property
    def lag(self) -> float:
        """For how many seconds it has not looked although the feed went on: its reader is slow, or its turn does not come."""
        if self._idle or self._position == self._feed.revision:
            return 0.0
        return asyncio.get_running_loop().time() - self._looked

    async def batches(self) -> AsyncGenerator[Batch, None]:
        """The batches, for ever: the present state or what was missed first, then each change, and heartbeats where there is none."""
        if self._old_token:
            async for batch in self._held_back(self._old_token):
                yield batch
        loop = asyncio.get_running_loop()
        last, row = float("-inf"), 0
        while True:
            draft = await self._draft()
            unreachable = self._view.unreachable()
            first = last == float("-inf")
            if draft.told or draft.reset or first or unreachable != self._told or loop.time() + TICK >= last + self._heartbeat:
                last = loop.time()
                self._told = unreachable
                yield Batch(draft.changes, self._token(), draft.reset, unreachable, self._caught_up)
                row += 1
                with self._view.pace.interval(row) as seconds:
                    due = self._next_beat(last + seconds) if row > 1 else last + seconds
                    await asyncio.sleep(max(0.0, due - loop.time()))
            elif self._position == self._feed.revision:
                await self._idle_until(last + self._heartbeat)
                row = 0
            else:
                # Nothing that fits in a long stretch, or the feed went on meanwhile: look again, and let others run.
                await asyncio.sleep(0)

    async def _held_back(self, token: str) -> AsyncGenerator[Batch, None]:
        """Nothing new, to who resumes from an earlier life: what it holds is better than what was read in the first moments of this one."""
        loop = asyncio.get_running_loop()
        until, last = loop.time() + HELD_SECONDS, float("-inf")
        while not self._view.complete() and loop.time() + TICK < until:
            unreachable = self._view.unreachable()
            if unreachable != self._told or loop.time() + TICK >= last + self._heartbeat:
                last, self._told = loop.time(), unreachable
                yield Batch([], token, False, unreachable, False)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(min(until, last + self._heartbeat)):
                    await self._feed.news.wait((ALL,))

    def _next_beat(self, after: float) -> float:
        # Streams that were woken by the same change would send together for ever: where there is something to tell at the end of every
        # interval, each keeps to a beat of its own, and what else there is to do finds time between them.
        return self._beat + INTERVAL_SECONDS * math.ceil((after - LATE_SECONDS - self._beat) / INTERVAL_SECONDS)

    @property
    def _position(self) -> int:
        return self._cursor.position if self._cursor is not None else 0

    async def _idle_until(self, until: float) -> None:
        self._idle = True
        try:
            await self._news(until)
        finally:
            self._idle = False
            self._looked = asyncio.get_running_loop().time()

    async def _news(self, until: float) -> None:
        loop = asyncio.get_running_loop()
        due = min(until, loop.time() + SETTLE_SECONDS) if self._unsettled else until
        try:
            async with asyncio.timeout_at(due):
                if self._in_vain and ALL in self._view.topics:
                    await asyncio.sleep(VAIN_SECONDS)
                    if self._view.unreachable() != self._told:
                        return  # nobody waited when that was announced
                await self._feed.wait(self._position, self._view.topics)
        except TimeoutError:
            return

    async def _draft(self) -> _Draft[K]:
        self._looked = asyncio.get_running_loop().time()
        shared = self._view.shared if self._caught_up else None
        if shared is None:
            return await self._drafted()
        cursor, before = self._cursor, self._position
        if shared.reaches(before):
            async with shared.making:
                self._cursor = Cursor(shared.position)
                draft = await self._drafted()
                if draft.reset:
                    return draft
                shared.extend(self._position, draft)
            if shared.reaches(before):
                self._cursor = Cursor(shared.position)
                return shared.since(before)
            self._cursor = cursor
        draft = await self._drafted()
        if self._caught_up and not draft.reset:
            shared.begin(before, self._position, draft)
        return draft

    async def _drafted(self) -> _Draft[K]:
        draft: _Draft[K] = _Draft()
        self._look_anew()
        before = self._position
        while True:
            if self._view.ready is not None:
                await self._view.ready(self._feed.upcoming(self._cursor, self._among))
            concerned = self._concerned if self._fits is not None else None
            changes = self._feed.since(self._cursor, MAX_CHANGES - len(draft.told), concerned, self._among)
            if changes.reset:
                draft = _Draft(reset=True)
                self._shown.clear()
                self._unsettled.clear()
                self._holds_more = False
                self._looked_at = 0
            await self._tell(changes, draft)
            if self._caught_up or draft.full:
                break
            await asyncio.sleep(SLICE_SECONDS)
        self._settle(draft)
        self._in_vain = self._position > before and not draft.told
        if self._view.shared is not None and self._caught_up:
            # From here on it may be told by others, and does not note what.
            self._holds_more = True
            self._shown.clear()
        return draft

    def _look_anew(self) -> None:
        """Where the caller may see other values than before: go through all of them once more."""
        now = self._view.standing()
        if now == self._standing:
            return
        if self._standing is not None and self._cursor is not None:
            # As to who is still being given the present state: what was removed before is told already. What it holds and still sees is left out.
            self._looked_at = max(self._looked_at, self._cursor.position)
            self._cursor = None if self._holds_more else Cursor(0, self._cursor.removals)
        self._standing = now

    async def _tell(self, changes: Changes[K, V], draft: _Draft[K]) -> None:
        """Put changes into a draft that is not full, as far as it has room."""
        self._cursor, self._caught_up = changes.cursor, changes.complete
        last = self._position
        for number, change in enumerate(changes.items, 1):
            if number % SLICE == 0 and number < len(changes.items):
                await asyncio.sleep(SLICE_SECONDS)
            if draft.room <= 0:
                self._cursor, self._caught_up = Cursor(last, changes.cursor.horizon), False
                return
            told = self._told_of(change)
            if told is not None:
                draft.add(change.key, told, change.revision)
            last = change.revision

    @property
    def _among(self) -> set[K] | None:
        if ALL in self._view.topics or self._holds_more or self._cursor is None:
            return None
        return self._feed.filed(self._view.topics) | self._shown.keys()

    def _concerned(self, key: K, value: V | None) -> bool:
        assert self._fits is not None
        return (value is not None and self._fits(value)) or key in self._shown or self._holds_more

    def _told_of(self, change: Change[K, V]) -> bytes | None:
        """How a change is told, if it is to be; what is told is noted."""
        revision, key, value, removed = change
        if removed or value is None or (self._fits is not None and not self._fits(value)):
            return self._removal(key, value)
        if revision <= self._looked_at and key in self._shown:
            return None
        told, settled = self._view.current(value)
        self._shown[key] = self._view.trace(value)
        if settled:
            self._unsettled.pop(key, None)
        else:
            self._unsettled[key] = value
        return told

    def _removal(self, key: K, remains: V | None) -> bytes | None:
        self._unsettled.pop(key, None)
        if key in self._shown:
            return self._view.removed(key, self._shown.pop(key), remains)
        return self._view.removed(key, None, remains) if self._holds_more else None

    def _settle(self, draft: _Draft[K]) -> None:
        # In turn, and never all of a long list at once.
        for key in list(itertools.islice(self._unsettled, MAX_CHANGES)):
            if draft.full:
                return
            value = self._unsettled.pop(key)
            told, settled = self._view.current(value)
            if settled:
                draft.add(key, told)
            else:
                self._unsettled[key] = value

    def _token(self) -> str:
        cursor = self._cursor or Cursor(0)
        epoch = self._feed.epoch if self._standing == WHOLE else "in part"
        return opaque.text_of(msgspec.json.encode([self._bound_to, epoch, cursor.position, cursor.removals]))

    def _opened(self, token: str) -> Cursor | None:
        try:
            bound_to, epoch, position, horizon = msgspec.json.decode(opaque.bytes_of(token), type=tuple[str, str, int, int])
        except (ValueError, msgspec.MsgspecError):
            raise refuse("RESUME_TOKEN_INVALID", "this is not a resume token: start without one", field="resume_token") from None
        if bound_to != self._bound_to:
            raise refuse("RESUME_TOKEN_INVALID", "the resume token is of another watch or filter: start without one", field="resume_token")
        # One of an earlier life is good, and merely old: the present state comes first.
        good = epoch == self._feed.epoch and 0 <= position <= horizon and self._view.standing() == WHOLE
        return Cursor(position, horizon) if good else None
