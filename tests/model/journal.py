"""A store that takes its time or fails where it is told to, remembers what it was given, and outlives the server."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable

import msgspec

from virtrpc_server.errors import refuse
from virtrpc_server.records import Job
from virtrpc_server.store import Store
from virtrpc_server.telling import LIVES_APART


class Journal:
    """`seconds` is how long each writing takes from now on, `failures` how many of the next ones fail, `unreadable` how often it cannot be read.

    `order` gives the next place in the order of all that happens. `judge` is asked about a job's end when that is first handed over,
    before anybody is told of it.
    """

    def __init__(self, order: Callable[[], int]) -> None:
        self._order = order
        self.judge: Callable[[Job], None] | None = None
        self._judged: set[str] = set()
        self.seconds = 0.0
        self.failures = 0
        self.unreadable = 0
        self.was_read = asyncio.Event()
        """The present life has read it."""
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
        self.lives = 0
        """How many lives of the server have had it."""
        self.found: dict[str, Job] = {}
        """What the present life of the server found there, as it was then."""
        self._writings = itertools.count()
        self._under_way: dict[int, Job] = {}
        self._failed: set[str] = set()

    def open(self) -> Pen:
        """The store of the next life of the server."""
        self.lives += 1
        self.was_read.clear()
        return Pen(self)

    def end_life(self, taken: int) -> None:
        """The server is killed. Of the writings that are under way the first `taken` are taken all the same, of the others nothing."""
        for job in list(self._under_way.values())[:taken]:
            self._take(job)
        self._under_way, self._failed = {}, set()
        # The present life is over, and the next has not begun.
        self.lives += 1
        self._judged = {job_id for job_id in self._judged if job_id in self.held and self.held[job_id].finished}
        for job_id in self.offered.keys() - self.held.keys() - self.refused.keys():
            self.refused[job_id] = asyncio.get_running_loop().time()

    def load(self) -> list[Job]:
        """All that it took, as it comes back from a disk. Raises Refusal."""
        if self.unreadable:
            self.unreadable -= 1
            raise refuse("JOURNAL_UNAVAILABLE", "no reading today")
        self.was_read.set()
        self.found = {job_id: msgspec.json.decode(msgspec.json.encode(job), type=Job) for job_id, job in sorted(self.held.items())}
        return list(self.found.values())

    def of_this_life(self, form: Job) -> bool:
        """Whether the present life of the server has decided anything of what a form says."""
        found = self.found.get(form.id)
        return found is None or form.revision > found.revision + LIVES_APART

    async def put(self, job: Job) -> None:
        """Write, in time."""
        if self.judge is not None and job.finished and job.id not in self._judged:
            self._judged.add(job.id)
            self.judge(job)
        self.offered.setdefault(job.id, job)
        self.given.setdefault((job.id, job.revision), (self._order(), asyncio.get_running_loop().time()))
        writing, life = next(self._writings), self.lives
        self._under_way[writing] = job
        try:
            await self._suffer(job)
        finally:
            self._under_way.pop(writing, None)
        if life != self.lives:
            raise asyncio.CancelledError
        self._take(job)

    def _take(self, job: Job) -> None:
        self._failed.discard(job.id)
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
        return any(job.id not in self.held for job in self._under_way.values())

    @property
    def idle(self) -> bool:
        """Whether it has taken everything that it was given."""
        return not self._failed and not self._under_way

    def behind(self, job_id: str) -> bool:
        """Whether the job's present form may not have been taken yet."""
        return job_id in self._failed or any(job.id == job_id for job in self._under_way.values())

    def as_told(self, job_id: str, revision: int) -> Job | None:
        """The newest form that it took of those up to a revision."""
        return next((job for job in reversed(self.forms.get(job_id, [])) if job.revision <= revision), None)


class Pen(Store):
    """The journal in the hands of one life of the server. Where that is over nothing more happens."""

    def __init__(self, journal: Journal) -> None:
        self._journal, self._life = journal, journal.lives

    @property
    def outlives(self) -> bool:
        """For the next life."""
        return True

    async def claim(self) -> None:
        """It is nobody else's."""

    async def load(self) -> list[Job]:
        """See Store.load."""
        self._live()
        return self._journal.load()

    async def add(self, job: Job) -> None:
        """See Store.add."""
        await self.put(job)

    async def put(self, job: Job) -> None:
        """See Store.put."""
        self._live()
        await self._journal.put(job)

    @property
    def unwritten(self) -> int:
        """Nobody asks."""
        return 0

    @property
    def failing(self) -> bool:
        """Nobody asks."""
        return False

    async def forget(self, job_ids: list[str]) -> None:
        """See Store.forget. What the store refused is nowhere, and no world has as many jobs as are remembered."""

    async def close(self) -> None:
        """Nothing is left to write."""

    def _live(self) -> None:
        if self._life != self._journal.lives:
            raise asyncio.CancelledError
