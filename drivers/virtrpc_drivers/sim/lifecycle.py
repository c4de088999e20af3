"""The verbs that start, stop, store and forget domains."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from virtrpc_drivers import merging
from virtrpc_drivers import operations as ops
from virtrpc_drivers.errors import Reason
from virtrpc_drivers.protocol import Change
from virtrpc_drivers.sim import effects
from virtrpc_drivers.sim.checks import active, inactive, same_run
from virtrpc_drivers.sim.domain import SaveImage, SimDomain
from virtrpc_drivers.sim.sdk import JobHandle, sdk_error
from virtrpc_drivers.sim.shapes import row
from virtrpc_drivers.sim.xmldoc import Document
from virtrpc_drivers.values import State
from virtrpc_drivers.xml import definition, parse

if TYPE_CHECKING:
    from virtrpc_drivers.sim.hypervisor import SimHypervisor

Waiting = Callable[[], Awaitable[None]]


async def suspend(hypervisor: SimHypervisor, job: JobHandle, operation: ops.Suspend) -> None:
    """Pause a guest; one that is paused stays so."""
    active(hypervisor, operation.uuid)
    await hypervisor.monitor(operation.uuid)
    await job.strike(1)
    domain = active(hypervisor, operation.uuid)
    if domain.state is not State.PAUSED:
        effects.pause(hypervisor, domain)


async def resume(hypervisor: SimHypervisor, job: JobHandle, operation: ops.Resume) -> None:
    """Let a paused guest go on. Raises WRONG_STATE where it runs."""
    active(hypervisor, operation.uuid)
    await hypervisor.monitor(operation.uuid)
    await job.strike(1)
    domain = active(hypervisor, operation.uuid)
    if domain.state is not State.PAUSED:
        raise sdk_error(Reason.WRONG_STATE, "Requested operation is not valid: domain is already running")
    effects.unpause(hypervisor, domain)


async def start(hypervisor: SimHypervisor, job: JobHandle, operation: ops.Start) -> None:
    """Boot a domain, or restore it from its managed save image."""
    domain = inactive(hypervisor, operation.uuid)
    await boot(hypervisor, job, domain, paused=operation.paused, image=None if operation.force_boot else domain.image)


async def create(hypervisor: SimHypervisor, job: JobHandle, operation: ops.Create) -> None:
    """Make and start a transient domain. Raises XML_INVALID, ALREADY_EXISTS, WRONG_STATE where it runs."""
    document = _document(operation.xml)
    effects.check_identity(hypervisor, operation.uuid, operation.name)
    domain = hypervisor.domains.get(operation.uuid)
    if domain is None:
        domain = hypervisor.remember(SimDomain(uuid=operation.uuid, name=operation.name, document=document, persistent=False))
    elif domain.active:
        raise sdk_error(Reason.WRONG_STATE, f"Requested operation is not valid: domain is already active as '{domain.name}'")
    try:
        await boot(hypervisor, job, domain, paused=operation.paused, image=None, live=document)
    finally:
        if not domain.active and not domain.persistent and hypervisor.domains.get(domain.uuid) is domain:
            hypervisor.forget(domain)


async def boot(
    hypervisor: SimHypervisor, job: JobHandle, domain: SimDomain, *, paused: bool, image: SaveImage | None, live: Document | None = None
) -> None:
    """Start a guest, from this memory where there is any."""
    options = hypervisor.options
    if image is None:
        domain.frozen, domain.offline_vcpus = False, frozenset()
        domain.thresholds.clear()
        domain.measured = None
    run = effects.begin_start(hypervisor, domain, live or (image.document if image else domain.document))
    try:
        await job.strike(1)
        await job.spend(options.restore_seconds if image else options.start_seconds, abortable=row(options.shape, job.operation.verb).abortable)
        active(hypervisor, domain.uuid, run)
    except BaseException:
        if same_run(hypervisor, domain, run):
            effects.stop(hypervisor, domain, "failed")
        raise
    effects.start(hypervisor, domain, paused=paused or (image is not None and image.paused), reason="restored" if image else "booted")


async def destroy(hypervisor: SimHypervisor, job: JobHandle, operation: ops.Destroy) -> None:
    """End a guest at once; a stopped one takes a while to kill."""
    domain = active(hypervisor, operation.uuid)
    await job.strike(1)
    if domain.stopped is not None and hypervisor.options.kill_seconds:
        await asyncio.sleep(hypervisor.options.kill_seconds)
    effects.stop(hypervisor, active(hypervisor, operation.uuid), "destroyed")


async def shutdown(hypervisor: SimHypervisor, job: JobHandle, operation: ops.Shutdown) -> Waiting:
    """Ask a guest to shut down."""
    domain = active(hypervisor, operation.uuid)
    await hypervisor.monitor(operation.uuid)
    await job.strike(1)
    run = active(hypervisor, operation.uuid).id
    hypervisor.spawn(_guest_shuts_down(hypervisor, domain, run))
    return lambda: hypervisor.until(lambda: not same_run(hypervisor, domain, run))


async def reboot(hypervisor: SimHypervisor, job: JobHandle, operation: ops.Reboot) -> Waiting:
    """Ask a guest to reboot. Fails where it ends instead."""
    domain = active(hypervisor, operation.uuid)
    await hypervisor.monitor(operation.uuid)
    await job.strike(1)
    run, boots = active(hypervisor, operation.uuid).id, domain.reboots
    hypervisor.spawn(_guest_reboots(hypervisor, domain, run))

    async def wait() -> None:
        await hypervisor.until(lambda: not same_run(hypervisor, domain, run) or domain.reboots > boots)
        if domain.reboots == boots:
            raise sdk_error(Reason.FAILED, "the guest ended instead of rebooting")

    return wait


async def _obeys(hypervisor: SimHypervisor, domain: SimDomain, run: int | None) -> bool:
    """Let the guest take its time; whether it does what it was asked to."""
    await hypervisor.monitor(domain.uuid)
    await asyncio.sleep(hypervisor.options.shutdown_seconds)
    await hypervisor.until(lambda: domain.state is not State.PAUSED or not same_run(hypervisor, domain, run))
    return same_run(hypervisor, domain, run) and not domain.deaf


async def _guest_shuts_down(hypervisor: SimHypervisor, domain: SimDomain, run: int | None) -> None:
    if await _obeys(hypervisor, domain, run):
        hypervisor.emit(domain.uuid, Change.LIFECYCLE, "shutdown guest")
        effects.stop(hypervisor, domain, "shutdown")


async def _guest_reboots(hypervisor: SimHypervisor, domain: SimDomain, run: int | None) -> None:
    if await _obeys(hypervisor, domain, run):
        domain.reboots += 1
        hypervisor.emit(domain.uuid, Change.REBOOT)


async def define(hypervisor: SimHypervisor, job: JobHandle, operation: ops.Define) -> None:
    """Store a definition. Raises XML_INVALID, ALREADY_EXISTS."""
    _document(_with_present(hypervisor, operation))
    effects.check_identity(hypervisor, operation.uuid, operation.name)
    await job.strike(1)
    effects.define(hypervisor, operation.uuid, operation.name, _document(_with_present(hypervisor, operation)))


async def undefine(hypervisor: SimHypervisor, job: JobHandle, operation: ops.Undefine) -> None:
    """Forget a definition. Raises WRONG_STATE for a transient domain and where it would leave something behind."""
    hypervisor.domain(operation.uuid)
    await job.strike(1)
    domain = hypervisor.domain(operation.uuid)
    if not domain.persistent:
        raise sdk_error(Reason.WRONG_STATE, "Requested operation is not valid: cannot undefine transient domain")
    if domain.image is not None and not operation.managed_save:
        raise sdk_error(Reason.WRONG_STATE, "Requested operation is not valid: Refusing to undefine while domain managed save image exists")
    if domain.checkpoints and not domain.active and not operation.checkpoints_metadata:
        raise sdk_error(Reason.WRONG_STATE, f"cannot delete inactive domain with {len(domain.checkpoints)} checkpoints")
    if domain.snapshots and not domain.active and not operation.snapshots_metadata:
        raise sdk_error(Reason.WRONG_STATE, f"Requested operation is not valid: cannot delete inactive domain with {len(domain.snapshots)} snapshots")
    effects.undefine(hypervisor, domain)


async def managed_save(hypervisor: SimHypervisor, job: JobHandle, operation: ops.ManagedSave) -> None:
    """Write a guest's memory and end it; it stands still meanwhile. Faults at step 1 (before memory is written) and 2 (after)."""
    if not active(hypervisor, operation.uuid).persistent:
        raise sdk_error(Reason.WRONG_STATE, "Requested operation is not valid: cannot do managed save for transient domain")
    domain, ran = await written(hypervisor, job, operation.uuid, "ManagedSave")
    paused = operation.after_restore == "paused" or (operation.after_restore != "running" and not ran)
    domain.image = SaveImage(paused=paused, document=domain.definition, saved_at=hypervisor.wall())
    effects.stop(hypervisor, domain, "saved")
    hypervisor.emit(domain.uuid, Change.JOB, "completed")


async def written(hypervisor: SimHypervisor, job: JobHandle, uuid: str, verb: str) -> tuple[SimDomain, bool]:
    """Write a guest's memory, while it stands still. The domain, and whether it ran before. It runs on where this fails."""
    domain = active(hypervisor, uuid)
    await hypervisor.monitor(uuid)
    run, options = active(hypervisor, uuid).id, hypervisor.options
    support, total = row(options.shape, verb), domain.definition.config.memory_bytes
    ran = domain.state is State.RUNNING
    if ran:
        effects.pause(hypervisor, domain, "save")
    try:
        await job.strike(1)
        await job.spend(options.save_seconds, total, abortable=support.abortable, progress=support.progress)
        await job.strike(2)
        active(hypervisor, uuid, run)
    except BaseException:
        if ran and same_run(hypervisor, domain, run) and domain.reason == "save":
            effects.unpause(hypervisor, domain, "save_canceled")
        raise
    return domain, ran


def _with_present(hypervisor: SimHypervisor, operation: ops.Define) -> str:
    if not operation.merge:
        return operation.xml
    patch, known = parse(operation.xml, "domain"), hypervisor.domains.get(operation.uuid)
    return merging.text(merging.plain(patch)) if known is None else merging.merged_text(known.document.text, patch)


def _document(xml: str) -> Document:
    definition(xml)
    document = Document.given(xml)
    if not document.config.max_memory_bytes:
        raise sdk_error(Reason.XML_INVALID, "the definition has no <memory>")
    return document
