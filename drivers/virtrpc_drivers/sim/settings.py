"""The verbs that change what a domain is called and has: names, metadata, autostart, processors, disks; and keys and interrupts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from virtrpc_drivers import operations as ops
from virtrpc_drivers.errors import Reason
from virtrpc_drivers.protocol import Change
from virtrpc_drivers.sim import effects
from virtrpc_drivers.sim.agent import answering
from virtrpc_drivers.sim.checks import active, inactive, targets
from virtrpc_drivers.sim.editing import edit
from virtrpc_drivers.sim.sdk import JobHandle, sdk_error
from virtrpc_drivers.values import State

if TYPE_CHECKING:
    from virtrpc_drivers.sim.hypervisor import SimHypervisor


async def reset(hypervisor: SimHypervisor, job: JobHandle, operation: ops.Reset) -> None:
    """Reset a running guest: it keeps its id."""
    active(hypervisor, operation.uuid)
    await hypervisor.monitor(operation.uuid)
    await job.strike(1)
    domain = active(hypervisor, operation.uuid)
    domain.reboots += 1
    hypervisor.emit(domain.uuid, Change.REBOOT, "reset")


async def send_key(hypervisor: SimHypervisor, job: JobHandle, operation: ops.SendKey) -> None:
    """Press keys of a running guest."""
    active(hypervisor, operation.uuid)
    await hypervisor.monitor(operation.uuid)
    await job.strike(1)
    active(hypervisor, operation.uuid).keys += operation.keycodes


async def inject_nmi(hypervisor: SimHypervisor, job: JobHandle, operation: ops.InjectNmi) -> None:
    """Interrupt a running guest."""
    active(hypervisor, operation.uuid)
    await hypervisor.monitor(operation.uuid)
    await job.strike(1)
    active(hypervisor, operation.uuid).interrupts += 1


async def suspend_for_duration(hypervisor: SimHypervisor, job: JobHandle, operation: ops.PowerManagementSuspend) -> None:
    """Have a guest go to sleep, through its agent. Raises AGENT_UNRESPONSIVE."""
    domain = await answering(hypervisor, job, operation.uuid)
    if operation.target == "disk":
        effects.stop(hypervisor, domain, "shutdown")
    else:
        effects.sleep(hypervisor, domain)


async def wake_up(hypervisor: SimHypervisor, job: JobHandle, operation: ops.PowerManagementWakeup) -> None:
    """Wake a guest that sleeps. Raises WRONG_STATE."""
    active(hypervisor, operation.uuid)
    await hypervisor.monitor(operation.uuid)
    await job.strike(1)
    domain = active(hypervisor, operation.uuid)
    if domain.state is not State.PMSUSPENDED:
        raise sdk_error(Reason.WRONG_STATE, "Requested operation is not valid: domain is not suspended")
    effects.unpause(hypervisor, domain, "wakeup")


async def rename(hypervisor: SimHypervisor, job: JobHandle, operation: ops.Rename) -> None:
    """Give a domain that is off another name. Raises WRONG_STATE, ALREADY_EXISTS."""
    inactive(hypervisor, operation.uuid)
    await job.strike(1)
    effects.rename(hypervisor, inactive(hypervisor, operation.uuid), operation.name)


async def set_metadata(hypervisor: SimHypervisor, job: JobHandle, operation: ops.SetMetadata) -> None:
    """Set title, description or an element."""
    await edit(
        hypervisor, job, operation.uuid, operation.scope, lambda document: document.with_metadata(operation.kind, operation.value, operation.uri)
    )
    hypervisor.emit(operation.uuid, Change.METADATA, operation.kind)


async def set_autostart(hypervisor: SimHypervisor, job: JobHandle, operation: ops.SetAutostart) -> None:
    """Set autostart; no event, as in libvirt. Raises WRONG_STATE for a transient domain."""
    targets(hypervisor.domain(operation.uuid), ops.Scope.CONFIG)
    await job.strike(1)
    domain = hypervisor.domain(operation.uuid)
    targets(domain, ops.Scope.CONFIG)
    domain.autostart = operation.autostart


async def set_vcpus(hypervisor: SimHypervisor, job: JobHandle, operation: ops.SetVcpus) -> None:
    """Set the present or the greatest number of processors. Raises INVALID_ARGUMENT, WRONG_STATE."""
    domain = hypervisor.domain(operation.uuid)
    live, config = targets(domain, operation.scope)
    if live and operation.maximum:
        raise sdk_error(Reason.WRONG_STATE, "cannot change the maximum of an active domain")
    most = [document.config.vcpus_maximum or 1 for document in ([domain.definition] if live else []) + ([domain.document] if config else [])]
    if not operation.maximum and operation.vcpus > min(most):
        raise sdk_error(Reason.INVALID_ARGUMENT, f"requested vcpus is greater than max allowable vcpus: {operation.vcpus} > {min(most)}")
    await edit(hypervisor, job, operation.uuid, operation.scope, lambda document: document.with_vcpus(operation.vcpus, maximum=operation.maximum))


async def set_memory_stats_period(hypervisor: SimHypervisor, job: JobHandle, operation: ops.SetMemoryStatsPeriod) -> None:
    """Set how often the balloon reports."""
    await edit(hypervisor, job, operation.uuid, operation.scope, lambda document: document.with_stats_period(operation.seconds))


async def send_process_signal(hypervisor: SimHypervisor, job: JobHandle, operation: ops.SendProcessSignal) -> None:
    """Signal the first process; no other can be reached. Raises UNSUPPORTED."""
    active(hypervisor, operation.uuid)
    await job.strike(1)
    if operation.pid != 1:
        raise sdk_error(Reason.UNSUPPORTED, "Only the init process may be killed")
    active(hypervisor, operation.uuid).signals += (operation.signal,)


async def set_block_threshold(hypervisor: SimHypervisor, job: JobHandle, operation: ops.SetBlockThreshold) -> None:
    """Watch how far a disk of a running guest is written. Raises INVALID_ARGUMENT."""
    active(hypervisor, operation.uuid)
    await hypervisor.monitor(operation.uuid)
    await job.strike(1)
    domain = active(hypervisor, operation.uuid)
    if operation.device not in {disk.target for disk in domain.definition.config.disks}:
        raise sdk_error(Reason.INVALID_ARGUMENT, f"failed to find disk '{operation.device}'")
    domain.thresholds[operation.device] = operation.threshold_bytes


async def resize_block(hypervisor: SimHypervisor, job: JobHandle, operation: ops.ResizeBlock) -> None:
    """Give a disk of a running guest another size. Raises DEVICE_NOT_FOUND."""
    active(hypervisor, operation.uuid)
    await hypervisor.monitor(operation.uuid)
    await job.strike(1)
    domain = active(hypervisor, operation.uuid)
    disk = next((disk for disk in domain.definition.config.disks if operation.device in (disk.target, disk.source)), None)
    if disk is None:
        raise sdk_error(Reason.DEVICE_NOT_FOUND, f"invalid path: {operation.device}")
    domain.capacities[disk.target] = operation.capacity_bytes
