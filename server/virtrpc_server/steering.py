"""FinishBlockJob and SetJobSpeed: sent past every queue to the one block job that is meant."""

from __future__ import annotations

import asyncio

from virtrpc_drivers.operations import AnyBlocks, Backup, CommitBlock, CopyBlock
from virtrpc_drivers.values import Phase, Steering
from virtrpc_server.jobs import Jobs
from virtrpc_server.orders.common import invalid
from virtrpc_server.records import Job
from virtrpc_server.sending import answered, under_way


async def steer(jobs: Jobs, job_id: str, steering: Steering) -> Job:
    """Tell a block job something; the job afterwards. Raises Refusal (JOB_NOT_FOUND, NOT_READY and what the hypervisor refuses)."""
    job = jobs.known(job_id)
    rpc = "SetJobSpeed" if steering.finish is None else "FinishBlockJob"
    jobs.hosts[job.host].require(rpc)
    if isinstance(job.operation, Backup):
        _check_backup(job, steering)
    else:
        _check_kind(job, steering)
    if steering.finish is None:
        run = under_way(jobs, job, (Phase.BACKGROUND, Phase.READY), "it does not run in the background now")
    else:
        run = under_way(jobs, job, (Phase.READY,), "its mirror is not ready")
    sending = asyncio.get_running_loop().create_task(run.host.driver.steer(run.call_id, steering))
    return await answered(jobs, job, sending, "steer")


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
