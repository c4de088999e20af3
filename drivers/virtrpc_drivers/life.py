"""One driver process, from its start to its end: its socket, and why it ended."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys

from virtrpc_drivers.asking import Asking
from virtrpc_drivers.protocol import Deliver, DriverSettings

LAST_WORDS = 0.2
"""Seconds between the end of the process and the end of its socket, at most."""
ENDING = 5.0
"""Seconds after which a process that has no socket any more, and should have ended itself, is killed."""


class Life(Asking):
    """One driver process, from its start to its end."""

    def __init__(self, settings: DriverSettings, deliver: Deliver) -> None:
        super().__init__(deliver)
        self._settings = settings
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start the process and tell it what to serve. Raises OSError."""
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                self.process = await asyncio.create_subprocess_exec(
                    sys.executable, "-P", "-m", "virtrpc_drivers.process", str(theirs.fileno()),
                    pass_fds=(theirs.fileno(),), start_new_session=True, stdin=subprocess.DEVNULL, stdout=2,
                )  # fmt: skip
            await self.open(ours, self._settings)
        except BaseException:
            ours.close()
            raise

    async def lost(self) -> str:
        """Wait until the process cannot be talked to any more; says why. What it said before is handed over first."""
        assert self.process is not None
        ends = [asyncio.ensure_future(self.process.wait()), asyncio.ensure_future(self.eof.wait())]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            # One is followed by the other at once: the last words out of the socket, or the status for the message.
            await asyncio.wait(ends, timeout=LAST_WORDS)
        finally:
            for end in ends:
                end.cancel()
        self._channel.close()
        if self.refused is not None:
            return f"could not start its driver: {self.refused.message}"
        return "closed its socket" if self.process.returncode is None else _ending(self.process.returncode)

    async def reap(self) -> None:
        """Make sure that the process is gone."""
        assert self.process is not None
        try:
            # Its socket is closed, so it is ending by itself.
            await asyncio.wait_for(self.process.wait(), ENDING)
        except TimeoutError:
            self.kill(signal.SIGKILL)
            await self.process.wait()

    def kill(self, number: signal.Signals) -> None:
        """Send the process a signal, where it still runs."""
        if self.process is not None and self.process.returncode is None:
            try:
                self.process.send_signal(number)
            except ProcessLookupError:
                pass  # it ended by itself just now


def _ending(code: int) -> str:
    if code >= 0:
        return f"ended with status {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"
