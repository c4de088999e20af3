"""The definitions inside images of saved guests."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from virtrpc_drivers import operations as ops
from virtrpc_drivers.errors import Reason
from virtrpc_drivers.sim import files
from virtrpc_drivers.sim.domain import SaveImage as Memory
from virtrpc_drivers.sim.sdk import JobHandle, sdk_error
from virtrpc_drivers.sim.xmldoc import Document
from virtrpc_drivers.values import Outcome, SaveImage

if TYPE_CHECKING:
    from virtrpc_drivers.sim.hypervisor import SimHypervisor


async def define_save_image(hypervisor: SimHypervisor, job: JobHandle, operation: ops.DefineSaveImage) -> Outcome:
    """Change a file's definition. Raises INVALID_ARGUMENT where it holds another domain, OPERATION_FAILED where it holds none."""
    await job.strike(1)
    image, memory = files.read(hypervisor, operation.path), files.memory_in(hypervisor, operation.path)
    if image.uuid != operation.uuid:
        words = f"the image {operation.path!r} does not hold {operation.name} ({operation.uuid}): GetSaveImage tells whose it is"
        raise sdk_error(Reason.INVALID_ARGUMENT, words)
    hypervisor.files[operation.path] = operation.uuid, _changed(memory, operation)
    return Outcome(path=operation.path)


async def define_managed_save_image(hypervisor: SimHypervisor, job: JobHandle, operation: ops.DefineManagedSaveImage) -> None:
    """Change the definition in a domain's image. Raises WRONG_STATE where there is none, INVALID_ARGUMENT where it is another's."""
    await job.strike(1)
    hypervisor.domain(operation.uuid).image = _changed(_image(hypervisor, operation.uuid), operation)


def managed_save_image(hypervisor: SimHypervisor, uuid: str) -> SaveImage:
    """The definition in a domain's image, without secrets. Raises WRONG_STATE where there is none."""
    return SaveImage(uuid=uuid, name=hypervisor.domain(uuid).name, xml=_image(hypervisor, uuid).document.public().text)


def _image(hypervisor: SimHypervisor, uuid: str) -> Memory:
    image = hypervisor.domain(uuid).image
    if image is None:
        raise sdk_error(Reason.WRONG_STATE, "the domain has no managed save image")
    return image


def _changed(memory: Memory, operation: ops.DefineSaveImage | ops.DefineManagedSaveImage) -> Memory:
    document, paused = Document.given(operation.xml), operation.after_restore == "paused" or (memory.paused and not operation.after_restore)
    if document.name != memory.document.name:
        raise sdk_error(Reason.INVALID_ARGUMENT, f"Target domain name '{document.name}' does not match source '{memory.document.name}'")
    return replace(memory, document=document, paused=paused)
