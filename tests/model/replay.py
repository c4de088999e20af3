"""Replays a script that a failure of the state machine printed: `python -m tests.model.replay FILE`, or on standard input.

The script may be copied as pytest shows it; whatever is not a line of it is left out.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from tests.model import machine

LINE = re.compile(r"^(?:E\s+)?(state(?: = |\.)\w+\(.*\))\s*$", re.MULTILINE)


def replay(text: str) -> None:
    """Take the steps of a script. Raises what they raise: AssertionError where a rule is broken."""
    lines = LINE.findall(text)
    if not lines:
        raise SystemExit("there is no script in this text: it begins with state = Machine(), and its lines with state.")
    names = {name: kind for name, kind in vars(machine).items() if isinstance(kind, type) and issubclass(kind, machine.Machine)}
    # The text is the developer's own, as any test is.
    exec("\n".join(lines), names)


if __name__ == "__main__":
    replay(Path(sys.argv[1]).read_text() if len(sys.argv) > 1 else sys.stdin.read())
