"""Cases: what is asked of jobs."""

from __future__ import annotations

from tests.hypervisors.case import case
from tests.hypervisors.stage import Stage
from virtrpc.v1 import job_pb2 as j
from virtrpc.v1 import types_pb2 as t


async def _a_job(s: Stage) -> t.Job:
    return await s.done(s.client.destroy_domain(await s.running()))


@case("JobService/GetJob")
async def get_job(s: Stage) -> None:
    """A job that is over is told as it ended."""
    job = await _a_job(s)
    assert (await s.client.get_job(job_id=job.job_id)).state == t.JOB_STATE_SUCCEEDED


@case("JobService/ListJobs")
async def list_jobs(s: Stage) -> None:
    """A job is found by its host."""
    job = await _a_job(s)
    assert job.job_id in [found.job_id async for found in s.client.list_jobs(filter=j.JobFilter(hosts=[s.host]))]


@case("JobService/WatchJob")
async def watch_job(s: Stage) -> None:
    """Who attaches to a job is told its end."""
    job = await _a_job(s)
    assert [seen.state async for seen in s.client.watch_job(job.job_id)] == [t.JOB_STATE_SUCCEEDED]


@case("JobService/WatchJobs")
async def watch_jobs(s: Stage) -> None:
    """A watcher of a host's jobs is told of one."""
    job = await _a_job(s)
    async for batch in s.client.watch_jobs(filter=j.JobFilter(hosts=[s.host])):
        if any(change.current.job_id == job.job_id for change in batch.changes):
            return
    raise AssertionError("the watch ended")


@case("JobService/CancelJob")
async def cancel_job(s: Stage) -> None:
    """A cancel is answered at once, whatever the job; one that is over stays as it is."""
    job = await _a_job(s)
    assert (await s.client.cancel_job(job_id=job.job_id)).outcome == j.CANCEL_OUTCOME_ALREADY_FINISHED
