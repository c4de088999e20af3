"""How long to pause between attempts, and how long to go on at all."""

from __future__ import annotations

import random
import time

import grpc

from virtrpc.errors import VirtrpcError, is_passing

FIRST = 0.1
LONGEST = 5.0
LONGEST_TRIAL = 1.0
"""Between two attempts for which a caller waits."""


class Backoff:
    """Growing pauses in seconds with full jitter, so that the watchers of a restarted server do not come back all at once."""

    def __init__(self, first: float = FIRST, longest: float = LONGEST) -> None:
        self._first = first
        self._longest = longest
        self.attempts = 0

    def next(self, least: float | None = None) -> float:
        """The next pause; at least a tenth of what the jitter is drawn from. `least` is what the server asks for: jitter comes on top."""
        bound = min(self._longest, self._first * 2**self.attempts)
        # 2**attempts must not outgrow a float in a watch that has been trying for weeks.
        self.attempts = min(self.attempts + 1, 30)
        if least is not None:
            return least + random.uniform(0, max(bound, least))
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

    def allows(self, seconds: float) -> bool:
        """Something is left after so long."""
        left = self.left
        return left is None or left > seconds

    def cap(self, seconds: float) -> float:
        """`seconds`, or what is left where that is less."""
        left = self.left
        return seconds if left is None else min(seconds, left)


class Trials:
    """Attempts to reach a server that was not heard of yet, while both clocks allow."""

    def __init__(self, patience: Deadline, deadline: Deadline) -> None:
        self._clocks = (patience, deadline)
        self._backoff = Backoff(longest=LONGEST_TRIAL)
        self._cut: VirtrpcError | None = None

    def pause(self, error: VirtrpcError) -> float:
        """Seconds until the next attempt. Raises the error where there is to be none, or what it was before time ran out."""
        if not is_passing(error):
            raise self._cut if self._cut is not None and error.code is grpc.StatusCode.DEADLINE_EXCEEDED else error
        self._cut = error
        seconds = self._backoff.next(error.retry_after)
        if not all(clock.allows(seconds) for clock in self._clocks):
            raise error
        return seconds
