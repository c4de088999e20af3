"""Waiting for news, by topic; those who are woken run a few at a time."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection, Hashable, Iterable

AT_ONCE = 10
"""Waiters that are woken in one turn of the loop: a thousand streams that all have something to send would stop it for a quarter of a second."""


class News:
    """Who waits for what. A topic that nobody waits for costs nothing."""

    def __init__(self) -> None:
        self._waiting: dict[Hashable, dict[asyncio.Future[None], None]] = {}
        self._waking: deque[asyncio.Future[None]] = deque()

    def __len__(self) -> int:
        return len({future for futures in self._waiting.values() for future in futures})

    def waiting(self, topic: Hashable) -> int:
        """How many wait for a topic."""
        return len(self._waiting.get(topic, ()))

    async def wait(self, topics: Collection[Hashable]) -> None:
        """Wait until one of these is announced, or everything is."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        for topic in topics:
            self._waiting.setdefault(topic, {})[future] = None
        try:
            await future
        finally:
            for topic in topics:
                self._forget(topic, future)

    async def wait_for(self, topics: Collection[Hashable], seconds: float | None) -> bool:
        """Wait so long at most; False where nothing came. None: however long it takes."""
        try:
            async with asyncio.timeout(seconds):
                await self.wait(topics)
        except TimeoutError:
            return False
        return True

    def announce(self, topics: Iterable[Hashable]) -> None:
        """Wake all who wait for one of these."""
        for topic in topics:
            futures = self._waiting.pop(topic, None)
            if futures:
                self._wake(futures)

    def announce_everything(self) -> None:
        """Wake all who wait."""
        self.announce(list(self._waiting))

    def _forget(self, topic: Hashable, future: asyncio.Future[None]) -> None:
        futures = self._waiting.get(topic)
        if futures is not None:
            futures.pop(future, None)
            if not futures:
                del self._waiting[topic]

    def _wake(self, futures: Iterable[asyncio.Future[None]]) -> None:
        idle = not self._waking
        self._waking.extend(futures)
        if idle:
            self._wake_some()

    def _wake_some(self) -> None:
        for _ in range(min(AT_ONCE, len(self._waking))):
            future = self._waking.popleft()
            if not future.done():
                future.set_result(None)
        if self._waking:
            asyncio.get_running_loop().call_soon(self._wake_some)
