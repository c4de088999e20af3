"""kill -9 of the server under load, its hypervisors living on."""

from __future__ import annotations

import random
import time

import pytest

from tests.restart.bed import StubbornServer, kills
from tests.restart.ordeal import ordeal


def kill_and_start(server: StubbornServer, chances: random.Random) -> None:
    """kill -9 and a new server; seldom that one is killed too, before it has come to anything."""
    server.kill()
    server.check_journal()
    while chances.random() < 0.1:
        server.spawn()
        time.sleep(chances.uniform(0, 1.5))
        server.kill()
        server.check_journal()
    server.start()


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("count", [8, pytest.param(200, marks=pytest.mark.restart)])
async def test_the_server_is_killed(count: int) -> None:
    """No job is lost, none happens twice, none is told to have ended otherwise than it did, and every watcher hears of every end."""
    with ordeal("ab", domains=20) as trial:
        await trial.go(kills(count), pause=1.2, kill=kill_and_start)
