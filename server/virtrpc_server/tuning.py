"""TuneMigration: what is to change, and sending it past every queue to the one migration that is meant."""

from __future__ import annotations

import asyncio

from virtrpc.v1 import job_pb2
from virtrpc_drivers.migration import Tuning
from virtrpc_drivers.operations import Migrate
from virtrpc_drivers.values import Phase
from virtrpc_server.jobs import Jobs
from virtrpc_server.orders.common import invalid
from virtrpc_server.orders.limits import bandwidth, downtime, positive
from virtrpc_server.records import Job
from virtrpc_server.sending import answered, under_way


def tuning_of(request: job_pb2.TuneMigrationRequest) -> Tuning:
    """What a request asks for. Raises INVALID_ARGUMENT."""
    tuning = Tuning(
        max_downtime_seconds=downtime("max_downtime", request.max_downtime) if request.HasField("max_downtime") else None,
        bandwidth_bytes_per_second=bandwidth("bandwidth_bytes_per_second", request.bandwidth_bytes_per_second),
        compression_cache_bytes=positive("compression_cache_bytes", request.compression_cache_bytes),
        post_copy_bandwidth_bytes_per_second=bandwidth("post_copy_bandwidth_bytes_per_second", request.post_copy_bandwidth_bytes_per_second),
        start_post_copy=request.start_post_copy,
    )
    if tuning == Tuning():
        raise invalid("max_downtime", "nothing is to be changed: set one of the fields")
    return tuning


async def tune(jobs: Jobs, job_id: str, tuning: Tuning) -> Job:
    """Change a migration that runs; the job afterwards. Raises Refusal (JOB_NOT_FOUND, NOT_READY and what the hypervisor refuses)."""
    job = jobs.known(job_id)
    jobs.hosts[job.host].require("TuneMigration")
    operation = job.operation
    if not isinstance(operation, Migrate):
        raise invalid("job_id", f"job {job_id} is no migration: it does {job.verb}")
    if tuning.start_post_copy and not operation.post_copy:
        raise invalid("start_post_copy", "this migration was begun without settings.post_copy")
    run = under_way(jobs, job, (Phase.MIGRATION_COPY, Phase.MIGRATION_POST_COPY), "it is not copying memory now")
    sending = asyncio.get_running_loop().create_task(run.host.driver.tune(run.call_id, tuning))
    return await answered(jobs, job, sending, "tune")
