"""Reading what an earlier life of the server has left, at once or as soon as that can be done; until then it is not known which jobs there are."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from virtrpc_server.errors import NotYet, Refusal, internal
from virtrpc_server.records import Job, Problem
from virtrpc_server.recovery import take_up, without_host
from virtrpc_server.store import InUse
from virtrpc_server.telling import STORE_RETRY_SECONDS

if TYPE_CHECKING:
    from virtrpc_server.jobs import Jobs

log = logging.getLogger(__name__)

REOPEN_SECONDS = 5.0
READING_SECONDS = 10.0
"""How long a start waits for the journal before queries are answered without it."""


class Beginning:
    """The first thing that jobs do."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs
        self._unread: Problem | None = None
        """Why it is not known which jobs there are."""
        self.task: asyncio.Task[None] | None = None

    def check(self) -> None:
        """Raises Refusal (JOURNAL_UNAVAILABLE) where it is not known which jobs there are."""
        if self._unread is not None:
            raise Refusal(self._unread)

    async def begin(self) -> None:
        """Read it, for READING_SECONDS at most; what takes longer, or cannot be read now, is read later. Raises InUse."""
        self._unread = NotYet("JOURNAL_UNAVAILABLE", "the journal of jobs is still being read; try again soon")
        self.task = asyncio.get_running_loop().create_task(self._read())
        await asyncio.wait([self.task], timeout=READING_SECONDS)
        if self.task.done():
            self.task.result()
        self._jobs.keep(self._read_later(self.task))

    async def _read_later(self, reading: asyncio.Task[None]) -> None:
        await reading
        while self._unread is not None and self._unread.reason != "INTERNAL" and not self._jobs.draining:
            await asyncio.sleep(REOPEN_SECONDS)
            await self._read()

    async def _read(self) -> None:
        try:
            await self._take_up()
        except InUse:
            raise
        except Refusal as refusal:
            if self._unread != refusal.problem:
                log.error("%s; nothing that concerns jobs is answered before it can be read", refusal.problem.message)
            self._unread = refusal.problem
        except Exception as error:  # noqa: BLE001 # a fault of ours, logged by internal(): the server answers queries all the same
            self._unread = internal("the jobs of an earlier life cannot be taken up", error)

    async def _take_up(self) -> None:
        jobs = self._jobs
        stored = await jobs.store.load()
        if jobs.draining:
            return  # the next life begins them
        for place, job in enumerate(stored):
            if job.host not in jobs.hosts and (left := without_host(job, jobs.clock())) is not None:
                stored[place] = left
                jobs.keep(self._ended_without_host(left))
                jobs.ends.ended(left)
        take_up(jobs, stored)
        self._unread = None
        jobs.forget()

    async def _ended_without_host(self, job: Job) -> None:
        # Told before it is stored: whoever reads what is stored comes to the same end. A full disk must not keep the others from being taken up.
        while True:
            try:
                return await self._jobs.store.put(job)
            except Refusal as refusal:
                log.info("the end of job %s cannot be stored; trying again: %s", job.id, refusal)
                await asyncio.sleep(STORE_RETRY_SECONDS)
