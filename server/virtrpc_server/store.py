"""Where jobs are kept. Told means stored: a job's state is written here, and awaited, before anybody is told of it."""

from __future__ import annotations

from typing import Protocol

from virtrpc_server.records import Job


class Store(Protocol):
    """The journal of jobs. Every method is awaited; a failed `put` raises, and the job is not accepted."""

    async def put(self, job: Job) -> None:
        """Write the newest form of a job."""

    async def load(self) -> list[Job]:
        """All jobs that were written and not yet forgotten, oldest first."""

    async def forget(self, job_ids: list[str]) -> None:
        """Drop finished jobs from the history."""

    async def close(self) -> None:
        """Finish what is being written."""


class MemoryStore:
    """Keeps jobs for one life of the server."""

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}

    async def put(self, job: Job) -> None:
        """Write the newest form of a job."""
        self._jobs[job.id] = job

    async def load(self) -> list[Job]:
        """All jobs, oldest first."""
        return list(self._jobs.values())

    async def forget(self, job_ids: list[str]) -> None:
        """Drop finished jobs."""
        for job_id in job_ids:
            self._jobs.pop(job_id, None)

    async def close(self) -> None:
        """Nothing to finish."""
