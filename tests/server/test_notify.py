"""What systemd is told, on a socket that stands for systemd's, by the real process; and the unit."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.beds.wait import wait_until
from tests.server.test_main import COMMAND, GUARD_SECONDS
from virtrpc_server.notify import Notifier

UNIT = Path(__file__).parents[2] / "server/systemd/virtrpcd.service"
WATCHDOG_SECONDS = 0.2
EXPOSURE = 28
"""At most, in tenths: as docs/deployment.md says."""
HANGS_ON_USR1 = """
import pathlib, signal, sys, time
release = pathlib.Path(sys.argv.pop(1))
def hang(*_):
    release.with_suffix(".hangs").touch()
    while not release.exists():
        time.sleep(0.01)
signal.signal(signal.SIGUSR1, hang)
from virtrpc_server.main import main
main()
"""


class Systemd:
    """The end that listens. `said` are the lines of all messages so far."""

    def __init__(self, address: str) -> None:
        self.said: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind(f"\0{address[1:]}" if address.startswith("@") else address)

    def listen(self) -> list[str]:
        """What came since the last time."""
        new: list[str] = []
        while True:
            try:
                new += self._socket.recv(4096).decode().splitlines()
            except BlockingIOError:
                self.said += new
                return new

    def until(self, *wanted: str) -> None:
        """Return once this was said, from now on."""
        missing = set(wanted)

        def heard() -> bool:
            missing.difference_update(self.listen())
            return not missing

        wait_until(heard, f"systemd to be told {missing}", GUARD_SECONDS)

    def close(self) -> None:
        """Hear no more."""
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Systemd, str]]:
    """The one that listens, and its address as systemd writes it."""
    address = str(tmp_path / "notify") if request.param == "path" else f"@virtrpc-{os.getpid()}"
    listener = Systemd(address)
    yield listener, address
    listener.close()


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Begins a process with these variables, as systemd would; it is ended with the test."""
    begun: list[subprocess.Popen[bytes]] = []

    def start(command: list[str], **variables: str) -> subprocess.Popen[bytes]:
        options = ["--socket", str(tmp_path / "s"), "--host", "a=sim://a/?domains=1", "--host", "b=test:///nowhere"]
        environment = {**os.environ, "VIRTRPC_CONFIG": "", **variables}
        with (tmp_path / "log").open("wb") as log:
            begun.append(process := subprocess.Popen([*command, *options], stdin=subprocess.DEVNULL, stderr=log, env=environment))
        return process

    yield start
    for process in begun:
        process.kill()
        process.wait()


def watched(address: str, **more: str) -> dict[str, str]:
    """What systemd sets for a service with a watchdog."""
    return {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": str(int(WATCHDOG_SECONDS * 1e6)), **more}


def test_it_says_that_it_is_ready_alive_and_ending(systemd: tuple[Systemd, str], begin: Callable[..., subprocess.Popen[bytes]]) -> None:
    """READY=1 once it listens, signs of life with its state in words, and STOPPING=1 with more time at the drain: in this order, each once."""
    listener, address = systemd
    process = begin(COMMAND, **watched(address))
    listener.until("READY=1", "WATCHDOG=1", "STATUS=1 of 2 hosts connected, 0 jobs running, 0 queued")
    listener.until("WATCHDOG=1")
    process.send_signal(signal.SIGTERM)
    assert process.wait(GUARD_SECONDS) == 0
    listener.listen()
    assert [line for line in listener.said if line in ("READY=1", "STOPPING=1")] == ["READY=1", "STOPPING=1"]
    end = listener.said[listener.said.index("STOPPING=1") :]
    assert "EXTEND_TIMEOUT_USEC=30000000" in end
    assert "STATUS=draining: 1 of 2 hosts connected, 0 jobs running, 0 queued" in end


def test_a_loop_that_hangs_gives_no_sign_of_life(tmp_path: Path, begin: Callable[..., subprocess.Popen[bytes]]) -> None:
    """Although the process and its other threads live; once the loop comes round again, so do the signs."""
    listener, release, log = Systemd(str(tmp_path / "notify")), tmp_path / "release", tmp_path / "log"
    process = begin([sys.executable, "-c", HANGS_ON_USR1, str(release)], **watched(str(tmp_path / "notify")))
    listener.until("READY=1")
    listener.until("WATCHDOG=1")
    process.send_signal(signal.SIGUSR1)
    wait_until(release.with_suffix(".hangs").exists, "the loop to hang", GUARD_SECONDS)
    listener.listen()
    wait_until(lambda: "the event loop has stood still" in log.read_text(), "another thread to say that it hangs", GUARD_SECONDS)
    assert listener.listen() == []
    release.touch()
    listener.until("WATCHDOG=1")
    listener.close()


def test_a_watchdog_of_another_process_is_not_ours(tmp_path: Path) -> None:
    """WATCHDOG_PID of a wrapper that began the server: it listens to that."""
    environment = watched(str(tmp_path / "notify"), WATCHDOG_PID="1")
    assert Notifier(lambda: "", environment)._watchdog is None
    assert environment == {}


async def test_without_systemd_nothing_happens() -> None:
    """No NOTIFY_SOCKET, no socket and no timer; and a socket that nobody listens on any more harms nobody."""
    alone = Notifier(lambda: "", {})
    alone.ready()
    alone.stopping()
    assert (alone._socket, alone._timer) == (None, None)
    forsaken = Notifier(lambda: "", {"NOTIFY_SOCKET": "/nonexistent/notify"})
    forsaken.ready()
    forsaken.stopping()
    forsaken.close()


# The unit


@pytest.fixture(params=[False, True], ids=["alone", "with embedded hypervisors"])
def unit(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The unit, with the program where this environment has it, and perhaps what is added to it for hypervisors without a daemon."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd is not installed here")
    path = tmp_path / UNIT.name
    program = Path(sys.executable).with_name("virtrpcd")
    path.write_text(UNIT.read_text().replace("ExecStart=virtrpcd ", f"ExecStart={program} "))
    if request.param:
        more = tmp_path / f"{UNIT.name}.d"
        more.mkdir()
        shutil.copy(UNIT.with_name("virtrpcd-embed.conf"), more)
    return path


def analyze(unit: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """What systemd-analyze says of it."""
    environment = {**os.environ, "SYSTEMD_UNIT_PATH": f"{unit.parent}:"}
    return subprocess.run(["systemd-analyze", *words, unit.name], capture_output=True, text=True, env=environment)


def test_systemd_takes_the_unit(unit: Path) -> None:
    """systemd-analyze finds nothing to say of it."""
    found = analyze(unit, "verify", "--man=no")
    assert (found.returncode, found.stderr) == (0, "")


@pytest.mark.parametrize("unit", [False], indirect=True)
def test_the_unit_is_hardened(unit: Path) -> None:
    """systemd rates it among its best (2.8 of 10; what it opens less of is better); a setting that is dropped is a failure."""
    found = analyze(unit, "security", "--offline=true", "--no-pager", f"--threshold={EXPOSURE}")
    assert found.returncode == 0, found.stdout[-2000:]
