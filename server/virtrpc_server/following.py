"""Following a feed: batches of changes for one stream, independent of gRPC.

A stream is a cursor and what it was shown, so a slow reader costs nothing and skips to the newest. Every batch is made at the
moment at which it is asked for; between two of them the cursor sleeps.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import math
from collections.abc import AsyncGenerator, Callable, Collection, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import msgspec

from virtrpc.v1 import types_pb2
from virtrpc_server.errors import refuse
from virtrpc_server.feed import ALL, Change, Cursor, Feed

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
T = TypeVar("T")

HEARTBEAT_SECONDS = 15.0
INTERVAL_SECONDS = 0.1
"""At most one batch in this time."""
SETTLE_SECONDS = 1.0
"""How soon a change that was sent before it had settled is looked at again."""
GOLDEN = 0.618034
"""Multiples of it, taken modulo one, lie evenly wherever one stops."""
TICK = 0.001
"""A timer may fire a clock's tick early."""
VAIN_SECONDS = 0.01
"""The pause after a look that found nothing to tell: what concerns others changes a thousand times a second while jobs run."""
MAX_CHANGES = 500
MAX_BYTES = 1 << 20
SLICE = 50
"""Changes that are looked at in one go: a long beginning would stop the loop for 20 ms."""


@dataclass(frozen=True, slots=True)
class View(Generic[K, V, T]):
    """What is watched, and how it is told: as the bytes of a batch with this one change.

    `T` is what is kept of each value that was shown, to tell of its removal later.
    """

    feed: Feed[K, V]
    fits: Callable[[V], bool]
    current: Callable[[V], tuple[bytes, bool]]
    """That a value is new or different, and whether this is settled: it will not change without an entry in the feed."""
    trace: Callable[[V], T]
    removed: Callable[[K, T | None], bytes]
    """That it is gone; None where nothing is known but the key."""
    unreachable: Callable[[], Sequence[types_pb2.UnreachableHost]]
    """All hosts that are not LIVE now."""
    topics: Collection[Hashable] = (ALL,)
    """The feed's topics that have all that can fit."""


@dataclass(frozen=True, slots=True)
class Batch:
    """One message's worth: see WatchDomainsResponse. Without changes it is a heartbeat, or tells of hosts."""

    changes: list[bytes]
    resume_token: str
    reset: bool
    unreachable: Sequence[types_pb2.UnreachableHost]
    caught_up: bool


@dataclass(slots=True)
class _Draft:
    """A batch in the making."""

    changes: list[bytes] = field(default_factory=list)
    room: int = MAX_BYTES
    reset: bool = False

    def add(self, change: bytes) -> bool:
        """Put a change in; False where it has no room. One always has."""
        size = len(change)
        if self.changes and (len(self.changes) == MAX_CHANGES or size > self.room):
            return False
        self.changes.append(change)
        self.room -= size
        return True


class Watch(Generic[K, V, T]):
    """One stream, the `number`th of its server. `bound_to` is the fingerprint of its request.

    Raises Refusal (RESUME_TOKEN_INVALID) when it is made.
    """

    def __init__(self, view: View[K, V, T], resume_token: str, bound_to: bytes, heartbeat: float = HEARTBEAT_SECONDS, number: int = 0) -> None:
        self._view = view
        self._feed = view.feed
        self._bound_to = bound_to.hex()
        self._heartbeat = heartbeat
        self._cursor = self._opened(resume_token) if resume_token else None
        self._shown: dict[K, T] = {}
        # Who resumes holds what earlier streams showed: removals of what this one has not shown are for it, too.
        self._holds_more = self._cursor is not None
        self._unsettled: dict[K, V] = {}
        self._caught_up = False
        self._in_vain = False
        self._beat = INTERVAL_SECONDS * (number * GOLDEN % 1)
        self._told: Sequence[types_pb2.UnreachableHost] = ()

    async def batches(self) -> AsyncGenerator[Batch, None]:
        """The batches, for ever: the present state or what was missed first, then each change, and heartbeats where there is none."""
        loop = asyncio.get_running_loop()
        last, at_once = float("-inf"), False
        while True:
            draft = await self._draft()
            unreachable = self._view.unreachable()
            first = last == float("-inf")
            if draft.changes or draft.reset or first or unreachable != self._told or loop.time() + TICK >= last + self._heartbeat:
                last = loop.time()
                self._told = unreachable
                yield Batch(draft.changes, self._token(), draft.reset, unreachable, self._caught_up)
                due = self._next_beat(last + INTERVAL_SECONDS) if at_once else last + INTERVAL_SECONDS
                await asyncio.sleep(max(0.0, due - loop.time()))
                at_once = True
            elif self._position == self._feed.revision:
                await self._news(last + self._heartbeat)
                at_once = False
            else:
                # Nothing that fits in a long stretch, or the feed went on meanwhile: look again, and let others run.
                await asyncio.sleep(0)

    def _next_beat(self, after: float) -> float:
        # Streams that were woken by the same change would send together for ever: where there is something to tell at the end of every
        # interval, each keeps to a beat of its own, and what else there is to do finds time between them.
        return self._beat + INTERVAL_SECONDS * math.ceil((after - self._beat) / INTERVAL_SECONDS)

    @property
    def _position(self) -> int:
        return self._cursor.position if self._cursor is not None else 0

    async def _news(self, until: float) -> None:
        loop = asyncio.get_running_loop()
        due = min(until, loop.time() + SETTLE_SECONDS) if self._unsettled else until
        try:
            async with asyncio.timeout_at(due):
                if self._in_vain and ALL in self._view.topics:
                    await asyncio.sleep(VAIN_SECONDS)
                await self._feed.wait(self._position, self._view.topics)
        except TimeoutError:
            return

    async def _draft(self) -> _Draft:
        changes = self._feed.since(self._cursor, MAX_CHANGES)
        draft = _Draft(reset=changes.reset)
        if changes.reset:
            self._shown.clear()
            self._unsettled.clear()
            self._holds_more = False
        self._cursor, self._caught_up = changes.cursor, changes.complete
        last = 0
        for number, change in enumerate(changes.items, 1):
            if number % SLICE == 0:
                await asyncio.sleep(0)
            if not self._tell(change, draft):
                self._cursor, self._caught_up = Cursor(last, changes.cursor.horizon), False
                return draft
            last = change.revision
        self._settle(draft)
        self._in_vain = bool(changes.items) and not draft.changes
        return draft

    def _tell(self, change: Change[K, V], draft: _Draft) -> bool:
        """Put one change into the draft, if it is to be told; False where it has no room."""
        value = None if change.removed or change.value is None or not self._view.fits(change.value) else change.value
        told, settled = self._view.current(value) if value is not None else (self._removal(change), True)
        if told is not None and not draft.add(told):
            return False
        self._note(change.key, value, settled=settled)
        return True

    def _removal(self, change: Change[K, V]) -> bytes | None:
        if change.key in self._shown:
            return self._view.removed(change.key, self._shown[change.key])
        if self._holds_more:
            return self._view.removed(change.key, self._view.trace(change.value) if change.value is not None else None)
        return None

    def _note(self, key: K, value: V | None, *, settled: bool) -> None:
        self._unsettled.pop(key, None)
        if value is None:
            self._shown.pop(key, None)
            return
        self._shown[key] = self._view.trace(value)
        if not settled:
            self._unsettled[key] = value

    def _settle(self, draft: _Draft) -> None:
        # In turn, and never all of a long list at once.
        for key in list(itertools.islice(self._unsettled, MAX_CHANGES)):
            value = self._unsettled.pop(key)
            told, settled = self._view.current(value)
            if not settled or not draft.add(told):
                self._unsettled[key] = value

    def _token(self) -> str:
        cursor = self._cursor or Cursor(0)
        body = msgspec.json.encode([self._bound_to, self._feed.epoch, cursor.position, cursor.removals])
        return base64.urlsafe_b64encode(body).decode().rstrip("=")

    def _opened(self, token: str) -> Cursor | None:
        try:
            raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
            bound_to, epoch, position, horizon = msgspec.json.decode(raw, type=tuple[str, str, int, int])
        except (ValueError, msgspec.MsgspecError):
            raise refuse("RESUME_TOKEN_INVALID", "this is not a resume token: start without one", field="resume_token") from None
        if bound_to != self._bound_to:
            raise refuse("RESUME_TOKEN_INVALID", "the resume token is of another watch or filter: start without one", field="resume_token")
        # One of an earlier life is good, and merely old: the present state comes first.
        return Cursor(position, horizon) if epoch == self._feed.epoch and 0 <= position <= horizon else None
