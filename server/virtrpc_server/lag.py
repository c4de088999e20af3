"""The watchdog of the event loop: how late it comes round, and what holds it up.

A thread beside the loop asks it for a sign of life again and again. While one is overdue the thread looks at the loop's stack, so
that the longest stretch is known with its place, also where it never ends. A stretch is measured from the question on: one that
began before is longer by up to `INTERVAL`.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
import traceback
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil, log
from pathlib import Path
from types import FrameType

logger = logging.getLogger(__name__)

INTERVAL = 0.04
"""Seconds between two questions."""
OVERDUE = 0.004
"""After this long without an answer the stack is looked at, and again each time as long."""
STILL_SECONDS = 5.0
"""A loop that has stood still for this long is reported at once, with its whole stack."""
WARNING_PAUSE = 10.0
"""Seconds between two warnings."""
STEP = 1.05
"""The width of the histogram's classes: what is read from it is at most 5 % too high."""
SMALLEST = 1e-5
OURS = ("virtrpc_server", "virtrpc_drivers", "virtrpc")


@dataclass(frozen=True, slots=True)
class Reading:
    """How late the loop was since the last reset, in seconds; `count` is how often it was asked."""

    count: int
    p50: float
    p99: float
    p999: float
    max: float
    place: str
    """Where the longest stretch was: "file:function:line"; empty where it was over before anybody looked."""

    def __str__(self) -> str:
        where = f" in {self.place}" if self.place else ""
        ms = [1000 * seconds for seconds in (self.p50, self.p99, self.p999, self.max)]
        return f"p50 {ms[0]:.1f} ms, p99 {ms[1]:.1f} ms, p99.9 {ms[2]:.1f} ms, at most {ms[3]:.1f} ms{where}"


class Lag:
    """Watches the loop on which it is started, from `start` to `stop`. Stretches of more than `warning` seconds are logged.

    `interval` are the seconds between two questions: fewer find shorter stretches more often, and cost more.
    """

    def __init__(self, warning: float = 0.1, interval: float = INTERVAL) -> None:
        self._warning = warning
        self.interval = interval
        self._histogram: Counter[int] = Counter()
        self._longest = 0.0
        self.total = 0.0
        """All stretches together, in seconds."""
        self._place = ""
        self._warned = float("-inf")
        self._life: _Life | None = None

    def start(self) -> None:
        """Begin to watch the running loop."""
        if self._life is None:
            self._life = _Life(asyncio.get_running_loop(), threading.get_ident())
            threading.Thread(target=self._watch, args=(self._life,), name="loop-watchdog", daemon=True).start()

    def stop(self) -> None:
        """Watch no more. What was seen can still be read."""
        # The thread ends by itself, within an interval: the loop must not wait for it.
        if self._life is not None:
            self._life.over = True
            self._life = None

    def reset(self) -> None:
        """Forget what was seen so far."""
        self._histogram.clear()
        self._longest, self._place, self.total = 0.0, "", 0.0

    def counts(self, bounds: Sequence[float]) -> list[int]:
        """How many stretches were in each class that these bounds make; the last one is above all bounds. Call it on the loop."""
        counts = [0] * (len(bounds) + 1)
        for number, count in self._histogram.items():
            counts[bisect_left(bounds, SMALLEST * STEP**number)] += count
        return counts

    def read(self) -> Reading:
        """What was seen since the last reset. Call it, and `reset`, on the loop."""
        return Reading(self._histogram.total(), self._at(0.5), self._at(0.99), self._at(0.999), self._longest, self._place)

    def _at(self, share: float) -> float:
        rank = ceil(share * self._histogram.total())
        for number in sorted(self._histogram):
            rank -= self._histogram[number]
            if rank <= 0:
                return min(self._longest, SMALLEST * STEP**number)
        return 0.0

    # On the loop

    def _answer(self, beat: _Beat) -> None:
        lag = time.perf_counter() - beat.asked
        place = Counter(beat.places).most_common(1)[0][0] if beat.places else ""
        beat.answered = True
        self.total += lag
        self._histogram[max(0, ceil(log(max(lag, SMALLEST) / SMALLEST, STEP)))] += 1
        if lag > self._longest:
            self._longest, self._place = lag, place
        now = time.perf_counter()
        if lag > self._warning and now - self._warned > WARNING_PAUSE:
            self._warned = now
            logger.warning("the event loop was held up for %.0f ms%s", 1000 * lag, f" in {place}" if place else "")

    # On the watchdog's thread

    def _watch(self, life: _Life) -> None:
        while not life.over:
            time.sleep(self.interval)
            beat = _Beat(time.perf_counter())
            try:
                life.loop.call_soon_threadsafe(self._answer, beat)
            except RuntimeError:
                return  # the loop is closed
            time.sleep(OVERDUE)
            while not beat.answered and not life.over:
                self._look(life, beat)
                time.sleep(OVERDUE)

    def _look(self, life: _Life, beat: _Beat) -> None:
        frame = sys._current_frames().get(life.thread)
        if frame is None:
            life.over = True  # its thread has ended
            return
        beat.places.append(place_of(frame))
        if not beat.reported and time.perf_counter() - beat.asked > STILL_SECONDS:
            beat.reported = True
            logger.error("the event loop has stood still for %.0f s:\n%s", STILL_SECONDS, "".join(traceback.format_stack(frame)))


@dataclass(eq=False)
class _Life:
    """One loop that is watched, and its thread."""

    loop: asyncio.AbstractEventLoop
    thread: int
    over: bool = False


@dataclass(eq=False)
class _Beat:
    """One question, and where the loop was while it did not answer."""

    asked: float
    answered: bool = False
    reported: bool = False
    places: list[str] = field(default_factory=list)


def place_of(frame: FrameType) -> str:
    """The innermost place in our own code, or the innermost of all where ours is not on the loop's stack: it waits, for work or for a processor."""
    at: FrameType | None = frame
    while at is not None and at.f_code.co_name != "_run_once":  # what lies beyond only runs the loop
        path = Path(at.f_code.co_filename)
        package = next((part for part in path.parts if part in OURS), None)
        if package is not None:
            return _place(at, "/".join(path.parts[path.parts.index(package) :]))
        at = at.f_back
    return _place(frame, Path(frame.f_code.co_filename).name)


def _place(frame: FrameType, file: str) -> str:
    return f"{file}:{frame.f_code.co_name}:{frame.f_lineno}"
