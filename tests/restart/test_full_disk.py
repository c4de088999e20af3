"""The disk of the journal is full, and the server is killed all the same."""

from __future__ import annotations

import errno
import os
import random
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.beds.wait import wait_until
from tests.restart.bed import StubbornServer, kills
from tests.restart.ordeal import ordeal
from tests.restart.test_sim_server import kill_and_start
from virtrpc import VirtrpcError, job_options

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")

DISK_MIB = 24
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
    """Kills a server `count` times: the disk is full from a third of them to two thirds."""

    def __init__(self, disk: Path, count: int) -> None:
        self._filler = disk / "filler"
        self._full, self._count, self._done = range(count // 3, 2 * count // 3), count, 0

    def kill(self, server: StubbornServer, chances: random.Random) -> None:
        """Once more: the disk is filled or emptied before, where it is time to, and what holds of a full one is looked at."""
        if self._done == self._full.start:
            self._fill()
            refused(server)
        elif self._done == self._full.stop:
            self._filler.unlink()
        if self._done in self._full:
            self._fill()
            queries_go_on(server)
        kill_and_start(server, chances)
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
    """Returns once a new job is refused because of the journal: first what room it has itself is used up."""

    def refuses() -> bool:
        try:
            client.set_metadata(domain, description="more", options=DETACHED).close()
        except VirtrpcError as error:
            return error.reason == "JOURNAL_UNAVAILABLE" and str(server.state) in str(error)
        return False

    server.wait_live()
    with server.blocking() as client:
        domain = next(iter(client.list_domains()))
        wait_until(refuses, "a job to be refused")


def queries_go_on(server: StubbornServer) -> None:
    """Domains, hosts, and the jobs that there are."""
    server.wait_live()
    with server.blocking() as client:
        assert list(client.list_domains())
        assert [host.name for host in client.list_hosts()] == ["a", "b"]
        jobs = list(client.list_jobs())
        assert client.get_job(job_id=jobs[0].job_id).request_id == jobs[0].request_id


@pytest.mark.timeout(900)
@pytest.mark.parametrize("count", [9, pytest.param(30, marks=pytest.mark.restart)])
async def test_the_server_is_killed_on_a_full_disk(count: int) -> None:
    """New jobs are refused and queries go on; whatever was told before is lost by no kill, and all ends well once there is room again."""
    with small_disk() as disk, ordeal("ab", domains=20, state=disk) as trial:
        await trial.go(count := kills(count), pause=1.2, kill=Filling(disk, count).kill)
        assert any("JOURNAL_UNAVAILABLE" in reason for reason in trial.told.refused.values())
