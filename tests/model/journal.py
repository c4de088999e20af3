"""A store that takes its time or fails where it is told to, and remembers what it was given."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from virtrpc_server.records import Job
from virtrpc_server.store import MemoryStore


class Journal(MemoryStore):
    """`seconds` is how long each writing takes from now on, `failures` how many of the next ones fail.

    `order` gives the next place in the order of all that happens. `judge` is asked about a job's end when that is first handed over,
    before anybody is told of it.
    """

    def __init__(self, order: Callable[[], int]) -> None:
        super().__init__()
        self._order = order
        self.judge: Callable[[Job], None] | None = None
        self._judged: set[str] = set()
        self.seconds = 0.0
        self.failures = 0
        self.offered: dict[str, Job] = {}
        """The first form of each job that it was given, taken or not, in order of acceptance."""
        self.given: dict[tuple[str, int], tuple[int, float]] = {}
        """When it was given each form, by job and revision: a place in the order, and loop time in seconds."""
        self.refused: dict[str, float] = {}
        """Loop time in seconds at which it would not take a job at all."""
        self.held: dict[str, Job] = {}
        """The newest form of each job that it took, in order of acceptance."""
        self.forms: dict[str, list[Job]] = {}
        """Every form of each job that it took, oldest first."""
        self.taken: dict[str, float] = {}
        """Loop time in seconds at which it took that."""
        self._busy: dict[str, int] = {}
        self._failed: set[str] = set()

    async def put(self, job: Job) -> None:
        """Write, in time."""
        if self.judge is not None and job.finished and job.id not in self._judged:
            self._judged.add(job.id)
            self.judge(job)
        self.offered.setdefault(job.id, job)
        self.given.setdefault((job.id, job.revision), (self._order(), asyncio.get_running_loop().time()))
        self._busy[job.id] = self._busy.get(job.id, 0) + 1
        try:
            await self._suffer(job)
        finally:
            self._busy[job.id] -= 1
        self._failed.discard(job.id)
        await super().put(job)
        self.held[job.id] = job
        self.taken[job.id] = asyncio.get_running_loop().time()
        self.forms.setdefault(job.id, []).append(job)

    async def _suffer(self, job: Job) -> None:
        if self.seconds:
            await asyncio.sleep(self.seconds)
        if self.failures:
            self.failures -= 1
            self._failed.add(job.id)
            if job.id not in self.held:
                self.refused[job.id] = asyncio.get_running_loop().time()
            raise OSError("no space left")

    @property
    def unborn(self) -> bool:
        """Whether a job that was never taken is being written."""
        return any(count and job_id not in self.held for job_id, count in self._busy.items())

    @property
    def idle(self) -> bool:
        """Whether it has taken everything that it was given."""
        return not self._failed and not any(self._busy.values())

    def behind(self, job_id: str) -> bool:
        """Whether the job's present form may not have been taken yet."""
        return self._busy.get(job_id, 0) > 0 or job_id in self._failed

    def as_told(self, job_id: str, revision: int) -> Job | None:
        """The newest form that it took of those up to a revision."""
        return next((job for job in reversed(self.forms.get(job_id, [])) if job.revision <= revision), None)
