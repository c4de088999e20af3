"""Where jobs are kept. Told means stored: a job's state is written here, and awaited, before anybody is told of it."""

from __future__ import annotations

from typing import Protocol

from virtrpc_server.records import Job


class Store(Protocol):
    """What jobs are written to. Every method is awaited; what it has taken survives what `outlives` says, in the order in which it was given."""

    @property
    def outlives(self) -> bool:
        """Whether another server that begins with this store finds the jobs of this one."""

    @property
    def unwritten(self) -> int:
        """Jobs whose newest form it has yet to write."""

    @property
    def failing(self) -> bool:
        """Whether it could not write when it last tried."""

    async def claim(self) -> None:
        """Take it for this server alone, where that can be done now. Raises InUse where another server has it."""

    async def load(self) -> list[Job]:
        """Open it: all jobs that were written and not yet forgotten, in order of acceptance. Raises Refusal (JOURNAL_UNAVAILABLE), and may be tried
        again; InUse where another server has it."""

    async def add(self, job: Job) -> None:
        """Write a job for the first time. Raises Refusal (JOURNAL_UNAVAILABLE): then there is no such job, now or later."""

    async def put(self, job: Job) -> None:
        """Write the newest form of a job that was added. Raises as `add`, and may be tried again."""

    async def forget(self, job_ids: list[str]) -> None:
        """Drop finished jobs from the history."""

    async def close(self) -> None:
        """Finish what is being written."""


class InUse(Exception):  # noqa: N818 # what it is, as a sentence says it
    """Another server has the store."""


class MemoryStore:
    """Keeps jobs for one life of the server."""

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}

    @property
    def outlives(self) -> bool:
        """It is gone with its process."""
        return False

    @property
    def unwritten(self) -> int:
        """It writes at once."""
        return 0

    @property
    def failing(self) -> bool:
        """It cannot fail."""
        return False

    async def claim(self) -> None:
        """It is nobody else's."""

    async def load(self) -> list[Job]:
        """All jobs, oldest first."""
        return list(self._jobs.values())

    async def add(self, job: Job) -> None:
        """Write a job."""
        await self.put(job)

    async def put(self, job: Job) -> None:
        """Write the newest form of a job."""
        self._jobs[job.id] = job

    async def forget(self, job_ids: list[str]) -> None:
        """Drop finished jobs."""
        for job_id in job_ids:
            self._jobs.pop(job_id, None)

    async def close(self) -> None:
        """Nothing to finish."""
