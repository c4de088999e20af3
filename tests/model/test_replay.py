"""A script of the state machine, found again in what a failure prints."""

from __future__ import annotations

from tests.model.replay import steps_of

PRINTED = """
E       AssertionError: [order] this is no step
E       state = Machine()
E       state.crowd(guest='c1', verbs=['ResumeDomain',
E        'SetMemory'], wait=5.0)
        state.teardown()
E       and nothing more
"""


def test_the_steps_of_a_failure_are_found_as_pytest_shows_them() -> None:
    """Also a step whose arguments go over several lines."""
    assert steps_of(PRINTED) == ["state = Machine()", "state.crowd(guest='c1', verbs=['ResumeDomain', 'SetMemory'], wait=5.0)", "state.teardown()"]
