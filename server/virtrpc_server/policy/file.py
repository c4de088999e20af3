"""The file of rules while the server runs: taken anew when it changes, and kept as it was where what it became cannot be used."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from pathlib import Path

from virtrpc_server.policy.decisions import Decisions
from virtrpc_server.policy.engine import Policy
from virtrpc_server.policy.rules import files_of
from virtrpc_server.stamps import Stamp, stamp_of

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0


class PolicyFile:
    """Looks after one file, or one directory. `changed` is called after new rules were taken, and after they could not be."""

    def __init__(self, path: Path, decisions: Decisions, changed: Callable[[], None]) -> None:
        self._path = path
        self._decisions = decisions
        self._changed = changed
        self._task: asyncio.Task[None] | None = None
        self._stamp = self._taken = stamps_of(path)

    def start(self) -> None:
        """Begin to look."""
        self._task = asyncio.get_running_loop().create_task(self._look())

    async def stop(self) -> None:
        """Look no more."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            stamp = await asyncio.to_thread(stamps_of, self._path)
            # Taken once it has stayed so for a while: half of a file, which somebody writes, may lack what forbids.
            if stamp != self._taken and stamp == self._stamp:
                self._taken = stamp
                await self._take()
            self._stamp = stamp

    async def _take(self) -> None:
        try:
            policy = await asyncio.to_thread(Policy.load, self._path)
        except Exception as error:  # noqa: BLE001 # whatever the engine makes of a file, the next one is to be looked at
            self._decisions.fault = str(error)
            log.error("%s cannot be used, and the rules stay as they were: %s", self._path, error)  # the text says all
        else:
            self._decisions.replace(policy)
            log.info("%s has changed: %s rules are in force", self._path, len(policy.rules))
        self._changed()


def stamps_of(path: Path) -> tuple[tuple[str, Stamp], ...]:
    """Of the files as they are, by name; empty where there is none."""
    try:
        return tuple((file.name, stamp_of(file)) for file in files_of(path))
    except OSError:
        return ()
