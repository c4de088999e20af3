"""Cases: block jobs, and what a running one can be told."""

from __future__ import annotations

from tests.e2e.server import ended, eventually
from tests.hypervisors.case import case
from tests.hypervisors.stage import LONG, Stage
from virtrpc import AsyncJobHandle
from virtrpc.v1 import job_pb2 as j
from virtrpc.v1 import types_pb2 as t

MIB = 1 << 20


def _file(s: Stage, name: str) -> j.BlockCopyFile:
    return j.BlockCopyFile(path=s.kind.file(name), format="qcow2")


async def _copying(s: Stage, name: str) -> AsyncJobHandle:
    ref = await s.running()
    return await s.client.copy_block(ref, disk="vda", file=_file(s, name), transient_job=True, options=LONG)


async def _told_to_a_job(s: Stage, rpc: str) -> None:
    """What a hypervisor without block jobs is asked: of any job of its, such as that which defined its domain."""
    job_id = (await anext(aiter(s.client.list_jobs(filter=j.JobFilter(hosts=[s.host]))))).job_id
    if rpc == "FinishBlockJob":
        await s.client.finish_block_job(job_id=job_id)
    else:
        await s.client.set_job_speed(job_id=job_id, bandwidth_bytes_per_second=MIB)


@case("JobService/PullBlock", lambda s: ended(s.client.pull_block(s.ref, disk="vda")))
async def pull_block(s: Stage) -> None:
    """A disk without backing files is pulled at once."""
    job = await s.done(s.client.pull_block(await s.running(), disk="vda", options=LONG))
    assert job.block_job_result.disk == "vda"


@case("JobService/CopyBlock", lambda s: ended(s.client.copy_block(s.ref, disk="vda", file=_file(s, "lacked"))))
async def copy_block(s: Stage) -> None:
    """A copy is broken off by itself once it is whole, and the domain stays where it was."""
    ref = await s.running()
    verb = s.client.copy_block(ref, disk="vda", file=_file(s, "copy"), finish=t.BLOCK_JOB_FINISH_STOP, transient_job=True, options=LONG)
    assert (await s.done(verb)).block_job_result.finish == t.BLOCK_JOB_FINISH_STOP


@case("JobService/CommitBlock", lambda s: ended(s.client.commit_block(s.ref, disk="vda")))
async def commit_block(s: Stage) -> None:
    """A disk without backing files has nothing to commit into."""
    await s.refused(s.client.commit_block(await s.running(), disk="vda"), "INVALID_ARGUMENT")


@case("JobService/FinishBlockJob", lambda s: _told_to_a_job(s, "FinishBlockJob"))
async def finish_block_job(s: Stage) -> None:
    """A mirror that is ready is broken off."""
    handle = await _copying(s, "finished")

    async def ready() -> bool:
        return (await s.client.get_job(job_id=handle.job_id)).phase == t.JOB_PHASE_READY

    await eventually(ready, "the mirror to be ready")
    await s.client.finish_block_job(job_id=handle.job_id, finish=t.BLOCK_JOB_FINISH_STOP)
    assert (await handle.wait()).state == t.JOB_STATE_SUCCEEDED


@case("JobService/SetJobSpeed", lambda s: _told_to_a_job(s, "SetJobSpeed"))
async def set_job_speed(s: Stage) -> None:
    """A running copy is given a speed, and aborted."""
    handle = await _copying(s, "slowed")

    async def under_way() -> bool:
        return (await s.client.get_job(job_id=handle.job_id)).phase in (t.JOB_PHASE_BACKGROUND, t.JOB_PHASE_READY)

    await eventually(under_way, "the copy to be under way")
    assert (await s.client.set_job_speed(job_id=handle.job_id, bandwidth_bytes_per_second=MIB)).job_id == handle.job_id
    await handle.cancel()
