"""What watchers read: the current value of every key in order of change, and bounded tombstones.

A watcher is a cursor (a revision), not a queue: however slow it is, it costs nothing here, and what it missed between two
reads it sees once, in its latest form. etcd's watch with a compaction is the model.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

MAX_TOMBSTONES = 10_000
TOMBSTONE_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far a watcher has come: it holds the present state as of `position`.

    While it is still being given a whole present state, `horizon` is the revision at which that began: what was removed before
    it was never shown.
    """

    position: int
    horizon: int = 0

    @property
    def removals(self) -> int:
        """The revision after which it must be told of removals."""
        return max(self.position, self.horizon)


@dataclass(frozen=True, slots=True)
class Change(Generic[K, V]):
    """One key's last change. A removed key's `value` is what was left behind of it for those who watched it, if anything."""

    revision: int
    key: K
    value: V | None
    removed: bool = False


@dataclass(frozen=True, slots=True)
class Changes(Generic[K, V]):
    """What changed after a cursor, oldest first; `reset` where the whole present state begins instead."""

    items: tuple[Change[K, V], ...]
    cursor: Cursor
    """Where to go on from once all items are dealt with."""
    reset: bool
    complete: bool
    """Nothing is left to be told after these items."""


@dataclass(frozen=True, slots=True)
class Grave(Generic[V]):
    """What a tombstone keeps, and since when (loop time)."""

    remains: V | None
    since: float


class Feed(Generic[K, V]):
    """The present values, ordered by the revision at which each last changed. Revisions of another `epoch` mean nothing here."""

    def __init__(self) -> None:
        self.revision = 0
        self.epoch = secrets.token_hex(8)
        self._values: OrderedDict[K, tuple[int, V]] = OrderedDict()
        self._tombstones: OrderedDict[K, tuple[int, Grave[V]]] = OrderedDict()
        self._forgotten = 0
        self._news: asyncio.Event | None = None

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: K) -> V | None:
        """The present value."""
        held = self._values.get(key)
        return held[1] if held is not None else None

    def put(self, key: K, value: V) -> None:
        """A key's new value."""
        self.revision += 1
        self._values[key] = (self.revision, value)
        self._values.move_to_end(key)
        self._tombstones.pop(key, None)
        self._announce()

    def remove(self, key: K, remains: V | None = None) -> None:
        """A key is gone; `remains` is what its tombstone keeps of the value."""
        if self._values.pop(key, None) is None:
            return
        self.revision += 1
        now = asyncio.get_running_loop().time()
        self._tombstones[key] = (self.revision, Grave(remains, now))
        while self._tombstones:
            revision, grave = next(iter(self._tombstones.values()))
            if len(self._tombstones) <= MAX_TOMBSTONES and now - grave.since <= TOMBSTONE_SECONDS:
                break
            self._forgotten = revision
            self._tombstones.popitem(last=False)
        self._announce()

    def nudge(self) -> None:
        """Wake the watchers although no key changed (a host went away or came back)."""
        self._announce()

    def since(self, cursor: Cursor | None, limit: int = 1000) -> Changes[K, V]:
        """What changed after the cursor, at most `limit` keys.

        None, and a cursor that the tombstones no longer reach back to, mean the whole present state from its beginning.
        """
        reset = cursor is None or cursor.removals < self._forgotten or cursor.removals > self.revision
        start = Cursor(0, self.revision) if cursor is None or reset else cursor
        newer = [*_after(self._values, start.position), *_after(self._tombstones, start.removals)]
        newer.sort(key=itemgetter(0))
        complete = len(newer) <= limit
        after = self.revision if complete else newer[limit - 1][0]
        items = tuple(self._change(revision, key) for revision, key in newer[:limit])
        return Changes(items, Cursor(after, start.horizon), reset, complete)

    def _change(self, revision: int, key: K) -> Change[K, V]:
        held = self._values.get(key)
        if held is not None:
            return Change(revision, key, held[1])
        return Change(revision, key, self._tombstones[key][1].remains, removed=True)

    async def news(self, revision: int) -> None:
        """Wait until something is newer than `revision`, or the feed was nudged."""
        if revision < self.revision:
            return
        if self._news is None:
            self._news = asyncio.Event()
        await self._news.wait()

    def _announce(self) -> None:
        # Watchers wait on the event of their moment: setting it wakes them all once, and the next to wait makes a new one.
        if self._news is not None:
            self._news.set()
            self._news = None


def _after(held: OrderedDict[K, tuple[int, Any]], revision: int) -> list[tuple[int, K]]:
    """The keys that changed after a revision, with theirs, newest first: the older ones are not even looked at."""
    found: list[tuple[int, K]] = []
    for key, (at, _) in reversed(held.items()):
        if at <= revision:
            break
        found.append((at, key))
    return found
