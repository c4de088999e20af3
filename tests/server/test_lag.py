"""The loop's watchdog, on a loop that is really held up: never for a given time, always until that was noticed."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any

import pytest

from virtrpc_server import lag as lags
from virtrpc_server.lag import Lag, Reading, place_of

GUARD = 30.0


class Noticing(Lag):
    """Says when it has seen the loop held up."""

    def __init__(self, **more: float) -> None:
        super().__init__(**more)
        self.seen: list[str] = []

    def _look(self, life: Any, beat: Any) -> None:
        super()._look(life, beat)
        # The question may be older than what holds the loop up, where the machine is busy: its place is that which was seen most.
        (most, _), *_ = Counter(beat.places).most_common(1) or [("", 0)]
        self.seen += [most] if ":hold_up:" in most else []


def hold_up(noticed: Sequence[object]) -> None:
    """Hold the loop up until something was noticed; it calls nothing that has a frame of its own."""
    end = time.monotonic() + GUARD
    while not noticed and time.monotonic() < end:
        time.sleep(0.001)


async def answered(lag: Lag) -> Reading:
    """What the watchdog says once the loop has answered it again."""
    before = lag.read().count
    async with asyncio.timeout(GUARD):
        while lag.read().count < before + 2:  # noqa: ASYNC110 # the watchdog announces nothing
            await asyncio.sleep(0.001)
    return lag.read()


@pytest.fixture
async def lag() -> Any:
    """A watchdog at work."""
    lag = Noticing(interval=0.001)
    lag.start()
    yield lag
    lag.stop()


async def test_what_holds_the_loop_up_is_known_with_its_place(lag: Noticing) -> None:
    """The longest stretch and the function that was at work; a reset forgets both."""
    await answered(lag)
    lag.reset()
    hold_up(lag.seen)
    while not (reading := lag.read()).count:  # noqa: ASYNC110 # the watchdog announces nothing
        await asyncio.sleep(0)
    assert reading.place.startswith("test_lag.py:hold_up:")
    assert reading.max >= reading.p999 >= reading.p99 >= reading.p50 > 0
    lag.reset()
    assert lag.read() == Reading(0, 0.0, 0.0, 0.0, 0.0, "")


async def test_a_stretch_above_the_setting_is_logged_with_its_place(caplog: pytest.LogCaptureFixture) -> None:
    """Once in a while, and not for each."""
    lag = Noticing(warning=1e-6, interval=0.001)
    lag.start()
    for _ in range(3):
        lag.seen.clear()
        hold_up(lag.seen)
        await answered(lag)
    lag.stop()
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING and record.name == lags.__name__]
    assert len(warnings) == 1


async def test_a_loop_that_stands_still_is_reported_while_it_does(
    lag: Noticing, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its whole stack, since it may never come round again; once for each time."""
    monkeypatch.setattr(lags, "STILL_SECONDS", 0.0)
    reports: list[object] = []
    monkeypatch.setattr(lags.logger, "error", lambda *args: reports.append(args))
    hold_up(reports)
    lag.seen.clear()
    hold_up(lag.seen)
    (report,) = reports
    assert "hold_up" in str(report)


async def test_the_histogram_says_how_late_the_loop_was(lag: Noticing, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shares of the answers, at most one class too high and never above the longest."""
    lag.stop()
    lag.reset()
    now = time.perf_counter()
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    for milliseconds in range(1, 1001):
        lag._answer(lags._Beat(now - milliseconds / 1000))
    reading = lag.read()
    assert reading.count == 1000
    assert 0.5 <= reading.p50 < 0.6
    assert 0.99 <= reading.p99 <= reading.p999 <= reading.max


def test_the_place_is_the_innermost_of_our_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """What our code calls is held against the line that calls it; what only runs the loop is not blamed."""
    seen: list[FrameType] = []

    def caught() -> None:
        seen.append(sys._getframe())

    def code(file: str, name: str) -> Callable[[Callable[[], None]], None]:
        names: dict[str, Any] = {}
        exec(compile(f"\ndef {name}(inner):\n    inner()\n", file, "exec"), names)
        made: Callable[[Callable[[], None]], None] = names[name]
        return made

    main, once = code("/x/virtrpc_server/main.py", "run"), code("/usr/lib/asyncio/base_events.py", "_run_once")
    ours, library = code("/x/virtrpc_server/messages/jobs.py", "told"), code("/y/google/protobuf/message.py", "made")
    main(lambda: once(lambda: ours(lambda: library(caught))))
    main(lambda: once(caught))
    assert place_of(seen[0]) == "virtrpc_server/messages/jobs.py:told:3"
    assert place_of(seen[1]).startswith("test_lag.py:caught:")
