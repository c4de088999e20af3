"""Simulated hosts in a process of their own, which outlive the servers and driver processes of a test."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from shutil import rmtree
from types import TracebackType
from typing import Self
from urllib.parse import urlencode

import msgspec

from tests.beds.wait import wait_until
from virtrpc_drivers.protocol import DriverSettings, HostUp
from virtrpc_drivers.sim.control import ReadLedger
from virtrpc_drivers.sim.ledger import Deed
from virtrpc_drivers.sim.remote import RemoteSim


class SimDaemon:
    """The daemon, started on entering and ended on leaving. Hosts come into being with the first who names them."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="virtrpc-", dir="/tmp"))
        self.socket = self.path / "sim"
        self.log = self.path / "sim.log"
        self._process: subprocess.Popen[bytes] | None = None

    def uri(self, host: str, **options: str | float) -> str:
        """What a server is configured with."""
        return f"sim://{host}/?{urlencode({'daemon': str(self.socket), **options})}"

    @property
    def pid(self) -> int:
        """Its process."""
        assert self._process is not None
        return self._process.pid

    def start(self, *uris: str) -> None:
        """Start it, with these hosts, and return once it listens."""
        hosts = [word for uri in uris for word in ("--uri", uri)]
        with self.log.open("ab") as log:
            said = self.log.stat().st_size
            command = [sys.executable, "-m", "virtrpc_drivers.sim.daemon", "--socket", str(self.socket), *hosts]
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_until(lambda: b"simulated hosts on" in self.log.read_bytes()[said:], f"the simulated hosts to be there, see {self.log}")

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """End it, and its hosts with it."""
        os.kill(self.pid, number)
        assert self._process is not None
        self._process.wait(60)

    @asynccontextmanager
    async def connected(self, host: str) -> AsyncIterator[RemoteSim]:
        """A connection of a test's own to one of its hosts."""
        up = asyncio.Event()
        driver = RemoteSim(DriverSettings(uri=self.uri(host)), str(self.socket))
        await driver.start(lambda notice: up.set() if isinstance(notice, HostUp) else None)
        try:
            await asyncio.wait_for(up.wait(), 60)
            yield driver
        finally:
            await driver.close()

    async def ledger(self, host: str) -> list[Deed]:
        """Every call that a host was ever sent, in the order in which they began."""
        async with self.connected(host) as driver:
            return msgspec.convert(await driver.simulate(ReadLedger()), list[Deed])

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End it and remove what it left; fails where it has a fault of its own to tell of."""
        assert self._process is not None
        if self._process.poll() is None:
            self.kill(signal.SIGTERM)
        log = self.log.read_text(errors="replace")
        rmtree(self.path)
        assert "Traceback" not in log, log
