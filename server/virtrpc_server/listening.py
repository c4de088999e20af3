"""The callers of a job: who hears of it, and what their leaving means."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Hashable
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

from virtrpc_server.news import News
from virtrpc_server.records import CancelReason, Job, JobState, OnDisconnect

if TYPE_CHECKING:
    from virtrpc_server.jobs import Jobs

FOLLOWER_SECONDS = 0.001
"""How long those who follow a job wait, for each of them, between two of its forms; its end comes at once."""
SHORTEST_PAUSE = 0.02


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

    def stop(self, reason: CancelReason) -> None:
        """Ask it to stop, from this moment on."""

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

    def stop(self, reason: CancelReason) -> None:
        """It has."""

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
        """The job as `follow` tells it."""
        return follow(self._followed, self._jobs.feed.news, silence)

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        followed = self._followed
        followed.listeners.discard(self)
        # A drain of the server is never a disconnect.
        if not self._jobs.draining and not followed.job.finished and self._was_needed:
            followed.stop(CancelReason.CALLER_LEFT)
            self._jobs.keep(followed.tell())

    @property
    def _was_needed(self) -> bool:
        """Whether the job is to stop now that this caller has left it to the others."""
        job, others = self._followed.job, self._followed.listeners
        match self.on_disconnect:
            case OnDisconnect.CANCEL:
                return all(other.on_disconnect is not OnDisconnect.CANCEL for other in others)
            case OnDisconnect.WITHDRAW:
                return job.state is JobState.QUEUED and not others and not job.detached
            case OnDisconnect.DETACH:
                return False


async def follow(followed: Followed, news: News, silence: float | None = None) -> AsyncIterator[Job]:
    """A stored job's present form, then each later one that the caller is quick enough to see; the final one is last.

    After `silence` seconds without a later one the present form comes again. However slow the caller is: the run keeps what it told
    last, also when the list of finished jobs has forgotten it.
    """
    seen, topics = 0, (followed.job.id, end_of(followed.job.id))
    while (job := followed.told) is not None:
        if job.revision > seen:
            seen = job.revision
            yield job
            await _pace(followed, news)
        elif job.finished:
            return
        elif not await news.wait_for(topics, silence):
            yield job


async def _pace(followed: Followed, news: News) -> None:
    # A thousand followers of a job that reports ten times a second are ten thousand messages a second, and leave no time for anything else.
    end = end_of(followed.job.id)
    pause = FOLLOWER_SECONDS * news.waiting(end)
    if pause >= SHORTEST_PAUSE and followed.told is not None and not followed.told.finished:
        await news.wait_for((end,), pause)


def end_of(job_id: str) -> Hashable:
    """What its end is announced by, besides its id."""
    return ("end", job_id)
