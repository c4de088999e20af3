"""FinishBlockJob and SetJobSpeed: sent past every queue to the one block job that is meant."""

from __future__ import annotations

import asyncio

from opentelemetry.trace import SpanKind

from virtrpc_drivers.errors import DriverError, Reason
from virtrpc_drivers.operations import AnyBlocks, Backup, CommitBlock, CopyBlock
from virtrpc_drivers.values import Phase, Steering
from virtrpc_server import tracing
from virtrpc_server.errors import Refusal, problem_of, refuse
from virtrpc_server.jobs import Jobs
from virtrpc_server.orders.common import invalid
from virtrpc_server.records import Job, JobState

ANSWER_SECONDS = 15.0
"""The driver itself gives up after 5 s; this is for one whose process does not answer at all."""
_UNDER_WAY = (Phase.BACKGROUND, Phase.READY)


async def steer(jobs: Jobs, job_id: str, steering: Steering) -> Job:
    """Tell a block job something; the job afterwards. Raises Refusal (JOB_NOT_FOUND, NOT_READY and what the hypervisor refuses)."""
    job = jobs.known(job_id)
    rpc = "SetJobSpeed" if steering.finish is None else "FinishBlockJob"
    jobs.hosts[job.host].require(rpc)
    if isinstance(job.operation, Backup):
        _check_backup(job, steering)
    else:
        _check_kind(job, steering)
    run = jobs.run_of(job_id)
    allowed = _UNDER_WAY if steering.finish is None else (Phase.READY,)
    if run is None or job.state is not JobState.RUNNING or job.phase not in allowed:
        raise not_ready(job, "it does not run in the background now" if steering.finish is None else "its mirror is not ready")
    # A caller that leaves, or loses patience, leaves it on its way.
    sending = asyncio.get_running_loop().create_task(run.host.driver.steer(run.call_id, steering))
    sending.add_done_callback(lambda done: done.cancelled() or done.exception())
    with tracing.start_span("steer", {"virtrpc.job.id": job_id, "virtrpc.host": job.host}, SpanKind.CLIENT):
        await asyncio.wait([sending], timeout=ANSWER_SECONDS)
    if not sending.done():
        raise _silent(job)
    try:
        answer = sending.result()
    except DriverError as error:
        if error.reason is Reason.FOREIGN_JOB:
            raise _silent(job) from None
        raise Refusal(problem_of(error.fault, host=job.host, domain=job.uuid)) from None
    if not answer.sent:
        raise not_ready(jobs.known(job_id), answer.message)
    return jobs.known(job_id)


def _check_kind(job: Job, steering: Steering) -> None:
    if not isinstance(job.operation, AnyBlocks):
        raise invalid("job_id", f"job {job.id} is no block job: it does {job.verb}")
    if steering.finish is None:
        return
    if not isinstance(job.operation, CopyBlock | CommitBlock):
        raise invalid("job_id", f"job {job.id} has no mirror to finish: it does {job.verb}")
    if steering.finish == "stop" and isinstance(job.operation, CommitBlock):
        raise invalid("finish", "a commit is finished by PIVOT; CancelJob breaks it off")


def _check_backup(job: Job, steering: Steering) -> None:
    if steering.finish is None:
        raise invalid("job_id", f"job {job.id} has no speed that could be set: it does {job.verb}")
    if job.backup is not None and not job.backup.pull:
        raise invalid("job_id", f"job {job.id} writes its backup by itself: there is nothing to finish")
    if steering.finish != "stop":
        raise invalid("finish", "a pull backup is finished by STOP")


def not_ready(job: Job, why: str) -> Refusal:
    """The refusal of what a job cannot be told now. One that is over says so, and how it ended."""
    phase = job.phase.value if job.phase is not None else ""
    why = f"it is over: {job.state.name}" if job.finished else why
    return refuse("NOT_READY", f"job {job.id} cannot be told that now: {why}", job_id=job.id, state=job.state.value, phase=phase)


def _silent(job: Job) -> Refusal:
    return refuse("MONITOR_UNRESPONSIVE", f"the hypervisor does not answer for domain {job.name}", domain=job.uuid)
