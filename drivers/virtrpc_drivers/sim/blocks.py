"""Block jobs: they begin under the domain's handle, and go on beside whatever else the domain does."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from virtrpc_drivers import operations as ops
from virtrpc_drivers.errors import DriverError, Fault, Reason
from virtrpc_drivers.finishing import BROKEN_OFF, Refusals, given_up
from virtrpc_drivers.protocol import Change
from virtrpc_drivers.sim import chains, effects
from virtrpc_drivers.sim.checks import active
from virtrpc_drivers.sim.domain import SimDomain
from virtrpc_drivers.sim.sdk import JobHandle, sdk_error
from virtrpc_drivers.sim.xmldoc import Document
from virtrpc_drivers.values import CancelAnswer, Outcome, Phase, Steering
from virtrpc_drivers.xml import parse

if TYPE_CHECKING:
    from virtrpc_drivers.sim.hypervisor import SimHypervisor

TRY_SECONDS = 0.25
"""How often a mirror is finished that is refused that."""
Begun = Callable[[], Awaitable[Outcome]]
"""What is left of a background verb once it has begun."""


@dataclass(eq=False)
class SimBlockJob:
    """The block job on one disk, or the backup of all. Bytes, and bytes a second; no limit is as fast as the host goes."""

    disk: str
    limit: int = 0
    finish: str = ""
    """How its mirror is to end: pivot, stop, or wait; empty where it has none."""
    ready: bool = False
    over: bool = False
    """Whether the disk has it no more, however long its call stays out."""
    steered: asyncio.Event = field(default_factory=asyncio.Event)


async def begin(hypervisor: SimHypervisor, job: JobHandle, operation: ops.AnyBlocks) -> Begun:
    """Begin a block job. Raises DEVICE_NOT_FOUND, WRONG_STATE, INVALID_ARGUMENT, FOREIGN_JOB where the disk has one."""
    _changed(active(hypervisor, operation.uuid), operation, "pivot")
    await hypervisor.monitor(operation.uuid)
    await job.strike(1)
    domain = active(hypervisor, operation.uuid)
    _changed(domain, operation, "pivot")
    if operation.disk in domain.block_jobs:
        raise sdk_error(Reason.FOREIGN_JOB, f"another's block job runs on disk {operation.disk}")
    block = SimBlockJob(operation.disk, operation.bandwidth_bytes_per_second, _finish(operation))
    job.block = domain.block_jobs[operation.disk] = block
    return partial(_go_on, hypervisor, job, operation, domain, block)


def _finish(operation: ops.AnyBlocks) -> str:
    if isinstance(operation, ops.CommitBlock):
        return "" if operation.top else operation.finish
    return operation.finish if isinstance(operation, ops.CopyBlock) else ""


async def _go_on(hypervisor: SimHypervisor, job: JobHandle, operation: ops.AnyBlocks, domain: SimDomain, block: SimBlockJob) -> Outcome:
    run = domain.id
    try:
        await copy(hypervisor, job, block)
        if block.finish:
            by_itself = block.finish != "wait"
            await mirror(job, block)
            if by_itself:
                await _finish_by_itself(job, block)
        domain = active(hypervisor, operation.uuid, run)
        changed, path = _changed(domain, operation, block.finish)
        job.applied = True
    finally:
        domain.block_jobs.pop(block.disk, None)
        block.over = True
    # As libvirt does: the stored definition follows where it has the same disk.
    effects.edit(hypervisor, domain, live=changed)
    hypervisor.emit(domain.uuid, Change.BLOCK_JOB, block.disk)
    return Outcome(path=path, finish=block.finish or None)


async def copy(hypervisor: SimHypervisor, job: JobHandle, block: SimBlockJob) -> None:
    """Copy what a host's disks have, no faster than the job's limit, with progress."""
    options = hypervisor.options
    total = options.block_mib << 20
    fastest, done = total / max(options.block_seconds, 1e-6), 0.0
    while done < total:
        rate = min(fastest, block.limit) if block.limit else fastest
        seconds = min(options.progress_seconds, (total - done) / rate)
        job.move(int(done), total, int(rate))
        await asyncio.sleep(seconds)
        await job.strike(2)
        await hypervisor.monitor(job.operation.uuid)
        # Rounding must not leave a last byte for ever.
        done = total if seconds < options.progress_seconds else done + rate * seconds
    job.move(total, total, None)


async def mirror(job: JobHandle, block: SimBlockJob) -> None:
    """Be ready until told how to finish."""
    block.ready = True
    job.enter(Phase.READY)
    while block.finish == "wait":
        block.steered.clear()
        await block.steered.wait()


async def _finish_by_itself(job: JobHandle, block: SimBlockJob) -> None:
    """Finish a mirror, again and again where that is refused, until somebody else does. Raises FAILED after too long: it is broken off then."""
    refusals = Refusals()
    while not block.steered.is_set() and (fault := await _refused(job)) is not None:
        if refusals.take(fault, asyncio.get_running_loop().time()):
            raise given_up(block.disk, fault, BROKEN_OFF)
        job.complain(fault)
        await asyncio.sleep(TRY_SECONDS)
    job.complain(None)


async def _refused(job: JobHandle) -> Fault | None:
    try:
        await job.strike(3)
    except DriverError as error:
        return error.fault
    return None


def _changed(domain: SimDomain, operation: ops.AnyBlocks, finish: str) -> tuple[Document, str]:
    """The definition as the block job leaves it, and the disk's file then. Raises DEVICE_NOT_FOUND, INVALID_ARGUMENT."""
    root = domain.definition.copy()
    disk = chains.disk_of(root, operation.disk)
    match operation:
        case ops.PullBlock():
            chains.pull(disk, operation.base)
        case ops.CommitBlock():
            chains.commit(disk, operation.base, operation.top)
        case ops.CopyBlock() if finish == "pivot":
            chains.move(disk, parse(operation.xml, "disk"))
    return Document.of(root), chains.files(disk)[0]


def steer(job: JobHandle, steering: Steering) -> CancelAnswer:
    """Finish a mirror that is ready, or set a speed."""
    block = job.block
    if block is None:
        return CancelAnswer(sent=False, message="no such background job is under way here")
    if block.over or job.done:
        return CancelAnswer(sent=False, message="its block job is over")
    if steering.finish is None:
        block.limit = steering.bandwidth_bytes_per_second or 0
        return CancelAnswer(sent=True)
    if not block.ready:
        return CancelAnswer(sent=False, message="its mirror is not ready")
    block.finish = steering.finish
    block.steered.set()
    return CancelAnswer(sent=True)
