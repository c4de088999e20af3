"""How long to pause between attempts, and how long to go on at all."""

from __future__ import annotations

import random
import time

FIRST = 0.1
LONGEST = 5.0


class Backoff:
    """Growing pauses in seconds with full jitter, so that the watchers of a restarted server do not come back all at once."""

    def __init__(self, first: float = FIRST, longest: float = LONGEST) -> None:
        self._first = first
        self._longest = longest
        self.attempts = 0

    def next(self) -> float:
        """The next pause; at least a tenth of what the jitter is drawn from."""
        bound = min(self._longest, self._first * 2**self.attempts)
        # 2**attempts must not outgrow a float in a watch that has been trying for weeks.
        self.attempts = min(self.attempts + 1, 30)
        return random.uniform(bound / 10, bound)

    def reset(self) -> None:
        """It works again: the next pause is a short one."""
        self.attempts = 0


class Deadline:
    """A moment on the monotonic clock, `seconds` from now; None never comes."""

    def __init__(self, seconds: float | None) -> None:
        self._at = None if seconds is None else time.monotonic() + seconds

    @property
    def left(self) -> float | None:
        """Seconds until then, not below zero; None without limit."""
        return None if self._at is None else max(0.0, self._at - time.monotonic())

    @property
    def passed(self) -> bool:
        """It is over."""
        return self.left == 0.0

    def cap(self, seconds: float) -> float:
        """`seconds`, or what is left where that is less."""
        left = self.left
        return seconds if left is None else min(seconds, left)
