"""Cases: what is asked about moves, and of those under way."""

from __future__ import annotations

import asyncio

from tests.hypervisors.case import case
from tests.hypervisors.stage import LONG, Stage
from virtrpc.v1 import job_pb2 as j
from virtrpc.v1 import types_pb2 as t

MIB = 1 << 20
SLOW = t.MigrationSettings(bandwidth_bytes_per_second=MIB, undefine_source=True, persist_destination=True)


async def _any_job_tuned(s: Stage) -> None:
    # Without migrations there is none to tune: the host's table is asked before the job is.
    async for job in s.client.list_jobs(filter=j.JobFilter(hosts=[s.host])):
        await s.client.tune_migration(job_id=job.job_id, bandwidth_bytes_per_second=MIB)
        return
    raise AssertionError("no case before this one has made a job")


@case("JobService/TuneMigration", _any_job_tuned)
async def tune_migration(s: Stage) -> None:
    """A migration that crawls is given more bandwidth while it runs, and arrives."""
    assert s.peer is not None, "the bed has no second host"
    ref = await s.booted()
    settings = t.MigrationSettings(host=s.peer)
    settings.MergeFrom(SLOW)
    settings.MergeFrom(s.kind.migration)
    handle = await s.client.migrate_domain(ref, settings=settings, options=LONG)
    async with asyncio.timeout(60):
        async for job in handle:
            if job.phase == t.JOB_PHASE_MIGRATION_COPY:
                break
    await s.client.tune_migration(job_id=handle.job_id, bandwidth_bytes_per_second=1024 * MIB)
    async with asyncio.timeout(60):
        last = [job async for job in s.client.watch_job(handle.job_id)][-1]
    assert last.state == t.JOB_STATE_SUCCEEDED, last.error
    await s.forget(f"{s.peer}/{ref.partition('/')[2]}")


@case(
    "SnapshotService/PlanMigration",
    lambda s: s.client.plan_migration(s.ref, settings=t.MigrationSettings(uri="qemu+tcp://127.0.0.1:9/system")),
)
async def plan_migration(s: Stage) -> None:
    """Nothing fatal is in the way of a move to the server's other host, and everything of one to nowhere; nothing is changed."""
    assert s.peer is not None, "the bed has no second host"
    ref = await s.running()
    settings = t.MigrationSettings(host=s.peer)
    settings.MergeFrom(s.kind.migration)
    answer = await s.client.plan_migration(ref, settings=settings)
    assert answer.feasible, answer.obstacles
    nowhere = await s.client.plan_migration(ref, settings=t.MigrationSettings(host="nobody"))
    assert [(found.reason, found.fatal) for found in nowhere.obstacles] == [("HOST_NOT_CONFIGURED", True)]
