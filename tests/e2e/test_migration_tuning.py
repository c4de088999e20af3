"""Migrations of a guest that writes faster than its memory is sent: tuned, scheduled, switched to post-copy, stopped."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import libvirt
import libvirt_qemu
import pytest
from google.protobuf.duration_pb2 import Duration

from tests.e2e.server import GUARD, Guest, QemuHost
from tests.e2e.test_migration import DATA, at, names
from virtrpc import AsyncClient, AsyncJobHandle, Cancelled, InvalidArgument, NotReady
from virtrpc.v1 import job_pb2 as j
from virtrpc.v1 import types_pb2 as t

pytestmark = pytest.mark.hypervisor

MIB = 1 << 20
SLOW = 4 * MIB
QUICK = 512 * MIB


@pytest.fixture
async def client(first: QemuHost) -> AsyncIterator[AsyncClient]:
    """A client of the server with both hosts."""
    async with first.server.client() as client:
        yield client


@pytest.fixture
def restless(first: QemuHost, second: QemuHost) -> Iterator[Guest]:
    """A guest that rewrites a third of its memory for ever."""
    with first.guest(memory_mib=128, churn_mib=40) as guest:
        guest.wait_for("FILLED")
        yield guest
        at(second, guest).remove()


def asked(guest: Guest, command: str) -> Any:
    """What QEMU itself says."""
    return json.loads(libvirt_qemu.qemuMonitorCommand(guest.domain, json.dumps({"execute": command}), 0))["return"]


async def move(client: AsyncClient, guest: Guest, **settings: Any) -> AsyncJobHandle:
    """Begin to move a guest at a pace at which it never arrives."""
    wanted = {"bandwidth_bytes_per_second": SLOW, **settings}
    return await client.migrate_domain(f"first/{guest.name}", settings=t.MigrationSettings(host="second", migrate_uri=DATA, **wanted))


async def until(handle: AsyncJobHandle, holds: Callable[[t.Job], bool]) -> t.Job:
    """The job's first form of which this holds."""
    async with asyncio.timeout(GUARD):
        async for job in handle:
            if holds(job):
                return job
    assert handle.job is not None
    raise AssertionError(f"the job ended before that: {handle.job.state} {handle.job.error}")


async def end(client: AsyncClient, job_id: str) -> list[t.Job]:
    """The forms of a job from now on to its end."""
    async with asyncio.timeout(GUARD):
        return [job async for job in client.watch_job(job_id)]


def copying(job: t.Job) -> bool:
    """Whether memory is under way."""
    return job.phase == t.JOB_PHASE_MIGRATION_COPY and job.migration.memory_processed_bytes > 0


async def test_tune_migration(client: AsyncClient, restless: Guest, second: QemuHost) -> None:
    """A migration that crawls is given downtime and bandwidth while it runs: QEMU has them, the job shows them, and the guest arrives."""
    handle = await move(client, restless, max_downtime=Duration(nanos=200_000_000))
    job = await until(handle, copying)
    assert asked(restless, "query-migrate-parameters")["downtime-limit"] == 200
    with pytest.raises(InvalidArgument):
        await client.tune_migration(job_id=job.job_id, start_post_copy=True)
    with pytest.raises(InvalidArgument):
        await client.tune_migration(job_id=job.job_id)
    await client.tune_migration(job_id=job.job_id, bandwidth_bytes_per_second=8 * MIB, compression_cache_bytes=64 * MIB)
    limits = asked(restless, "query-migrate-parameters")
    assert (limits["max-bandwidth"], limits["xbzrle-cache-size"]) == (8 * MIB, 64 * MIB)
    assert restless.domain.migrateGetCompressionCache() == 64 * MIB
    shown = await until(client.watch_job(job.job_id), lambda job: job.migration.bandwidth_bytes_per_second == 8 * MIB)
    assert shown.migration.max_downtime == Duration(nanos=200_000_000)
    await client.tune_migration(job_id=job.job_id, max_downtime=Duration(seconds=20), bandwidth_bytes_per_second=QUICK)
    last = (await end(client, job.job_id))[-1]
    assert last.state == t.JOB_STATE_SUCCEEDED, last.error
    moved = last.migration
    assert moved.memory_iteration >= 1
    assert moved.memory_page_bytes == 4096
    assert moved.HasField("downtime")
    assert moved.HasField("setup_time")
    assert moved.memory_total_bytes >= 128 * MIB
    assert at(second, restless).state == libvirt.VIR_DOMAIN_RUNNING
    samples = (await client.get_job(job_id=job.job_id, include_samples=True)).samples
    assert samples[-1].progress == last.progress
    assert any(sample.phase == t.JOB_PHASE_MIGRATION_COPY and sample.migration.memory_processed_bytes > 0 for sample in samples)
    with pytest.raises(NotReady) as caught:
        await client.tune_migration(job_id=job.job_id, bandwidth_bytes_per_second=QUICK)
    assert caught.value.metadata["state"] == "succeeded"


async def test_post_copy(client: AsyncClient, restless: Guest, second: QemuHost) -> None:
    """Switched to post-copy the guest runs at the destination while its memory follows: seen as a phase, not abortable, and then over."""
    handle = await move(
        client, restless, post_copy=t.MigrationPostCopy(bandwidth_bytes_per_second=SLOW), undefine_source=True, persist_destination=True
    )
    job = await until(handle, copying)
    await client.tune_migration(job_id=job.job_id, start_post_copy=True)
    there = await until(client.watch_job(job.job_id), lambda job: job.phase == t.JOB_PHASE_MIGRATION_POST_COPY)
    assert not there.abortable
    assert there.abort_reason
    answer = await client.cancel_job(job_id=job.job_id)
    assert answer.outcome == j.CANCEL_OUTCOME_NOT_ABORTABLE
    with pytest.raises(NotReady):
        await client.tune_migration(job_id=job.job_id, max_downtime=Duration(seconds=1))
    await client.tune_migration(job_id=job.job_id, post_copy_bandwidth_bytes_per_second=QUICK)
    last = (await end(client, job.job_id))[-1]
    assert last.state == t.JOB_STATE_SUCCEEDED, last.error
    assert at(second, restless).domain.state() == [libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_MIGRATED]


async def test_schedule_converges(client: AsyncClient, restless: Guest, second: QemuHost) -> None:
    """A guest that does not get on is given bandwidth and downtime by its schedule, one after the other, and then arrives."""
    schedule = [
        t.MigrationStep(after=Duration(seconds=1), bandwidth_bytes_per_second=16 * MIB),
        t.MigrationStep(after=Duration(seconds=1), max_downtime=Duration(seconds=30)),
    ]
    handle = await move(client, restless, schedule=schedule)
    async with asyncio.timeout(GUARD):
        seen = [job async for job in handle]
    last = seen[-1]
    assert last.state == t.JOB_STATE_SUCCEEDED, last.error
    assert [step for step in range(3) if step in {job.migration.steps_taken for job in seen}] == [0, 1, 2]
    assert last.migration.last_step == schedule[1]
    assert last.migration.HasField("last_step_time")
    assert not last.migration.last_step_error
    assert any(job.migration.stalled.ToNanoseconds() >= 1_000_000_000 for job in seen)
    percents = [job.progress.percent for job in seen if job.progress.HasField("percent")]
    assert percents == sorted(percents)
    assert at(second, restless).state == libvirt.VIR_DOMAIN_RUNNING


async def test_schedule_gives_up(client: AsyncClient, restless: Guest, second: QemuHost) -> None:
    """A schedule that ends with an abort stops the move: the guest runs on here, and nothing is left there."""
    handle = await move(client, restless, schedule=[t.MigrationStep(after=Duration(seconds=1), abort=True)])
    async with asyncio.timeout(GUARD):
        with pytest.raises(Cancelled) as caught:
            await handle.wait()
    assert caught.value.job is not None
    assert caught.value.job.cancel_reason == t.CANCEL_REASON_NOT_CONVERGING
    assert restless.state == libvirt.VIR_DOMAIN_RUNNING
    assert restless.name not in names(second)


async def test_schedule_switches_to_post_copy(client: AsyncClient, restless: Guest, second: QemuHost) -> None:
    """A schedule can switch to post-copy, auto-converge throttles before it, and both are seen."""
    schedule = [t.MigrationStep(after=Duration(seconds=4), post_copy=True)]
    ways = {"post_copy": t.MigrationPostCopy(), "auto_converge": t.MigrationAutoConverge(initial_percent=30, increment_percent=5)}
    handle = await move(client, restless, bandwidth_bytes_per_second=24 * MIB, schedule=schedule, **ways)
    job = await until(handle, copying)
    limits = asked(restless, "query-migrate-parameters")
    assert (limits["cpu-throttle-initial"], limits["cpu-throttle-increment"]) == (30, 5)
    seen = await end(client, job.job_id)
    assert seen[-1].state == t.JOB_STATE_SUCCEEDED, seen[-1].error
    assert seen[-1].migration.last_step == schedule[0]
    assert max(job.migration.auto_converge_percent for job in seen) >= 30
    assert at(second, restless).state == libvirt.VIR_DOMAIN_RUNNING
