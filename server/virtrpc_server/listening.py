"""The callers of a job: who hears of it, and what their leaving means."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

from virtrpc_server.records import Job, OnDisconnect

if TYPE_CHECKING:
    from virtrpc_server.jobs import Jobs


class Followed(Protocol):
    """A job as those see it who follow it, whether it is under way or over."""

    listeners: set[Listener]

    @property
    def job(self) -> Job:
        """The job as it is now, whether or not it has been told."""

    @property
    def told(self) -> Job | None:
        """The job as it was last told, however long ago that was."""

    @property
    def stored(self) -> asyncio.Future[None] | None:
        """Done once the store has taken the job; raises what the store raised, and then there is no job. None: long ago."""

    def detach(self) -> bool:
        """A caller wants it to go on whoever leaves, from this moment on; False where that is nothing new."""

    async def tell(self) -> None:
        """Returns once what was decided is stored."""


class Past:
    """A job that is over."""

    def __init__(self, job: Job) -> None:
        self.listeners: set[Listener] = set()
        self.job = self.told = job
        self.stored = None

    def detach(self) -> bool:
        """It goes nowhere any more."""
        return False

    async def tell(self) -> None:
        """It was told."""


class Listener:
    """A caller of a job. Leaving the `with` block before the job's end is a disconnect."""

    def __init__(self, jobs: Jobs, followed: Followed, on_disconnect: OnDisconnect) -> None:
        self._jobs = jobs
        self._followed = followed
        self.on_disconnect = on_disconnect
        followed.listeners.add(self)
        self._wished = on_disconnect is OnDisconnect.DETACH and followed.detach()

    @property
    def job(self) -> Job:
        """The job as it is now."""
        return self._followed.job

    async def stored(self) -> Job:
        """Wait until the job is in the store; raises what the store raised, and then there is no job."""
        if self._followed.stored is not None:
            await asyncio.shield(self._followed.stored)
        if self._wished:
            await self._followed.tell()
        return self._followed.job

    def updates(self, silence: float | None = None) -> AsyncIterator[Job]:
        """The job as `Jobs.follow` tells it."""
        return self._jobs.follow(self._followed, silence)

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._jobs.left(self._followed, self)
