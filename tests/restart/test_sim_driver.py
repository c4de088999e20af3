"""kill -9 of driver processes under load, their hypervisors living on."""

from __future__ import annotations

import pytest

from tests.restart.bed import StubbornServer, kills
from tests.restart.ordeal import ordeal

HOSTS = "abcdefgh"
"""A process that dies again and again is started again with growing pauses: with more of them there is always one to kill."""


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("count", [8, pytest.param(200, marks=pytest.mark.restart)])
async def test_driver_processes_are_killed(count: int) -> None:
    """No job is lost, none happens twice, none is told to have ended otherwise than it did, and every watcher hears of every end."""
    with ordeal(HOSTS, domains=5) as trial:
        await trial.go(kills(count), pause=1, kill=StubbornServer.kill_driver)
