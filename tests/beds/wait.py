"""Waiting for a condition, with a hang guard."""

import time
from collections.abc import Callable
from pathlib import Path

POLL_SECONDS = 0.02


def wait_until(condition: Callable[[], object], what: str, guard_seconds: float = 60) -> None:
    """Return once ``condition()`` is true; raise TimeoutError naming ``what`` when the hang guard expires."""
    deadline = time.monotonic() + guard_seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"gave up after {guard_seconds} s: {what}")
        time.sleep(POLL_SECONDS)


def wait_for_console(console_log: Path, word: str, guard_seconds: float = 110) -> None:
    """Return once the guest has printed ``word`` (READY, FILLED) on its console; ten that start together on a busy machine may need over a minute."""

    def printed() -> bool:
        return console_log.exists() and word in console_log.read_text(errors="replace").split()

    wait_until(printed, f"{word} in {console_log}", guard_seconds)
