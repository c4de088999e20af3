"""What a job's call is told while it is out: sent past every queue, to this one call and no other."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from opentelemetry.trace import SpanKind

from virtrpc_drivers.errors import DriverError, Reason
from virtrpc_drivers.migration import TuneAnswer
from virtrpc_drivers.values import CancelAnswer, Phase
from virtrpc_server import tracing
from virtrpc_server.errors import Refusal, problem_of, refuse
from virtrpc_server.jobs import Jobs
from virtrpc_server.records import Job, JobState
from virtrpc_server.running import Run

ANSWER_SECONDS = 15.0
"""The driver itself gives up after two waits of 5 s at most; this is for one whose process does not answer at all."""


def under_way(jobs: Jobs, job: Job, phases: Collection[Phase], otherwise: str) -> Run:
    """The run of a job whose call is out, in one of these phases. Raises Refusal (NOT_READY, `otherwise` says what is lacking)."""
    run = jobs.run_of(job.id)
    if run is None or job.state is not JobState.RUNNING or job.phase not in phases:
        raise not_ready(job, otherwise)
    return run


async def answered(jobs: Jobs, job: Job, sending: asyncio.Task[CancelAnswer] | asyncio.Task[TuneAnswer], span: str) -> Job:
    """The job once its driver has answered. Who leaves, or loses patience, leaves what was sent on its way.

    Raises Refusal (NOT_READY, MONITOR_UNRESPONSIVE and what the hypervisor refuses).
    """
    sending.add_done_callback(lambda done: done.cancelled() or done.exception())
    with tracing.start_span(span, {"virtrpc.job.id": job.id, "virtrpc.host": job.host}, SpanKind.CLIENT):
        await asyncio.wait([sending], timeout=ANSWER_SECONDS)
    if not sending.done():
        raise refuse("MONITOR_UNRESPONSIVE", f"nobody answered for domain {job.name} in {ANSWER_SECONDS:g} s", domain=job.uuid)
    try:
        answer = sending.result()
    except DriverError as error:
        if error.reason is Reason.FOREIGN_JOB:
            raise refuse("MONITOR_UNRESPONSIVE", f"the hypervisor does not answer for domain {job.name}", domain=job.uuid) from None
        raise Refusal(problem_of(error.fault, host=job.host, domain=job.uuid)) from None
    if not answer.sent:
        raise not_ready(jobs.known(job.id), answer.message)
    return jobs.known(job.id)


def not_ready(job: Job, why: str) -> Refusal:
    """The refusal of what a job cannot be told now. One that is over says so, and how it ended."""
    phase = job.phase.value if job.phase is not None else ""
    why = f"it is over: {job.state.name}" if job.finished else why
    return refuse("NOT_READY", f"job {job.id} cannot be told that now: {why}", job_id=job.id, state=job.state.value, phase=phase)
