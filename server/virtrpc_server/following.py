"""Following a feed: batches of changes for one stream, independent of gRPC.

A stream is a cursor and what it was shown, so a slow reader costs nothing and skips to the newest. Every batch is made at the
moment at which it is asked for; between two of them the cursor sleeps.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
from collections.abc import AsyncGenerator, Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import msgspec
from google.protobuf.message import Message

from virtrpc.v1 import types_pb2
from virtrpc_server.errors import refuse
from virtrpc_server.feed import Change, Cursor, Feed

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
T = TypeVar("T")
M = TypeVar("M", bound=Message)

HEARTBEAT_SECONDS = 15.0
INTERVAL_SECONDS = 0.1
"""At most one batch in this time."""
SETTLE_SECONDS = 1.0
"""How soon a change that was sent before it had settled is looked at again."""
TICK = 0.001
"""A timer may fire a clock's tick early."""
MAX_CHANGES = 500
MAX_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class View(Generic[K, V, T, M]):
    """What is watched, and how it is told. `T` is what is kept of each value that was shown, to tell of its removal later."""

    feed: Feed[K, V]
    fits: Callable[[V], bool]
    current: Callable[[V], tuple[M, bool]]
    """The message of a value that is new or different, and whether it is settled: it will not change without an entry in the feed."""
    trace: Callable[[V], T]
    removed: Callable[[K, T | None], M]
    """The message of a removal; None where nothing is known but the key."""
    unreachable: Callable[[], Sequence[types_pb2.UnreachableHost]]
    """All hosts that are not LIVE now."""


@dataclass(frozen=True, slots=True)
class Batch(Generic[M]):
    """One message's worth: see WatchDomainsResponse. Without changes it is a heartbeat, or tells of hosts."""

    changes: list[M]
    resume_token: str
    reset: bool
    unreachable: Sequence[types_pb2.UnreachableHost]
    caught_up: bool


@dataclass(slots=True)
class _Draft(Generic[M]):
    """A batch in the making."""

    changes: list[M] = field(default_factory=list)
    room: int = MAX_BYTES
    reset: bool = False

    def add(self, message: M) -> bool:
        """Put a change in; False where it has no room. One always has."""
        size = message.ByteSize()
        if self.changes and (len(self.changes) == MAX_CHANGES or size > self.room):
            return False
        self.changes.append(message)
        self.room -= size
        return True


class Watch(Generic[K, V, T, M]):
    """One stream. `bound_to` is the fingerprint of its request. Raises Refusal (RESUME_TOKEN_INVALID) when it is made."""

    def __init__(self, view: View[K, V, T, M], resume_token: str, bound_to: bytes, heartbeat: float = HEARTBEAT_SECONDS) -> None:
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
        self._told: Sequence[types_pb2.UnreachableHost] = ()

    async def batches(self) -> AsyncGenerator[Batch[M], None]:
        """The batches, for ever: the present state or what was missed first, then each change, and heartbeats where there is none."""
        loop = asyncio.get_running_loop()
        last = float("-inf")
        while True:
            draft = self._draft()
            unreachable = self._view.unreachable()
            first = last == float("-inf")
            if draft.changes or draft.reset or first or unreachable != self._told or loop.time() + TICK >= last + self._heartbeat:
                last = loop.time()
                self._told = unreachable
                yield Batch(draft.changes, self._token(), draft.reset, unreachable, self._caught_up)
                await asyncio.sleep(max(0.0, last + INTERVAL_SECONDS - loop.time()))
            elif self._caught_up:
                await self._news(last + self._heartbeat)
            else:
                # Nothing that fits in a long stretch: go on, and let others run.
                await asyncio.sleep(0)

    async def _news(self, until: float) -> None:
        loop = asyncio.get_running_loop()
        due = min(until, loop.time() + SETTLE_SECONDS) if self._unsettled else until
        position = self._cursor.position if self._cursor is not None else 0
        try:
            async with asyncio.timeout_at(due):
                await self._feed.news(position)
        except TimeoutError:
            return

    def _draft(self) -> _Draft[M]:
        changes = self._feed.since(self._cursor, MAX_CHANGES)
        draft: _Draft[M] = _Draft(reset=changes.reset)
        if changes.reset:
            self._shown.clear()
            self._unsettled.clear()
            self._holds_more = False
        self._cursor, self._caught_up = changes.cursor, changes.complete
        last = 0
        for change in changes.items:
            value = change.value if not change.removed and change.value is not None and self._view.fits(change.value) else None
            message, settled = self._view.current(value) if value is not None else (self._removal(change), True)
            if message is not None and not draft.add(message):
                self._cursor, self._caught_up = Cursor(last, changes.cursor.horizon), False
                return draft
            last = change.revision
            self._note(change.key, value, settled=settled)
        self._settle(draft)
        return draft

    def _removal(self, change: Change[K, V]) -> M | None:
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

    def _settle(self, draft: _Draft[M]) -> None:
        # In turn, and never all of a long list at once.
        for key in list(itertools.islice(self._unsettled, MAX_CHANGES)):
            value = self._unsettled.pop(key)
            message, settled = self._view.current(value)
            if not settled or not draft.add(message):
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
