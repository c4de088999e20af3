"""Looks for a fault of the server that is first on the path, and says which rule it broke: `python -m tests.mutants.hunt [--script]`."""

from __future__ import annotations

import sys

from tests.model.explore import explore
from tests.model.machine import Machine, VirtuozzoMachine

HUNTS = ((Machine, 100, 25), (Machine, 102, 25), (VirtuozzoMachine, 101, 10))
"""The machines, the numbers of their steps, and how many worlds each makes."""


def main() -> int:
    """0 where nothing was found."""
    steps = 0
    for machine, number, examples in HUNTS:
        try:
            steps += explore(machine, number, examples, script="--script" in sys.argv)
        except AssertionError as fault:
            print(f"broken: {fault}", *fault.__notes__, sep="\n")
            return 1
    print(f"nothing was found in {steps} steps")
    return 0


if __name__ == "__main__":
    sys.exit(main())
