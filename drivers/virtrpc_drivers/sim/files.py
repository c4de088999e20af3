"""The verbs that write a guest's memory to a file, and read it back. The files are the hypervisor's own, and never on a disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

from virtrpc_drivers import leads
from virtrpc_drivers import operations as ops
from virtrpc_drivers.errors import Reason
from virtrpc_drivers.protocol import Change
from virtrpc_drivers.sim import effects, lifecycle
from virtrpc_drivers.sim.checks import active, same_run
from virtrpc_drivers.sim.domain import SaveImage as Memory
from virtrpc_drivers.sim.domain import SimDomain
from virtrpc_drivers.sim.sdk import JobHandle, sdk_error
from virtrpc_drivers.sim.shapes import row
from virtrpc_drivers.sim.xmldoc import Document
from virtrpc_drivers.values import Outcome, SaveImage, State

if TYPE_CHECKING:
    from virtrpc_drivers.sim.hypervisor import SimHypervisor


async def save(hypervisor: SimHypervisor, job: JobHandle, operation: ops.Save) -> Outcome:
    """Write a guest's memory to a file and end it. Faults as for a managed save."""
    absent(hypervisor, operation.path, overwrite=operation.overwrite)
    domain, ran = await lifecycle.written(hypervisor, job, operation.uuid, "Save")
    paused = operation.after_restore == "paused" or (operation.after_restore != "running" and not ran)
    document = Document.given(operation.xml) if operation.xml else domain.definition
    hypervisor.files[operation.path] = domain.uuid, Memory(paused=paused, document=document, saved_at=hypervisor.wall())
    effects.stop(hypervisor, domain, "saved")
    hypervisor.emit(domain.uuid, Change.JOB, "completed")
    return Outcome(path=operation.path)


async def restore(hypervisor: SimHypervisor, job: JobHandle, operation: ops.Restore) -> Outcome:
    """Bring a domain back from a file. Raises INVALID_ARGUMENT where it holds another, WRONG_STATE, ALREADY_EXISTS."""
    image, memory = read(hypervisor, operation.path), memory_in(hypervisor, operation.path)
    if image.uuid != operation.uuid or (not operation.xml and image.name != operation.name):
        words = f"the image {operation.path!r} does not hold {operation.name} ({operation.uuid}): GetSaveImage tells whose it is"
        raise sdk_error(Reason.INVALID_ARGUMENT, words)
    leads.hold_image(operation.trail, operation.path, image)
    effects.check_identity(hypervisor, operation.uuid, operation.name)
    domain = hypervisor.domains.get(operation.uuid)
    if domain is not None and domain.active:
        raise sdk_error(Reason.WRONG_STATE, f"Requested operation is not valid: domain is already active as '{domain.name}'")
    document = Document.given(operation.xml) if operation.xml else memory.document
    made = domain or hypervisor.remember(SimDomain(uuid=operation.uuid, name=operation.name, document=document, persistent=False))
    paused = operation.after == "paused" or (operation.after != "running" and memory.paused)
    try:
        await lifecycle.boot(hypervisor, job, made, paused=paused, image=memory, live=document)
    finally:
        if not made.active and not made.persistent and hypervisor.domains.get(made.uuid) is made:
            hypervisor.forget(made)
    return Outcome(path=operation.path)


async def dump_core(hypervisor: SimHypervisor, job: JobHandle, operation: ops.DumpCore) -> Outcome:
    """Write a guest's memory for a debugger; it stands still meanwhile unless `live`."""
    absent(hypervisor, operation.path, overwrite=operation.overwrite)
    domain = active(hypervisor, operation.uuid)
    await hypervisor.monitor(operation.uuid)
    run, options = active(hypervisor, operation.uuid).id, hypervisor.options
    support, total = row(options.shape, "DumpCore"), domain.definition.config.memory_bytes
    stands = domain.state is State.RUNNING and not operation.live
    if stands:
        effects.pause(hypervisor, domain, "dump")
    try:
        await job.strike(1)
        await job.spend(options.save_seconds, total, abortable=support.abortable and not operation.memory_only, progress=support.progress)
        await job.strike(2)
        active(hypervisor, operation.uuid, run)
    finally:
        if stands and same_run(hypervisor, domain, run) and domain.reason == "dump":
            effects.unpause(hypervisor, domain)
    hypervisor.files[operation.path] = domain.uuid, None
    hypervisor.written[operation.path] = hypervisor.wall()
    if operation.crash:
        effects.stop(hypervisor, domain, "crashed")
    hypervisor.emit(domain.uuid, Change.JOB, "completed")
    return Outcome(path=operation.path)


def read(hypervisor: SimHypervisor, path: str) -> SaveImage:
    """Whose memory a file holds. Raises OPERATION_FAILED where it holds none."""
    memory = memory_in(hypervisor, path)
    return SaveImage(uuid=hypervisor.files[path][0], name=memory.document.name, xml=memory.document.public().text)


def memory_in(hypervisor: SimHypervisor, path: str) -> Memory:
    """The memory in a file. Raises OPERATION_FAILED where it holds none."""
    memory = hypervisor.files.get(path, ("", None))[1]
    if memory is None:
        raise sdk_error(Reason.FAILED, f"Failed to open file '{path}': no complete image")
    return memory


def absent(hypervisor: SimHypervisor, path: str, *, overwrite: bool) -> None:
    """Raises ALREADY_EXISTS where a file would be replaced that nobody said may be."""
    if path in hypervisor.files and not overwrite:
        raise sdk_error(Reason.ALREADY_EXISTS, f"the file {path!r} exists already, and the request does not say that it may be written to")
