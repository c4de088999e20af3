"""How `virtrpcd` ends: its exit codes, and what it says of what it could not do."""

from __future__ import annotations

import sys

EXIT_FAILED = 1
EXIT_USAGE = 2


def complain(error: Exception, code: int) -> int:
    """The exit code, once each line of the error is on stderr."""
    print(*(f"virtrpcd: {line}" for line in str(error).splitlines()), sep="\n", file=sys.stderr)
    return code
