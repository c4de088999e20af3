"""What watchers read: the current value of every key in order of change, and bounded tombstones.

A watcher is a cursor (a revision), not a queue: however slow it is, it costs nothing here, and what it missed between two
reads it sees once, in its latest form. etcd's watch with a compaction is the model.
"""

from __future__ import annotations

import asyncio
import secrets
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Collection, Hashable, Iterable
from dataclasses import dataclass
from operator import itemgetter
from typing import Generic, NamedTuple, TypeVar

from virtrpc_server.news import News

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

MAX_TOMBSTONES = 10_000
TOMBSTONE_SECONDS = 3600.0
SPARE_LINES = 1000
"""How many lines that were overtaken the log may hold beside as many as there are keys, before it is written anew."""
LINES = 2000
"""Lines of the log that are looked at in one go: about 2 ms."""
ALL = object()
"""The topic of every change."""


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


class Change(NamedTuple, Generic[K, V]):
    """One key's last change. A removed key's `value` is what was left behind of it for those who watched it, if anything.

    A tuple, because streams look at tens of thousands of these in a second.
    """

    revision: int
    key: K
    value: V | None
    removed: bool


@dataclass(frozen=True, slots=True)
class Changes(Generic[K, V]):
    """What changed after a cursor, oldest first; `reset` where the whole present state begins instead."""

    items: list[Change[K, V]]
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
    """The present values, ordered by the revision at which each last changed. Revisions of another `epoch` mean nothing here.

    `topics` of a value are what those may wait for, and ask for, who want to hear of few.
    """

    def __init__(self, topics: Callable[[V], Iterable[Hashable]] = lambda _value: ()) -> None:
        self.revision = 0
        self.epoch = secrets.token_hex(8)
        self.news = News()
        self._topics = topics
        self._values: dict[K, tuple[int, V]] = {}
        self._filed: dict[Hashable, dict[K, None]] = {}
        self._tombstones: OrderedDict[K, tuple[int, Grave[V]]] = OrderedDict()
        # Every change in order. A line counts only while its key has not changed again.
        self._log: list[tuple[int, K]] = []
        self._forgotten = 0

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: K) -> V | None:
        """The present value."""
        held = self._values.get(key)
        return held[1] if held is not None else None

    def put(self, key: K, value: V) -> None:
        """A key's new value."""
        before = self._values.get(key)
        self._values[key] = (self._next(key), value)
        self._tombstones.pop(key, None)
        self._announce(key, before[1] if before is not None else None, value)

    def remove(self, key: K, remains: V | None = None) -> None:
        """A key is gone; `remains` is what its tombstone keeps of the value."""
        before = self._values.pop(key, None)
        if before is None:
            return
        now = asyncio.get_running_loop().time()
        self._tombstones[key] = (self._next(key), Grave(remains, now))
        while self._tombstones:
            revision, grave = next(iter(self._tombstones.values()))
            if len(self._tombstones) <= MAX_TOMBSTONES and now - grave.since <= TOMBSTONE_SECONDS:
                break
            self._forgotten = revision
            self._tombstones.popitem(last=False)
        self._announce(key, before[1], None)

    def nudge(self) -> None:
        """Wake the watchers although no key changed (a host went away or came back)."""
        self.news.announce_everything()

    def filed(self, topics: Iterable[Hashable]) -> set[K]:
        """The keys whose present values have one of these topics."""
        return {key for topic in topics for key in self._filed.get(topic, ())}

    def since(
        self,
        cursor: Cursor | None,
        limit: int = 1000,
        concerned: Callable[[K, V | None], bool] | None = None,
        among: Iterable[K] | None = None,
    ) -> Changes[K, V]:
        """What changed after the cursor, at most `limit` keys; only those that `concerned` says (asked with the value, None where it is gone).

        It may be incomplete although it has fewer keys, or none: no more than LINES changes are looked at. A cursor that is None, or that
        the tombstones no longer reach back to, means the whole present state from its beginning. Where no other keys can be of concern than
        those `among` them, no others are looked at.
        """
        reset = cursor is None or cursor.removals < self._forgotten or cursor.removals > self.revision
        start = Cursor(0, self.revision) if cursor is None or reset else cursor
        items: list[Change[K, V]] = []
        values, tombstones, removals = self._values, self._tombstones, start.removals
        # One plain loop: while jobs run, the streams together look at tens of thousands of changes in a second.
        lines = self._lines(start.position, among)
        for revision, key in lines[:LINES]:
            held = values.get(key)
            if held is not None:
                if held[0] != revision or (concerned is not None and not concerned(key, held[1])):
                    continue
                change = Change(revision, key, held[1], False)
            else:
                buried = tombstones.get(key)
                if buried is None or buried[0] != revision or revision <= removals or (concerned is not None and not concerned(key, None)):
                    continue
                change = Change(revision, key, buried[1].remains, True)
            if len(items) == limit:
                return Changes(items, Cursor(items[-1].revision, start.horizon), reset, complete=False)
            items.append(change)
        complete = len(lines) <= LINES
        return Changes(items, Cursor(self.revision if complete else lines[LINES - 1][0], start.horizon), reset, complete)

    def upcoming(self, cursor: Cursor | None, among: Iterable[K] | None = None) -> list[V]:
        """The present values among what `since` would look at now."""
        lines = self._lines(cursor.position if cursor is not None else 0, among)[:LINES]
        return [held[1] for revision, key in lines if (held := self._values.get(key)) is not None and held[0] == revision]

    async def wait(self, revision: int, topics: Collection[Hashable] = (ALL,)) -> None:
        """Wait until something of these topics is newer than `revision`, or the feed was nudged.

        With topics of one's own this waits although others have changed; ask `since` first.
        """
        if ALL in topics and revision < self.revision:
            return
        await self.news.wait(topics)

    def _lines(self, position: int, among: Iterable[K] | None) -> list[tuple[int, K]]:
        if among is None:
            return self._log[bisect_right(self._log, position, key=itemgetter(0)) :]
        held = ((self._values.get(key) or self._tombstones.get(key), key) for key in among)
        return sorted(((last[0], key) for last, key in held if last is not None and last[0] > position), key=itemgetter(0))

    def _next(self, key: K) -> int:
        self.revision += 1
        self._log.append((self.revision, key))
        if len(self._log) > 2 * (len(self._values) + len(self._tombstones)) + SPARE_LINES:
            self._log = [(revision, key) for revision, key in self._log if self._counts(revision, key)]
        return self.revision

    def _counts(self, revision: int, key: K) -> bool:
        held = self._values.get(key) or self._tombstones.get(key)
        return revision == self.revision or (held is not None and held[0] == revision)

    def _announce(self, key: K, before: V | None, after: V | None) -> None:
        old, new = (tuple(self._topics(value)) if value is not None else () for value in (before, after))
        if old != new:
            self._file(key, old, new)
        # Both: who watches what a domain was called must hear that it no longer is.
        self.news.announce({ALL, *old, *new})

    def _file(self, key: K, old: Iterable[Hashable], new: Iterable[Hashable]) -> None:
        for topic in set(old):  # a domain may be called by its own uuid
            keys = self._filed[topic]
            del keys[key]
            if not keys:
                del self._filed[topic]
        for topic in new:
            self._filed.setdefault(topic, {})[key] = None
