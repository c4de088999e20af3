"""Replays a script that a failure of the state machine printed: `python -m tests.model.replay FILE`, or on standard input.

The script may be copied as pytest shows it; whatever is not a line of it is left out.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from tests.model import machine

STEP = re.compile(r"^\s*(state(?: = |\.)\w+\([^()]*\))\s*$", re.MULTILINE)
"""A step. Its arguments are plain values, and may go over several lines."""
MARK = re.compile(r"^E(?=\s)", re.MULTILINE)
"""What pytest puts before each line of a failure."""


def steps_of(text: str) -> list[str]:
    """The steps in a text, whatever else it has."""
    return [" ".join(step.split()) for step in STEP.findall(MARK.sub("", text))]


def replay(text: str, times: list[float] | None = None) -> None:
    """Take the steps of a script; `times` gets the loop time in seconds after each. Raises what they raise: AssertionError where a rule is broken."""
    lines = steps_of(text)
    if not lines:
        raise SystemExit("there is no script in this text: it begins with state = Machine(), and its lines with state.")
    names: dict[str, Any] = {name: kind for name, kind in vars(machine).items() if isinstance(kind, type) and issubclass(kind, machine.Machine)}
    try:
        for line in lines:
            # The text is the developer's own, as any test is.
            exec(line, names)
            if times is not None:
                times.append(names["state"].now)
    except BaseException:
        names["state"].teardown()
        raise


if __name__ == "__main__":
    replay(Path(sys.argv[1]).read_text() if len(sys.argv) > 1 else sys.stdin.read())
