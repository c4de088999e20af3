"""What becomes of the jobs that an earlier life of the server has left: history, a run that goes on, or an end.

A job is stored RUNNING before its call is sent, so one that is QUEUED has nothing at the hypervisor, and one that is RUNNING may have.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from virtrpc_server.records import Job, JobState, Problem, operation_kept
from virtrpc_server.telling import LIVES_APART

if TYPE_CHECKING:
    from virtrpc_server.jobs import Jobs


def take_up(jobs: Jobs, stored: list[Job]) -> None:
    """Go on with the jobs of an earlier life, in order of acceptance, before any new one is accepted."""
    for job in sorted(stored, key=lambda job: job.ended or 0.0):
        if _over(job):
            jobs.remember(job)
    runs = [jobs.go_on(job) for job in stored if not _over(job)]
    # What was at the hypervisor had its places; whoever was queued gets in line behind that.
    for run in sorted(runs, key=lambda run: run.job.state is JobState.QUEUED):
        run.begin_again()


def without_host(job: Job, now: float) -> Job | None:
    """How a job ends whose host is not configured any more; None where it is over."""
    if _over(job):
        return None
    if job.finished:
        return replace(job, haunts=False)
    words = f"host {job.host} is not configured any more"
    if job.state is JobState.QUEUED:
        state, problem = JobState.INTERRUPTED, Problem("INTERRUPTED", f"{words}; nothing was sent")
    else:
        state, problem = JobState.OUTCOME_UNKNOWN, Problem("OUTCOME_UNKNOWN", f"{words}, and the job's call was out when the server ended")
    return replace(
        job, state=state, problem=problem, evidence=problem.message, may_still_apply=state is JobState.OUTCOME_UNKNOWN, ended=now, updated=now,
        phase=None, waiting_for=None, holders=(), queue_position=None, abortable=False, abort_reason="",
        operation=operation_kept(job.operation), revision=job.revision + LIVES_APART,
    )  # fmt: skip


def _over(job: Job) -> bool:
    return job.finished and not job.haunts
