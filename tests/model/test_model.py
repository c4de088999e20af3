"""Whatever is done to the server and its hypervisors, in whatever order: what it promises holds after every step."""

from __future__ import annotations

import pytest

from tests.model.explore import examples, explore
from tests.model.machine import Machine, VirtuozzoMachine

EXAMPLES = 80
STEPS = 3000
"""At least so many in each test."""
MACHINES = (*[(Machine, number) for number in range(6)], *[(VirtuozzoMachine, number) for number in range(2)])


@pytest.mark.timeout(600)  # a failure is made short before it is told
@pytest.mark.parametrize(("machine", "number"), MACHINES)
def test_whatever_is_done_the_promises_hold(machine: type[Machine], number: int) -> None:
    """Anything anybody can do: see machine.py for what is done, checks.py and rest.py for what holds. A failure prints a script for replay.py."""
    assert explore(machine, number, examples(EXAMPLES)) >= STEPS or examples(EXAMPLES) != EXAMPLES


def test_there_are_twenty_thousand_steps() -> None:
    """All of it together is no less."""
    assert STEPS * len(MACHINES) >= 20_000
