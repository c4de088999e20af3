"""What becomes of the jobs that an earlier life of the server has left: history, a run that goes on, or an end.

A job is stored RUNNING before its call is sent, so one that is QUEUED has nothing at the hypervisor, and one that is RUNNING may have.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from msgspec.structs import replace

from virtrpc_drivers.values import Phase, Slot
from virtrpc_server.calls import OutstandingCall
from virtrpc_server.endings import Ending, Over, cut_off, failed, interrupted
from virtrpc_server.records import Holder, Job, JobState, Problem, operation_kept
from virtrpc_server.running import Run
from virtrpc_server.slots import first_of
from virtrpc_server.telling import LIVES_APART, Telling

if TYPE_CHECKING:
    from virtrpc_server.jobs import Jobs


_MAY_HAVE_DESTROYED = (JobState.SUCCEEDED, JobState.OUTCOME_UNKNOWN, JobState.INTERRUPTED)


def take_up(jobs: Jobs, stored: list[Job]) -> None:
    """Go on with the jobs of an earlier life, in order of acceptance, before any new one is accepted."""
    for job in sorted(stored, key=lambda job: job.ended or 0.0):
        if _over(job):
            jobs.remember(job)
    runs = [jobs.go_on(job) for job in stored if not _over(job)]
    _preempt(runs, stored)
    # What was at the hypervisor had its places; whoever was queued gets in line behind that.
    for run in sorted(runs, key=lambda run: run.job.state is JobState.QUEUED):
        run.begin()


def _preempt(runs: list[Run], stored: list[Job]) -> None:
    """What a destroy found on its domain is over, also where that is stored of the destroy alone."""
    there: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        there.setdefault((run.job.host, run.job.uuid), []).append(run)
    for job in stored:
        if job.support.slot is Slot.DESTROY and job.attempts and job.state in _MAY_HAVE_DESTROYED:
            for run in there.get((job.host, job.uuid), ()):
                if run.job.id < job.id:
                    run.preempt(job.id)


def without_host(job: Job, now: float) -> Job | None:
    """How a job ends whose host is not configured any more; None where it is over."""
    if _over(job):
        return None
    if job.finished:
        return replace(job, haunts=False, operation=operation_kept(job.operation))
    words = f"host {job.host} is not configured any more"
    if job.state is JobState.QUEUED:
        state, problem = JobState.INTERRUPTED, Problem("INTERRUPTED", f"{words}; nothing was sent")
    else:
        state, problem = JobState.OUTCOME_UNKNOWN, Problem("OUTCOME_UNKNOWN", f"{words}, and the job's call was out when the server ended")
    return replace(
        job, state=state, problem=problem, evidence=problem.message, may_still_apply=state is JobState.OUTCOME_UNKNOWN, ended=now, updated=now,
        phase=None, waiting_for=None, holders=(), queue_position=None, abortable=False, abort_reason="", trouble=None,
        operation=operation_kept(job.operation), revision=job.revision + LIVES_APART,
    )  # fmt: skip


def _over(job: Job) -> bool:
    return job.finished and not job.haunts


def _as_sent(job: Job) -> Job:
    """A job that had heard the answer of its call, and not told its end, is where it was before that: the answer is lost."""
    if job.phase is not Phase.REFRESHING:
        return job
    return replace(job, phase=Phase.CALLING, abortable=job.support.abortable and job.operation.abortable, abort_reason="")


class Revived(Run):
    """A job of an earlier life that goes on. Its host is configured."""

    def __init__(self, jobs: Jobs, job: Job) -> None:
        # Generations do not outlast a life, and no time of a loop's clock does.
        convergence = job.convergence and replace(job.convergence, read=None)
        record = Telling.again(replace(_as_sent(job), generation=None, convergence=convergence, trouble=None), jobs.store, jobs.publish, jobs.clock)
        super().__init__(jobs, jobs.hosts[job.host], job, job.operation, record)
        self._deadline -= max(0.0, jobs.clock() - job.created)
        if job.cancel_reason is not None:
            self._stop.set()

    def begin(self) -> None:
        """Take the places that it had, at once where it was at the hypervisor, and live on in a task of its own."""
        if self.job.state is not JobState.QUEUED:
            self._places.hold()
            if self.job.phase is not None and self.job.phase.on_its_own:
                self._places.release_call()
        elif not self._stop.is_set():
            self._places.arrive()
        if self._support.slot is Slot.DESTROY and self.job.state is JobState.RUNNING:
            self._jobs.preempt(self)
        self.task = asyncio.get_running_loop().create_task(self._live(), name=f"job {self.job.id}")

    async def _live(self) -> None:
        with self._released_at_worst(), self._traced():
            if self.job.finished:
                self._out = self._left_behind()
                await self._haunt()
                return
            # Whether or not the store can be written now: to ask the hypervisor needs nothing of it.
            self._jobs.keep(self.tell())
            await self._end(await self._ending(self._wait_on() if self.job.state is JobState.QUEUED else self._resume()))

    async def _wait_on(self) -> Ending:
        """It was queued: wait until its host is known, then as any other."""
        if self._stop.is_set():
            return self._stopped()
        ending = cut_off(self.job, self._jobs.clock())
        if ending is not None:
            return ending
        if not self._host.listed:
            holder = Holder(text=f"host {self._host.name} has not been reached since the server was started")
            self._record.decide(waiting_for=None, holders=(holder,), queue_position=None)
            await self.tell()
            await first_of(self._time_left(), self._host.known, self._stop)
        if not self._host.listed and not self._stop.is_set():
            raise Over(failed("HOST_UNREACHABLE", f"host {self._host.name} was not reached in the job's wait_timeout", host=self._host.name))
        return await self._work()

    async def _resume(self) -> Ending:
        """Its call may still be out: ask the hypervisor what became of it."""
        self._out = self._left_behind()
        self._out.aborted = self.job.phase is Phase.ABORTING
        self._out.begun = self.job.phase is not None and self.job.phase.on_its_own
        passed = self._jobs.clock() - (self.job.called or self.job.created)
        limit = self.job.run_limit
        ending = await self._outcome_of(self._out, None if limit is None else max(0.0, limit - passed))
        assert ending is not None  # it was sent: what is in the way now may be this very call, which is Lost then
        if ending.state is JobState.SUCCEEDED and self.job.secret:
            # What is compared is without the secret: it holds whether or not that was set.
            return interrupted("nothing proves that the secret which it carried was set: secrets are not stored")
        return ending

    def _left_behind(self) -> OutstandingCall:
        return OutstandingCall(self._host, self._present_call(), lambda: self._enter(Phase.ABORTING), sent=True)
