"""An event loop on which time passes only when nothing else happens: hours of waiting take milliseconds, in the same order every time.

Threads still work (what they hand over is seen), but have no time of their own here. A loop on which nothing can ever happen
again raises `DeadlockError` instead of hanging.
"""

from __future__ import annotations

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

EPOCH = 1_700_000_000.0
"""Wall time at the loop's zero, in seconds since 1970."""
TURNS_GUARD = 200_000
"""Turns of the loop without a moment's passing after which it is said to run in circles."""
THREAD_GUARD = 5.0
"""Real seconds that a loop without timers waits for other threads or sockets before it is called a deadlock."""


class DeadlockError(RuntimeError):
    """Every task waits, and nothing is left that could wake one."""


class LivelockError(RuntimeError):
    """Something goes on for ever, and no time passes."""


class _Selector(selectors.DefaultSelector):
    """Looks at sockets without waiting; the time that it should have waited passes at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.turns = 0
        self.still: Callable[[], bool] | None = None

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        self.turns += 1
        if self.turns > TURNS_GUARD:
            raise LivelockError(f"the loop turned {TURNS_GUARD} times in one moment")
        if ready or timeout == 0:
            return ready
        if self.still is not None and self.still():
            return ready
        self.turns = 0
        if timeout is not None:
            self.now += timeout
            return ready
        ready = super().select(THREAD_GUARD)
        if not ready:
            raise DeadlockError("nothing is left to do: every task waits for something that cannot come")
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """`asyncio.Runner(loop_factory=VirtualLoop)`, or `run` below."""

    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._virtual.now

    def before_time_passes(self, still: Callable[[], bool] | None) -> None:
        """Have this called whenever nothing is left to do at a moment; True says that it has found something to do."""
        self._virtual.still = still


def wall() -> float:
    """Virtual wall time in seconds since 1970: for clocks that are injected."""
    return EPOCH + asyncio.get_running_loop().time()


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end on virtual time; returns its result. Raises DeadlockError."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(work)


def on_virtual_time(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Make a test of a coroutine function: it runs on a virtual loop of its own."""

    @functools.wraps(test)
    def run_test(*args: P.args, **kwargs: P.kwargs) -> None:
        run(test(*args, **kwargs))

    return run_test
