"""Keys in order, kept so as they come and go: a page of a long list is found by bisection, not by sorting."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator
from typing import Any, Generic, TypeVar

K = TypeVar("K", bound=tuple[Any, ...])


class Order(Generic[K]):
    """Distinct tuples in ascending order."""

    def __init__(self) -> None:
        self._keys: list[K] = []

    def __len__(self) -> int:
        return len(self._keys)

    def add(self, key: K) -> None:
        """Put a key in its place; it must not be there yet."""
        insort(self._keys, key)

    def discard(self, key: K) -> None:
        """Take a key out, if it is there."""
        place = bisect_left(self._keys, key)
        if place < len(self._keys) and self._keys[place] == key:
            del self._keys[place]

    def after(self, key: tuple[Any, ...] | None) -> Iterator[K]:
        """The keys after this one, which need not be there; all of them for None. The keys must not change meanwhile."""
        start = bisect_right(self._keys, key) if key is not None else 0
        for place in range(start, len(self._keys)):
            yield self._keys[place]
