"""Running the state machine: the same steps every time for the same number, unless the environment asks for others.

VIRTRPC_MODEL_EXAMPLES is how many worlds each test makes, VIRTRPC_MODEL_SEED the number of the first one's steps ("random": new ones each time).
"""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.model.machine import Machine
from tests.model.shorten import shorten

STEPS = 50
"""In each world."""
HEADING = "To see it again, give this to python -m tests.model.replay:"


def explore(machine: type[Machine], number: int, examples: int, *, steps: int = STEPS, script: bool = True) -> int:
    """Make that many worlds and do anything in each; says how many steps were taken. A failure carries a script as a note, as short as it gets."""
    taken = 0

    class Counted(machine):  # type: ignore[valid-type, misc]
        def teardown(self) -> None:
            nonlocal taken
            taken += self.steps
            super().teardown()

    # The printed script names the machine that replays it.
    Counted.__name__ = machine.__name__
    seed(_first() + number)(Counted)
    with _quiet():
        try:
            run_state_machine_as_test(Counted, settings=_settings(examples, steps))
        except Exception as error:
            if script:
                _say_how(error)
            raise
    return taken


def _say_how(error: Exception) -> None:
    """Leave nothing but the short script among the notes."""
    long = "\n".join(error.__notes__)
    error.__notes__ = [f"{HEADING}\n{shorten(long)}"]


@contextmanager
def _quiet() -> Iterator[None]:
    # Thousands of lines about hosts that were lost on purpose would hide the script.
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


def examples(usual: int) -> int:
    """How many worlds to make."""
    return int(os.environ.get("VIRTRPC_MODEL_EXAMPLES", usual))


def _first() -> int:
    asked = os.environ.get("VIRTRPC_MODEL_SEED", "0")
    return secrets.randbits(32) if asked == "random" else int(asked)


def _settings(count: int, steps: int) -> Any:
    return settings(
        max_examples=count,
        stateful_step_count=steps,
        # What a failure says is in its script: nothing is kept between runs.
        database=None,
        deadline=None,
        # A failure is made short by `shorten`.
        phases=(Phase.generate,),
        report_multiple_bugs=False,
        # A world is larger than what these take for healthy.
        suppress_health_check=list(HealthCheck),
    )
