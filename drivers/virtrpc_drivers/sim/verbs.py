"""The operations: what each asks of a domain, how long it takes, and what it changes.

A verb looks at the domain, lets time pass (`JobHandle.spend`, `strike`), looks again, and changes it through `effects` without
waiting in between: so whatever happened meanwhile is seen, and nothing is changed by halves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, cast

from virtrpc_drivers import operations as ops
from virtrpc_drivers.errors import Reason
from virtrpc_drivers.protocol import Change
from virtrpc_drivers.sim import (
    agent,
    backup,
    blocks,
    checkpoints,
    devices,
    dirty_rate,
    effects,
    files,
    images,
    lifecycle,
    migration,
    resources,
    settings,
    snapshots,
    tuning,
)
from virtrpc_drivers.sim.checks import targets
from virtrpc_drivers.sim.sdk import JobHandle, sdk_error
from virtrpc_drivers.sim.shapes import row
from virtrpc_drivers.values import Outcome, Phase, Slot

if TYPE_CHECKING:
    from virtrpc_drivers.sim.hypervisor import SimHypervisor

Waiting = Callable[[], Awaitable[None]]
"""What is left of an asking verb once the guest was asked."""


async def perform(hypervisor: SimHypervisor, job: JobHandle) -> Outcome:
    """Run one operation to its end, holding what its slot says. Raises DriverError."""
    operation = job.operation
    await job.strike(0)
    support = row(hypervisor.options.shape, operation.verb)
    # Virtuozzo's jobs hear an abort from their first moment; on QEMU there is nothing to abort yet.
    await job.pause(hypervisor.options.latency, abortable=support.abortable and hypervisor.options.shape == "vz")
    work = _VERBS[type(operation)]
    if support.slot in (Slot.NONE, Slot.DESTROY):
        job.arrived.set()
        return await work(hypervisor, job, operation) or Outcome()
    key = f"agent {operation.uuid}" if support.slot is Slot.AGENT else operation.uuid
    async with hypervisor.exclusive(key, job):
        result = await work(hypervisor, job, operation)
        if callable(result) and support.slot is Slot.CONDITION:
            job.abortable = support.abortable
            await _wait_for_guest(job, result)
    if callable(result) and support.slot is Slot.BACKGROUND:
        job.enter(Phase.BACKGROUND)
        return cast(Outcome, await result())
    if callable(result) and support.slot is Slot.ASKING:
        job.enter(Phase.WAITING_GUEST)
        await _wait_for_guest(job, result)
    return result if isinstance(result, Outcome) else Outcome()


async def _wait_for_guest(job: JobHandle, wait: Waiting) -> None:
    try:
        async with asyncio.timeout(job.call.wait_guest):
            await wait()
    except TimeoutError:
        raise sdk_error(Reason.GUEST_TIMEOUT, f"the guest did not do it within {job.call.wait_guest:g} s") from None


async def set_memory(hypervisor: SimHypervisor, job: JobHandle, operation: ops.SetMemory) -> None:
    """Set the current or the maximum memory. Raises INVALID_ARGUMENT above the maximum, WRONG_STATE."""
    domain = hypervisor.domain(operation.uuid)
    live, config = targets(domain, operation.scope)
    if live and operation.maximum:
        raise sdk_error(Reason.WRONG_STATE, "cannot resize the maximum memory on an active domain")
    documents = ([domain.definition] if live else []) + ([domain.document] if config else [])
    if operation.memory_bytes <= 0:
        raise sdk_error(Reason.INVALID_ARGUMENT, "the memory size is not positive")
    if not operation.maximum and any(operation.memory_bytes > (document.config.max_memory_bytes or 0) for document in documents):
        raise sdk_error(Reason.INVALID_ARGUMENT, "cannot set memory higher than max memory")
    await hypervisor.monitor(operation.uuid)
    await job.strike(1)
    live, config = targets(hypervisor.domain(operation.uuid), operation.scope)
    effects.edit(
        hypervisor,
        domain,
        live=domain.definition.with_memory(operation.memory_bytes, maximum=False) if live else None,
        config=domain.document.with_memory(operation.memory_bytes, maximum=operation.maximum) if config else None,
    )


async def remove_managed_save(hypervisor: SimHypervisor, job: JobHandle, operation: ops.RemoveManagedSave) -> None:
    """Remove the managed save image. Raises WRONG_STATE where there is none."""
    hypervisor.domain(operation.uuid)
    await job.strike(1)
    domain = hypervisor.domain(operation.uuid)
    if domain.image is None:
        raise sdk_error(Reason.WRONG_STATE, "the domain has no managed save image")
    domain.image = None
    hypervisor.emit(domain.uuid, Change.OTHER, "managed save removed")


_VERBS: dict[type[ops.Operation], Callable[[SimHypervisor, JobHandle, Any], Awaitable[Any]]] = {
    ops.Suspend: lifecycle.suspend,
    ops.Resume: lifecycle.resume,
    ops.Start: lifecycle.start,
    ops.Shutdown: lifecycle.shutdown,
    ops.Reboot: lifecycle.reboot,
    ops.Destroy: lifecycle.destroy,
    ops.Define: lifecycle.define,
    ops.Create: lifecycle.create,
    ops.Undefine: lifecycle.undefine,
    ops.AttachDevice: devices.attach,
    ops.DetachDevice: devices.detach,
    ops.UpdateDevice: devices.update,
    ops.SetUserPassword: agent.set_user_password,
    ops.ManagedSave: lifecycle.managed_save,
    ops.SetMemory: set_memory,
    ops.CreateSnapshot: snapshots.create,
    ops.RevertToSnapshot: snapshots.revert,
    ops.DeleteSnapshot: snapshots.delete,
    ops.RemoveManagedSave: remove_managed_save,
    ops.Migrate: migration.migrate,
    ops.Save: files.save,
    ops.Restore: files.restore,
    ops.DumpCore: files.dump_core,
    ops.DefineSaveImage: images.define_save_image,
    ops.DefineManagedSaveImage: images.define_managed_save_image,
    ops.FreezeFilesystems: agent.freeze,
    ops.ThawFilesystems: agent.thaw,
    ops.TrimFilesystems: agent.trim,
    ops.SetGuestTime: agent.set_guest_time,
    ops.SetGuestVcpus: agent.set_guest_vcpus,
    ops.SetAuthorizedSshKeys: agent.set_authorized_ssh_keys,
    ops.Reset: settings.reset,
    ops.SendKey: settings.send_key,
    ops.InjectNmi: settings.inject_nmi,
    ops.PowerManagementSuspend: settings.suspend_for_duration,
    ops.PowerManagementWakeup: settings.wake_up,
    ops.Rename: settings.rename,
    ops.SetMetadata: settings.set_metadata,
    ops.SetAutostart: settings.set_autostart,
    ops.SetVcpus: settings.set_vcpus,
    ops.SetMemoryStatsPeriod: settings.set_memory_stats_period,
    ops.ResizeBlock: settings.resize_block,
    ops.PinVcpu: tuning.pin_vcpu,
    ops.PinEmulator: tuning.pin_emulator,
    ops.AddIoThread: tuning.add_io_thread,
    ops.DeleteIoThread: tuning.delete_io_thread,
    ops.PinIoThread: tuning.pin_io_thread,
    ops.SetBlockIoTune: tuning.set_block_io_tune,
    ops.SetInterfaceParameters: tuning.set_interface_parameters,
    ops.SetLifecycleAction: tuning.set_lifecycle_action,
    ops.SetIoThreadParameters: tuning.set_io_thread_parameters,
    ops.SetVcpu: tuning.set_vcpu,
    ops.SetPerfEvents: tuning.set_perf_events,
    ops.StartDirtyRateCalculation: dirty_rate.start,
    ops.SetBlockThreshold: settings.set_block_threshold,
    ops.SendProcessSignal: settings.send_process_signal,
    ops.SetSchedulerParameters: resources.set_scheduler_parameters,
    ops.SetMemoryParameters: resources.set_memory_parameters,
    ops.SetNumaParameters: resources.set_numa_parameters,
    ops.SetBlkioParameters: resources.set_blkio_parameters,
    ops.CreateCheckpoint: checkpoints.create,
    ops.DeleteCheckpoint: checkpoints.delete,
    ops.PullBlock: blocks.begin,
    ops.CopyBlock: blocks.begin,
    ops.CommitBlock: blocks.begin,
    ops.Backup: backup.begin,
}
