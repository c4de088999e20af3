"""The real `virtrpcd` on a state directory that outlives it: it is killed, started again on the same one, and what it left there is looked at."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from shutil import copy
from tempfile import TemporaryDirectory

from tests.beds.processes import children, command_line, kill
from tests.beds.sim_daemon import SimDaemon
from tests.beds.wait import wait_until
from tests.e2e.server import HostTable, Server, Setting

KILLS = "VIRTRPC_KILLS"
"""How many times a test kills; each has a number of its own for `make test-restart`."""
SEED = "VIRTRPC_RESTART_SEED"
JOURNAL = "journal.sqlite"


def kills(whole: int) -> int:
    """How many kills a test makes: as many as the environment says, else `whole`."""
    return int(os.environ.get(KILLS, whole))


def seed() -> int:
    """What a test's chances begin with: what the environment says, else another number each time. Tests print it where they fail."""
    return int(os.environ.get(SEED) or int.from_bytes(os.urandom(4)))


FORGETFUL = "bdfh"
"""Hosts that do not remember calls which ended while nobody was there, as libvirt does not: those need proof. All others tell the truth."""


def sim_hosts(daemon: SimDaemon, names: str, domains: int) -> dict[str, str]:
    """Hosts of a daemon where most things are over before a killed server is back, and migrations and copies of disks are not."""
    lasting = {"save_seconds": 0.4, "restore_seconds": 0.2, "migrate_seconds": 2.5, "block_seconds": 2, "latency": 0.01, "progress_seconds": 0.1}
    return {
        name: daemon.uri(name, domains=domains, running=domains // 2, seed=number, remembers=int(name not in FORGETFUL), **lasting)
        for number, name in enumerate(names)
    }


class StubbornServer(Server):
    """A server that is killed and started again as often as one likes, on the same socket, configuration and state directory.

    `state` is that directory; without one it lies beside the log and goes with it.
    """

    def __init__(self, hosts: Mapping[str, str | HostTable], *options: str, state: Path | None = None, **settings: Setting | list[str]) -> None:
        super().__init__(hosts, *options, **settings, **({} if state is None else {"state_dir": str(state)}))
        self.state = state or self.path / "state"
        self.kills: list[float] = []
        """When it, or a process below it, was ended, in seconds since the epoch."""

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, and note when."""
        self.kills.append(time.time())
        super().send(number)

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """End it without asking, and note when."""
        self.kills.append(time.time())
        super().kill(number)

    def crash(self) -> None:
        """kill -9, and start it again; returns once it listens. Its driver processes end by themselves, their sockets being closed."""
        self.kill()
        self.start()

    def kill_driver(self, chances: random.Random) -> None:
        """kill -9 of any of its driver processes, once one runs; the server starts another one."""

        found: list[int] = []

        def running() -> list[int]:
            found[:] = [child for child in children(self.pid) if "virtrpc_drivers.process" in command_line(child)]
            return found

        wait_until(running, "a driver process to run")
        self.kills.append(time.time())
        kill(chances.choice(found))

    def check_journal(self) -> None:
        """The journal as the last server left it is whole (PRAGMA integrity_check). To be called while none runs."""
        # A copy: to open it would mend it.
        with TemporaryDirectory() as copies:
            for file in self.state.glob(f"{JOURNAL}*"):
                copy(file, copies)
            if (Path(copies) / JOURNAL).exists():
                with closing(sqlite3.connect(Path(copies) / JOURNAL)) as journal:
                    found = [row[0] for row in journal.execute("PRAGMA integrity_check")]
                assert found == ["ok"], found
