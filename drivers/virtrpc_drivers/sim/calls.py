"""A call that is out: how far it is, and what it can be told, to stop or to go otherwise."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from virtrpc_drivers.migration import TuneAnswer, Tuning
from virtrpc_drivers.protocol import Report
from virtrpc_drivers.sim import blocks, effects
from virtrpc_drivers.sim.sdk import ForeignJob, JobHandle
from virtrpc_drivers.sim.shapes import row
from virtrpc_drivers.values import CancelAnswer, Phase, Stamp, Steering

if TYPE_CHECKING:
    from virtrpc_drivers.sim.hypervisor import SimHypervisor


async def cancel(hypervisor: SimHypervisor, call_id: str) -> CancelAnswer:
    """Abort a call: by its handle, or as libvirt does, by its domain."""
    job = hypervisor.jobs.get(call_id)
    if job is None or job.done:
        return CancelAnswer(sent=False, message="no such call is out here")
    uuid, verb = job.operation.uuid, job.operation.verb
    await hypervisor.faults.strike("cancel", uuid)
    if job.phase.on_its_own:
        return _answer(job.abort())
    if not row(hypervisor.options.shape, verb).abortable:
        return CancelAnswer(sent=False, final=True, message=f"{verb} cannot be aborted on this hypervisor")
    await hypervisor.monitor(uuid)
    if hypervisor.options.abort == "domain":
        shown = hypervisor.visible_job(uuid)
        if shown is not job:
            whose = "another's job" if isinstance(shown, ForeignJob) else "not this operation"
            return CancelAnswer(sent=False, message=f"the hypervisor shows {whose} on this domain")
    await asyncio.sleep(hypervisor.options.abort_seconds)
    return _answer(hypervisor.abort_domain(uuid, job.id) if hypervisor.options.abort == "domain" else job.abort())


async def tune(hypervisor: SimHypervisor, call_id: str, tuning: Tuning) -> TuneAnswer:
    """Change a migration while it copies memory."""
    job = hypervisor.jobs.get(call_id)
    await hypervisor.faults.strike("tune", "" if job is None else job.operation.uuid)
    if job is None or job.done or job.transfer is None or job.phase is Phase.MIGRATION_FINISH:
        return TuneAnswer(sent=False, message="the hypervisor does not show this operation's job now")
    await hypervisor.monitor(job.operation.uuid)
    if tuning.pause:
        effects.pause(hypervisor, hypervisor.domain(job.operation.uuid))
    return job.transfer.tune(tuning)


async def steer(hypervisor: SimHypervisor, call_id: str, steering: Steering) -> CancelAnswer:
    """Finish a mirror, or set a block job's speed."""
    job = hypervisor.jobs.get(call_id)
    if job is None or job.done:
        return CancelAnswer(sent=False, message="no such call is out here")
    await hypervisor.faults.strike("steer", job.operation.uuid)
    await hypervisor.monitor(job.operation.uuid)
    return blocks.steer(job, steering)


def report(job: JobHandle, stamp: Stamp, *, percent: bool) -> Report:
    """How far a job is, in bytes; or in per cent, which is all that Virtuozzo's jobs tell."""
    transfer, remaining = job.transfer, job.remaining_bytes
    if remaining is None and job.total_bytes is not None and job.processed_bytes is not None:
        remaining = job.total_bytes - job.processed_bytes
    return Report(
        call_id=job.id,
        phase=job.phase,
        abortable=job.abortable,
        stamp=stamp,
        processed_bytes=None if percent else job.processed_bytes,
        total_bytes=None if percent else job.total_bytes,
        remaining_bytes=None if percent else remaining,
        rate_bytes_per_second=None if percent else job.rate,
        remaining_seconds=None if percent or remaining is None or not job.rate else remaining / job.rate,
        percent=100.0 * job.fraction if percent and job.fraction is not None else None,
        memory_iteration=None if percent or transfer is None else transfer.iteration,
        migration=None if percent or transfer is None else transfer.reading(),
        backup=job.backup,
        trouble=job.trouble,
    )


def _answer(sent: bool) -> CancelAnswer:
    return CancelAnswer(sent=sent, message="" if sent else "an abort does not reach the operation now")
