"""One round: an operation is begun, something is killed at a chosen moment of it, and all that was promised about its job is looked at."""

from __future__ import annotations

import asyncio
import random
import re
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum

from tests.beds.wait import wait_until
from tests.e2e.server import GUARD, eventually
from tests.restart.qemu_bed import Bed
from tests.restart.qemu_work import Work, cancelling
from virtrpc import AsyncClient, AsyncJobHandle, HostUnreachable, ServerUnavailable, is_final, job_options
from virtrpc.v1 import job_pb2 as j
from virtrpc.v1 import types_pb2 as t


class Moment(StrEnum):
    """When it is killed."""

    BEFORE = "before"
    """About when the verb is sent: before, while or just after the hypervisor hears of it."""
    MIDDLE = "middle"
    """While it is under way, with enough left that it must be adopted."""
    CANCELLED = "middle, then cancelled"
    CANCELLING = "middle, just cancelled"
    NEAR_END = "near the end"
    """With so little left that it may end while nobody listens."""
    AFTER = "just after"
    """Once it is done, whether or not the server has heard so."""


MOMENTS = (*[Moment.BEFORE] * 2, *[Moment.MIDDLE] * 2, Moment.CANCELLED, Moment.CANCELLING, *[Moment.NEAR_END] * 2, *[Moment.AFTER] * 2)
"""Of ten kills."""
ENDED = {
    t.JOB_STATE_SUCCEEDED: "succeeded",
    t.JOB_STATE_FAILED: "failed",
    t.JOB_STATE_CANCELLED: "cancelled",
    t.JOB_STATE_INTERRUPTED: "interrupted",
    t.JOB_STATE_OUTCOME_UNKNOWN: "unknown",
    t.JOB_STATE_PREEMPTED: "preempted",
}


@dataclass
class Watcher:
    """What a watcher that re-attaches with its token was told of the jobs: each form of each."""

    jobs: dict[str, list[t.Job]] = field(default_factory=dict)
    broken: int = 0

    def take(self, batch: j.WatchJobsResponse) -> None:
        """A batch has come."""
        for change in batch.changes:
            if change.WhichOneof("change") == "current":
                self.jobs.setdefault(change.current.job_id, []).append(change.current)

    def ends(self, job_id: str) -> set[t.JobState.ValueType]:
        """The final states that were told of a job."""
        return {job.state for job in self.jobs.get(job_id, []) if is_final(job)}

    def note_broken(self, _error: object) -> None:
        """Its stream broke."""
        self.broken += 1


@asynccontextmanager
async def watching(client: AsyncClient) -> AsyncIterator[Watcher]:
    """A watcher of all jobs, caught up with what is there."""
    watcher, watch, caught_up = Watcher(), client.watch_jobs(), asyncio.Event()
    watch.on_broken = watcher.note_broken

    async def listen() -> None:
        async for batch in watch:
            watcher.take(batch)
            if batch.caught_up:
                caught_up.set()

    listening = asyncio.create_task(listen())
    try:
        await asyncio.wait_for(caught_up.wait(), GUARD)
        yield watcher
    finally:
        watch.close()
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)


class Round:
    """One kill. `kill` blocks until what was killed has ended, and where need be was started again."""

    def __init__(self, bed: Bed, work: Work, who: str, moment: Moment, kill: Callable[[], None], chance: random.Random) -> None:
        self._bed, self._work, self._who, self._moment, self._kill, self._chance = bed, work, who, moment, kill, chance

    async def play(self) -> t.Job:
        """The job as it ended, all having been looked at."""
        options = job_options(on_disconnect="detach", request_id=str(uuid.uuid4()))
        async with self._bed.server.client() as client, watching(client) as watcher:
            known = set(watcher.jobs)
            job = await self._killed(client, options)
            self._bed.ends[self._who, self._work.name, self._moment, _end_of(job)] += 1
            self._bed.ended[job.job_id] = job.state
            self._judge(job)
            await self._is_told(client, watcher, job, known)
            self._work.let_go()
            await asyncio.to_thread(self._bed.server.wait_live)
            await self._work.reset(client)
        await asyncio.to_thread(self._bed.rest)
        return job

    async def _killed(self, client: AsyncClient, options: t.JobOptions) -> t.Job:
        if self._moment is Moment.BEFORE:
            killing = asyncio.create_task(self._kill_after(self._chance.uniform(0, 0.02)))
            try:
                handle = await self._begun(client, options)
            finally:
                await killing
            return await ended(handle)
        share = self._chance.uniform(0.1, 0.6) if self._moment in (Moment.MIDDLE, Moment.CANCELLED, Moment.CANCELLING) else 0.8
        holding = asyncio.create_task(asyncio.to_thread(self._work.hold, share))
        handle = await self._begun(client, options)
        await asyncio.wait_for(holding, GUARD)
        if self._moment in (Moment.NEAR_END, Moment.AFTER):
            return await self._killed_late(handle)
        if self._moment is Moment.CANCELLING:
            return await self._killed_while_cancelled(handle)
        return await self._killed_midway(client, handle)

    async def _begun(self, client: AsyncClient, options: t.JobOptions) -> AsyncJobHandle:
        """Send the verb until it is accepted, each time with the same request_id."""
        async with asyncio.timeout(GUARD):
            while True:
                try:
                    return await self._work.begin(client, options)
                except (ServerUnavailable, HostUnreachable):
                    await asyncio.sleep(0.05)

    async def _kill_after(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await asyncio.to_thread(self._kill)

    async def _killed_late(self, handle: AsyncJobHandle) -> t.Job:
        await asyncio.to_thread(self._work.let_go)
        if self._moment is Moment.AFTER:
            await asyncio.to_thread(wait_until, self._work.done, f"the {self._work.name} to be done")
        else:
            await asyncio.sleep(self._chance.uniform(0, 0.2))
        await asyncio.to_thread(self._kill)
        return await ended(handle)

    async def _killed_midway(self, client: AsyncClient, handle: AsyncJobHandle) -> t.Job:
        seen = (await client.get_job(job_id=handle.job_id)).progress.observed_time.ToNanoseconds()
        await asyncio.to_thread(self._kill)
        if self._work.abortable:
            await self._adopted(client, handle, seen)
        if self._moment is Moment.CANCELLED:
            assert (await handle.cancel()).outcome == j.CANCEL_OUTCOME_ABORTING
            if self._work.writes_memory:
                await eventually(lambda: cancelling(self._work.guest), "the abort to reach QEMU")
        if self._moment is Moment.MIDDLE or self._work.writes_memory:
            await asyncio.to_thread(self._work.let_go)
        return await ended(handle)

    async def _killed_while_cancelled(self, handle: AsyncJobHandle) -> t.Job:
        assert (await handle.cancel()).outcome == j.CANCEL_OUTCOME_ABORTING
        await asyncio.sleep(self._chance.uniform(0, 0.1))
        killing = asyncio.create_task(asyncio.to_thread(self._kill))
        # What is held ends as soon as it may, most likely while nobody looks.
        if self._work.writes_memory:
            await eventually(lambda: cancelling(self._work.guest), "the abort to reach QEMU")
            await asyncio.to_thread(self._work.let_go)
        await killing
        return await ended(handle)

    async def _adopted(self, client: AsyncClient, handle: AsyncJobHandle, seen: int) -> None:
        """Return once the job goes on: the same one, with news of its progress, and abortable."""

        async def goes_on() -> bool:
            try:
                job = await client.get_job(job_id=handle.job_id)
            except ServerUnavailable:
                return False
            assert job.state == t.JOB_STATE_RUNNING, job
            return job.abortable and job.progress.observed_time.ToNanoseconds() > seen

        await eventually(goes_on, f"the {self._work.name} to be adopted")

    def _judge(self, job: t.Job) -> None:
        """What the job says, and what is so."""
        if job.state == t.JOB_STATE_SUCCEEDED:
            assert self._work.done(), job
        else:
            assert self._work.undone(), job
            said = f"{job.evidence} {job.error.message}"
            left = self._work.left()
            assert all(str(path) in said for path in left), (left, job)
            # Of what was under way, what nobody but us could have removed is there.
            assert left or not self._work.leaves_files or self._moment is Moment.BEFORE, job
        match self._moment:
            case Moment.BEFORE:
                assert job.state in (t.JOB_STATE_SUCCEEDED, t.JOB_STATE_INTERRUPTED, t.JOB_STATE_FAILED), job
            case Moment.CANCELLED | Moment.CANCELLING:
                assert job.state == t.JOB_STATE_CANCELLED, job
            case _:
                assert job.state == t.JOB_STATE_SUCCEEDED, job

    async def _is_told(self, client: AsyncClient, watcher: Watcher, job: t.Job, known: set[str]) -> None:
        """The watcher has heard of this end, of no other, and of no other job; GetJob and ListJobs say the same."""
        await eventually(lambda: watcher.ends(job.job_id), "the watcher to hear of the end")
        assert watcher.ends(job.job_id) == {job.state}
        assert watcher.broken >= (self._who == "server")
        assert set(watcher.jobs) - known == {job.job_id}
        assert (await client.get_job(job_id=job.job_id)).state == job.state
        assert [found.job_id async for found in client.list_jobs()].count(job.job_id) == 1


async def ended(handle: AsyncJobHandle) -> t.Job:
    """The job's final form, as a handle sees it that re-attaches."""
    async with asyncio.timeout(GUARD):
        async for job in handle:
            if is_final(job):
                return job
    raise AssertionError(f"job {handle.job_id} was followed to no end")


def _end_of(job: t.Job) -> str:
    """In words, the same for all jobs that end the same way: numbers and directories are left out."""
    said = re.sub(r"\d+", "N", re.sub(r"/\S*/", "", job.evidence or job.error.message))
    return f"{ENDED[job.state]}: {said}".strip(": ")
