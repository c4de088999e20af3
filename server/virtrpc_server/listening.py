"""The callers of a job: who hears of it, and what their leaving means."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import TracebackType
from typing import TYPE_CHECKING

from virtrpc_server.records import Job, OnDisconnect

if TYPE_CHECKING:
    from virtrpc_server.jobs import Jobs
    from virtrpc_server.running import Run


class Listener:
    """A caller of a job. Leaving the `with` block before the job's end is a disconnect."""

    def __init__(self, jobs: Jobs, run: Run, on_disconnect: OnDisconnect) -> None:
        self._jobs = jobs
        self._run = run
        self.on_disconnect = on_disconnect
        run.listeners.add(self)
        run.detached |= on_disconnect is OnDisconnect.DETACH

    @property
    def job(self) -> Job:
        """The job as it is now."""
        return self._run.job

    async def stored(self) -> Job:
        """Wait until the job is in the store; raises what the store raised, and then there is no job."""
        await asyncio.shield(self._run.stored)
        return self._run.job

    def updates(self, silence: float | None = None) -> AsyncIterator[Job]:
        """The job as `Jobs.follow` tells it."""
        return self._jobs.follow(self._run, silence)

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._jobs.left(self._run, self)
