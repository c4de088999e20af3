"""Making a failing script short: whatever can be left out without losing the fault is left out.

hypothesis can do that too, but tries many thousands of variations of every argument, each a whole world; leaving out lines is what
shortens these scripts, and takes seconds.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Sequence

from tests.model.replay import replay, steps_of

RULE = re.compile(r"^\[[^]]+\]")
END = "state.teardown()"
AT_BOTH_ENDS = re.compile(r"^state(?: = |\.begin_with\(|\.teardown\()")


def shorten(text: str) -> str:
    """The shortest script found that breaks the same rule as this one."""
    lines = steps_of(text)
    rule = broken_by(lines)
    if rule is None:
        return "\n".join(lines)
    first = [line for line in lines if AT_BOTH_ENDS.match(line) and "teardown" not in line]
    steps = [line for line in lines if not AT_BOTH_ENDS.match(line)]

    def fails(kept: Sequence[str]) -> bool:
        return broken_by([*first, *kept, END]) == rule

    return "\n".join([*first, *_fewest(steps, fails, lambda kept: _times([*first, *kept, END])), END])


def broken_by(lines: Sequence[str]) -> str | None:
    """The rule that a script breaks, or the kind of error that it ends with; None where all is well."""
    try:
        replay("\n".join(lines))
    except AssertionError as fault:
        found = RULE.match(str(fault))
        return found[0] if found else "AssertionError"
    except Exception as error:  # noqa: BLE001 # whatever it is, the shorter script must end with the same
        return type(error).__name__
    return None


def _times(lines: Sequence[str]) -> list[float]:
    """The moment before each step and after the last, but for those that are not reached."""
    times: list[float] = []
    with contextlib.suppress(Exception):
        replay("\n".join(lines), times)
    return times[1:]


def _fewest(steps: list[str], fails: Callable[[Sequence[str]], bool], times_of: Callable[[Sequence[str]], list[float]]) -> list[str]:
    """Leave out pieces, halves first, then ever smaller ones, until none can be spared. A piece may leave nothing but the time that it took."""
    size = max(1, len(steps) // 2)
    while True:
        at, spared = len(steps), False
        times = times_of(steps)
        while at > 0:
            # From the end: later steps depend on earlier ones.
            upto, at = at, max(0, at - size)
            for rest in _instead(times[at : upto + 1]):
                shorter = [*steps[:at], *rest, *steps[upto:]]
                if len(shorter) < len(steps) and fails(shorter):
                    steps, spared = shorter, True
                    break
        if size == 1 and not spared:
            return steps
        size = max(1, size // 2) if not spared or size > 1 else 1


def _instead(times: Sequence[float]) -> list[list[str]]:
    """What may stand in a piece's place: nothing, or the time that it took."""
    seconds = times[-1] - times[0] if len(times) > 1 else 0.0
    return [[], [f"state.time_passes(seconds={seconds!r})"]] if seconds > 0 else [[]]
