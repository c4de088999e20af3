"""Backups: they begin under the domain's handle, and go on beside whatever else the domain does. The files are never on a disk."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from virtrpc_drivers import operations as ops
from virtrpc_drivers.errors import Reason
from virtrpc_drivers.protocol import Change
from virtrpc_drivers.sim import blocks, chains, checkpoints, files
from virtrpc_drivers.sim.blocks import Begun, SimBlockJob
from virtrpc_drivers.sim.checks import active
from virtrpc_drivers.sim.domain import SimDomain
from virtrpc_drivers.sim.sdk import JobHandle, sdk_error
from virtrpc_drivers.values import BackupInfo, Outcome

if TYPE_CHECKING:
    from virtrpc_drivers.sim.hypervisor import SimHypervisor


async def begin(hypervisor: SimHypervisor, job: JobHandle, operation: ops.Backup) -> Begun:
    """Begin a backup. Raises DEVICE_NOT_FOUND, CHECKPOINT_NOT_FOUND, ALREADY_EXISTS, WRONG_STATE, FOREIGN_JOB where one runs."""
    _check(hypervisor, operation)
    await hypervisor.monitor(operation.uuid)
    await job.strike(1)
    domain = _check(hypervisor, operation)
    made = checkpoints.take(hypervisor, domain, operation.checkpoint, operation.checkpoint_xml) if operation.checkpoint else None
    asked = operation.asked
    block = SimBlockJob("", finish="wait" if asked.pull else "")
    job.backup, job.block, domain.backup = asked, block, block
    return partial(_go_on, hypervisor, job, domain, block, Outcome(backup=asked, checkpoint=made))


def _check(hypervisor: SimHypervisor, operation: ops.Backup) -> SimDomain:
    domain, asked = active(hypervisor, operation.uuid), operation.asked
    if domain.backup is not None:
        raise sdk_error(Reason.FOREIGN_JOB, "a backup runs on this domain")
    if asked.incremental:
        checkpoints.find(domain, asked.incremental)
    if operation.checkpoint:
        checkpoints.check(domain, operation.checkpoint, operation.checkpoint_xml)
    for disk in asked.disks:
        chains.disk_of(domain.definition.copy(), disk.device)
        if disk.device in domain.block_jobs:
            raise sdk_error(Reason.FOREIGN_JOB, f"a block job runs on disk {disk.device}")
    for path in operation.new_files:
        files.absent(hypervisor, path, overwrite=False)
    return domain


async def _go_on(hypervisor: SimHypervisor, job: JobHandle, domain: SimDomain, block: SimBlockJob, outcome: Outcome) -> Outcome:
    run, asked = domain.id, outcome.backup or BackupInfo()
    try:
        await (blocks.mirror(job, block) if asked.pull else blocks.copy(hypervisor, job, block))
        active(hypervisor, domain.uuid, run)
        job.applied = True
    finally:
        domain.backup = None
        block.over = True
    if not asked.pull:
        hypervisor.files.update((disk.path, (domain.uuid, None)) for disk in asked.disks)
        hypervisor.written.update((disk.path, hypervisor.wall()) for disk in asked.disks)
    hypervisor.emit(domain.uuid, Change.JOB, "completed")
    return outcome
