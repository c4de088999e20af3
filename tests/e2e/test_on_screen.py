"""The command line on a terminal and off one, while the real `virtrpcd` is killed or drained and started again below it; the hypervisor lives on."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from tests.beds.sim_daemon import SimDaemon
from tests.beds.wait import wait_until
from tests.e2e.server import GUARD
from tests.restart.bed import StubbornServer
from virtrpc.v1 import types_pb2 as t

_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")


class Screen:
    """The program with one terminal for all that it prints."""

    def __init__(self, server: StubbornServer, *words: str) -> None:
        self._master, slave = pty.openpty()
        environment = {**os.environ, "VIRTRPC_ADDRESS": server.address, "TERM": "xterm", "COLUMNS": "200"}
        command = [sys.executable, "-m", "virtrpc.cli", *words]
        self._process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env=environment)
        os.close(slave)
        self._text = ""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def text(self) -> str:
        """All that was shown, without colours and movements."""
        return _CONTROL.sub("", self._text)

    def shows(self, words: str, times: int = 1) -> None:
        """Waits until these words were shown so often."""
        wait_until(lambda: self.text.count(words) >= times, f"{words!r} on the screen", GUARD)

    def ended(self) -> int:
        """The exit code, at its end."""
        code = self._process.wait(GUARD)
        self._reader.join(GUARD)
        return code

    def __enter__(self) -> Screen:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join(GUARD)
        os.close(self._master)

    def _read(self) -> None:
        try:
            while part := os.read(self._master, 4096):
                self._text += part.decode(errors="replace")
        except OSError:
            return  # Linux's way to say that the other end is closed


@pytest.fixture(params=[8])
def server(request: pytest.FixtureRequest) -> Iterator[StubbornServer]:
    """A server whose host outlives it; a save takes long enough for a restart, the parameter in seconds."""
    uri = {"domains": 3, "running": 2, "save_seconds": request.param, "progress_seconds": 0.1}
    with SimDaemon() as daemon, StubbornServer({"a": daemon.uri("a", **uri)}, drain_timeout=0.5) as server:
        server.wait_live()
        yield server


def test_a_watch_goes_on_after_a_crash(server: StubbornServer) -> None:
    """It says that the connection is lost and that it goes on, and then what has changed."""
    with Screen(server, "watch") as screen:
        screen.shows("a/guest-1 running")
        server.kill()
        screen.shows("connection lost")
        server.start()
        screen.shows("connected again, the watch goes on")
        server.wait_live()
        with server.blocking() as client:
            client.suspend_domain("guest-1").wait()
        screen.shows("a/guest-1 paused")
        assert screen.text.count("connection lost") == 1


def test_a_watch_of_jobs_goes_on_after_a_crash(server: StubbornServer) -> None:
    """It tells the end of the job that ran through it."""
    with Screen(server, "watch-jobs") as screen, server.blocking() as client:
        save = client.managed_save_domain("guest-1")
        screen.shows("managed save guest-1: running")
        screen.shows(" %")  # its call is out
        server.crash()
        screen.shows("connected again, the watch goes on")
        assert save.wait().state == t.JOB_STATE_SUCCEEDED
        screen.shows("managed save guest-1: succeeded")


@pytest.mark.parametrize("how", ["killed", "drained"])
def test_a_verb_goes_on_below_its_bar(server: StubbornServer, how: str) -> None:
    """The bar says that the connection is lost and goes on in the same place; the job ends as it does, and the exit code is its own."""
    with Screen(server, "save", "guest-1") as screen:
        screen.shows("%")
        server.kill() if how == "killed" else server.stop()
        screen.shows("connection lost")
        assert "trying again" in screen.text
        server.start()
        assert screen.ended() == 0
        assert "managed save guest-1: done" in screen.text
        assert "virtrpc: note" not in screen.text


@pytest.mark.parametrize("server", [2 * GUARD], indirect=True)
def test_a_verb_off_a_terminal_says_it_in_lines(server: StubbornServer) -> None:
    """One line when the connection is lost, one when it is back; nothing else on stdout than the result. Cancelled meanwhile, it ends with 1."""
    command = [sys.executable, "-m", "virtrpc.cli", "-a", server.address, "save", "guest-1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as program, server.blocking() as client:
        # Its call is out: one that was only about to be sent would end INTERRUPTED.
        wait_until(lambda: [job for job in client.list_jobs() if job.progress.percent], "the save to get on", GUARD)
        server.crash()
        server.wait_live()
        (job,) = client.list_jobs()
        wait_until(lambda: client.cancel_job(job_id=job.job_id).job.state == t.JOB_STATE_CANCELLED, "the save to be cancelled", GUARD)
        stdout, stderr = program.communicate(timeout=GUARD)
    assert (program.returncode, stdout) == (1, "")
    lines = [line for line in stderr.splitlines() if "connect" in line]
    assert ["connection lost" in line for line in lines] == [True, False]
    assert lines[1] == "virtrpc: note: connected again"


def test_a_verb_that_finds_no_server_waits_for_it(server: StubbornServer) -> None:
    """It says so at once, and begins when the server is back."""
    server.kill()
    with Screen(server, "suspend", "guest-1") as screen:
        screen.shows("cannot reach the server")
        server.start()
        assert screen.ended() == 0
        assert "suspend guest-1: done" in screen.text
