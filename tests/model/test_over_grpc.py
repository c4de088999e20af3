"""The state machine through a real channel, on real time: few steps, and nothing is measured."""

from __future__ import annotations

import pytest

from tests.model.explore import explore
from tests.model.over_grpc import GrpcMachine

EXAMPLES = 10
STEPS = 200
"""At least so many."""


@pytest.mark.timeout(300)  # real time, on a machine that may be loaded
def test_through_a_real_channel_the_promises_hold() -> None:
    """The same rules: callers, followers and watchers on sockets, their leaving and their slowness as gRPC has them."""
    assert explore(GrpcMachine, 0, EXAMPLES, steps=25, script=False) >= STEPS
