"""The main job on a real guest with 2 GiB of memory to write: saved under a stream of progress, and cancelled half-way."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import libvirt
import pytest

from tests.e2e.behaviour import DETACHED, Answers, abort_has_arrived, ask_everything, job_in, last, sampled, save_held_midway, when
from tests.e2e.server import Guest, QemuHost, eventually
from virtrpc import AsyncClient, AsyncJobHandle, Cancelled, is_final
from virtrpc.v1 import job_pb2 as j
from virtrpc.v1 import types_pb2 as t

pytestmark = pytest.mark.hypervisor

FILL_MIB = 2048


@pytest.fixture(scope="module")
def big(qemu_host: QemuHost) -> Iterator[Guest]:
    """A guest that runs, with 2 GiB of its memory filled; every test leaves it running."""
    with qemu_host.guest(disk_mib=16, memory_mib=FILL_MIB + 256, fill_mib=FILL_MIB) as guest:
        guest.wait_for("FILLED")
        yield guest


async def ask_while(client: AsyncClient, handle: AsyncJobHandle, domain: str) -> list[Answers]:
    """Ask everything again and again while the job is not over; the answers that came while it ran."""
    answers: list[Answers] = []
    while not is_final(await client.get_job(job_id=handle.job_id)):
        answers.append(await ask_everything(client, domain, handle.job_id))
    return [answer for answer in answers if answer.job.state == t.JOB_STATE_RUNNING]


async def test_saved_under_progress_while_every_query_answers(client: AsyncClient, big: Guest) -> None:
    """A managed save streams bytes and a per cent that only grows; all the while every query answers; then the guest is off, with its image."""
    await sampled(client, big.name)
    handle = await client.managed_save_domain(big.name)
    asking = asyncio.create_task(ask_while(client, handle, big.name))
    updates = [job async for job in handle]
    answers = await asking
    assert [job.revision for job in updates] == sorted({job.revision for job in updates})
    assert updates[-1].state == t.JOB_STATE_SUCCEEDED
    assert [is_final(job) for job in updates].count(True) == 1
    written = [job.progress.processed_bytes for job in updates if job.progress.HasField("processed_bytes")]
    assert len(set(written)) > 3
    assert written == sorted(written)
    percents = [job.progress.percent for job in updates if job.progress.HasField("percent")]
    assert percents == sorted(percents)
    assert any(job.abortable and job.progress.HasField("rate_bytes_per_second") for job in updates)
    assert len(answers) > 3
    # Held still while it is saved, and seen so by those who asked.
    assert (t.DOMAIN_STATE_PAUSED, "save") in {(answer.domain.state, answer.domain.state_reason) for answer in answers}
    assert updates[-1].domain_result.domain.has_managed_save
    assert big.state == libvirt.VIR_DOMAIN_SHUTOFF
    assert big.domain.hasManagedSaveImage()
    await (await client.start_domain(big.name)).wait()
    assert [big.state, big.domain.hasManagedSaveImage()] == [libvirt.VIR_DOMAIN_RUNNING, 0]


async def test_memory_statistics_stay_fresh_during_the_save(client: AsyncClient, big: Guest) -> None:
    """GetMemoryStats shows at least three different observed_times, LIVE, that lie within a save whose memory is being written."""
    await sampled(client, big.name)
    async with save_held_midway(client, big.name) as handle:
        began = (await client.get_job(job_id=handle.job_id)).start_time.ToNanoseconds()
        seen: set[int] = set()

        async def three() -> bool:
            observation = (await client.get_memory_stats(big.name)).stats.observation
            # A reading from before the save may have aged by now: it counts for nothing.
            if observation.freshness == t.FRESHNESS_LIVE and when(observation) > began:
                seen.add(when(observation))
            return len(seen) >= 3

        await eventually(three, "three readings of the statistics during the save")
        job = await client.get_job(job_id=handle.job_id)
        assert job.state == t.JOB_STATE_RUNNING
        assert 0 < job.progress.remaining_bytes < job.progress.total_bytes
        await handle.cancel()
        await abort_has_arrived(big)
    assert (await last(client, handle.job_id)).state == t.JOB_STATE_CANCELLED
    assert big.state == libvirt.VIR_DOMAIN_RUNNING


async def test_cancelled_half_way_the_guest_runs_on(client: AsyncClient, big: Guest) -> None:
    """A save that is cancelled half-way, and cancelled again, ends CANCELLED exactly once for all who listen; the guest runs on without an image."""
    handle = await client.managed_save_domain(big.name)
    listener = asyncio.create_task(_states(client.watch_job(handle.job_id)))
    outcomes: list[j.CancelOutcome.ValueType] = []
    states: list[t.JobState.ValueType] = []
    async for job in handle:
        states.append(job.state)
        if job.progress.percent >= 20 and not outcomes:
            answers = [await handle.cancel(), await handle.cancel()]
            # Answered while the save was still out.
            assert all(answer.job.state == t.JOB_STATE_RUNNING and answer.job.cancel_requested for answer in answers)
            outcomes += [answer.outcome for answer in answers]
    assert outcomes == [j.CANCEL_OUTCOME_ABORTING] * 2
    final = (await listener, states)
    for seen in final:
        assert seen[-1] == t.JOB_STATE_CANCELLED
        assert set(seen[:-1]) <= {t.JOB_STATE_QUEUED, t.JOB_STATE_RUNNING}
    with pytest.raises(Cancelled) as cancelled:
        await handle.wait()
    assert cancelled.value.metadata["cancel_reason"] == "requested"
    assert (await handle.cancel()).outcome == j.CANCEL_OUTCOME_ALREADY_FINISHED
    assert [big.state, big.domain.hasManagedSaveImage()] == [libvirt.VIR_DOMAIN_RUNNING, 0]
    assert (await client.get_domain(big.name)).state_reason == "save_canceled"


async def _states(handle: AsyncJobHandle) -> list[t.JobState.ValueType]:
    return [job.state async for job in handle]


async def test_a_foreign_dump_is_never_aborted(qemu_host: QemuHost, client: AsyncClient, big: Guest) -> None:
    """Our save waits in libvirt behind a `virsh dump` of the same guest, and is cancelled: the dump completes, and the guest runs on unsaved."""
    core = qemu_host.daemon.path / "core"
    dump = await asyncio.create_subprocess_exec(
        "virsh", "-c", qemu_host.daemon.uri, "dump", "--live", big.name, str(core), stdout=asyncio.subprocess.DEVNULL
    )
    await eventually(lambda: big.domain.jobStats().get("operation") == libvirt.VIR_DOMAIN_JOB_OPERATION_DUMP, "the dump to begin")
    handle = await client.managed_save_domain(big.name, options=DETACHED)
    await job_in(client, handle.job_id, t.JOB_STATE_RUNNING)
    answer = await handle.cancel()
    assert answer.job.cancel_requested
    assert dump.returncode is None
    assert await dump.wait() == 0
    assert core.stat().st_size > FILL_MIB << 20
    core.unlink()
    assert (await last(client, handle.job_id)).state == t.JOB_STATE_CANCELLED
    assert [big.state, big.domain.hasManagedSaveImage()] == [libvirt.VIR_DOMAIN_RUNNING, 0]
