"""The server and its driver processes are replaced in good order, again and again under load."""

from __future__ import annotations

import random

import pytest

from tests.restart.bed import StubbornServer, kills
from tests.restart.ordeal import ordeal


def replace_server(server: StubbornServer, _: random.Random) -> None:
    """SIGTERM, and once it has drained and ended with 0, another one."""
    assert server.stop() == 0, server.log[-4000:]
    server.start()


def replace_either(server: StubbornServer, chances: random.Random) -> None:
    """The server, or a driver process below it."""
    if chances.random() < 0.5:
        replace_server(server, chances)
    else:
        server.kill_driver(chances)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("count", [5, pytest.param(40, marks=pytest.mark.restart)])
async def test_a_rolling_restart_loses_no_job_and_no_watcher(count: int) -> None:
    """Every job is one story to all who hear of it, ends as it did at the hypervisor, and every watcher hears of every end."""
    with ordeal("ab", domains=10) as trial:
        await trial.go(kills(count), pause=1.5, kill=replace_either)
