"""The disk of the journal is full, and the server is killed all the same."""

from __future__ import annotations

import errno
import os
import random
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.restart.bed import StubbornServer, kills
from tests.restart.ordeal import Kill, ordeal
from tests.restart.test_sim_driver import HOSTS
from tests.restart.test_sim_server import kill_and_start
from virtrpc import VirtrpcError, job_options

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")

DISK_MIB = 24
FULL_SECONDS = 10.0
DETACHED = job_options(on_disconnect="detach")


@contextmanager
def small_disk() -> Iterator[Path]:
    """A file system with little room."""
    path = Path(tempfile.mkdtemp(prefix="virtrpc-", dir="/tmp"))
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", path], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", path], check=True)
        path.rmdir()


class Filling:
    """Kills something again and again, while the disk is full for three kills of nine."""

    def __init__(self, disk: Path, kill: Kill) -> None:
        self._filler, self._kill, self._done = disk / "filler", kill, 0

    def kill(self, server: StubbornServer, chances: random.Random) -> None:
        """Once more: the disk is filled or emptied before, where it is time to, and what holds of a full one is looked at."""
        turn = self._done % 9
        if turn == 3:
            self._fill()
            refused(server)
        if 3 <= turn < 6:
            self._fill()
            queries_go_on(server)
        elif turn == 6:
            self._filler.unlink()
        self._kill(server, chances)
        self._done += 1

    def _fill(self) -> None:
        """Leave not a page: what the server has given back in the meantime is taken too."""
        with self._filler.open("ab", buffering=0) as filler:
            try:
                while True:
                    filler.write(bytes(4096))
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise


def refused(server: StubbornServer) -> None:
    """New jobs until one is refused because of the journal, or for a while: it may have room enough in its own file to go on."""
    server.wait_live()
    with server.blocking() as client:
        domain = next(iter(client.list_domains()))
        end = time.monotonic() + FULL_SECONDS
        while time.monotonic() < end:
            try:
                # Another text each time: a lost call would be proven by one like it.
                client.set_metadata(domain, description=f"more {time.time_ns()}", options=DETACHED).close()
            except VirtrpcError as error:
                if error.reason == "JOURNAL_UNAVAILABLE" and str(server.state) in str(error):
                    return


def queries_go_on(server: StubbornServer) -> None:
    """Domains, hosts, and the jobs that there are."""
    server.wait_live()
    with server.blocking() as client:
        assert list(client.list_domains())
        assert [host.name for host in client.list_hosts()][:2] == ["a", "b"]
        jobs = list(client.list_jobs())
        assert client.get_job(job_id=jobs[0].job_id).request_id == jobs[0].request_id


@pytest.mark.timeout(2400)
@pytest.mark.parametrize("count", [9, pytest.param(200, marks=pytest.mark.restart)])
async def test_the_server_is_killed_on_a_full_disk(count: int) -> None:
    """New jobs are refused and queries go on; whatever was told before is lost by no kill, and all ends well once there is room again."""
    with small_disk() as disk, ordeal("ab", domains=20, state=disk) as trial:
        await trial.go(kills(count), pause=1.2, kill=Filling(disk, kill_and_start).kill)
        assert any("JOURNAL_UNAVAILABLE" in reason for reason in trial.told.refused.values())


@pytest.mark.timeout(2400)
@pytest.mark.restart
async def test_driver_processes_are_killed_on_a_full_disk() -> None:
    """The same."""
    with small_disk() as disk, ordeal(HOSTS, domains=5, state=disk) as trial:
        await trial.go(kills(200), pause=1, kill=Filling(disk, StubbornServer.kill_driver).kill)
        assert any("JOURNAL_UNAVAILABLE" in reason for reason in trial.told.refused.values())
