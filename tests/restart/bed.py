"""The real `virtrpcd` on a state directory that outlives it: it is killed, started again on the same one, and what it left there is looked at."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Mapping
from pathlib import Path

from tests.beds.processes import kill
from tests.e2e.server import HostTable, Server, Setting
from virtrpc_server.settings import Settings

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


class StubbornServer(Server):
    """A server that is killed and started again as often as one likes, on the same socket, configuration and state directory.

    `state` is that directory; without one it lies beside the log and goes with it.
    """

    def __init__(self, hosts: Mapping[str, str | HostTable], *options: str, state: Path | None = None, **settings: Setting | list[str]) -> None:
        super().__init__(hosts, *options, **settings)
        self.state = state or self.path / "state"
        if "state_dir" in Settings.model_fields:
            self.state.mkdir(exist_ok=True)
            self._options += ("--state-dir", str(self.state))

    def crash(self) -> None:
        """kill -9, and start it again; returns once it listens. Its driver processes end by themselves, their sockets being closed."""
        self.kill()
        self.start()

    def crash_driver(self, host: str) -> None:
        """kill -9 of a host's driver process; the server starts another one."""
        kill(self.driver_pid(host))

    def check_journal(self) -> None:
        """The journal as the last server left it is whole (PRAGMA integrity_check); it is only read."""
        if not (file := self.state / JOURNAL).exists():
            return
        with sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True) as journal:
            found = [row[0] for row in journal.execute("PRAGMA integrity_check")]
        journal.close()
        assert found == ["ok"], found
