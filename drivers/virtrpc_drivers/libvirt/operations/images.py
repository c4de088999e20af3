"""The libvirt calls of operations: the definitions inside images of saved guests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import libvirt
from msgspec.structs import replace

from virtrpc_drivers import operations as ops
from virtrpc_drivers.errors import DriverError, Reason, failure
from virtrpc_drivers.libvirt import domain_xml, flags
from virtrpc_drivers.libvirt.errors import fault_of
from virtrpc_drivers.libvirt.operations.common import DONE, Verb, domain_of
from virtrpc_drivers.libvirt.operations.files import save_image
from virtrpc_drivers.values import Outcome, SaveImage


def define_save_image(connection: Any, operation: ops.DefineSaveImage) -> Outcome:
    """virDomainSaveImageDefineXML, of the domain that was named alone. Raises INVALID_ARGUMENT where the image is another's."""
    image = save_image(connection, operation.path)
    if image.uuid != operation.uuid:
        words = f"the image {operation.path!r} does not hold {operation.name} ({operation.uuid}): GetSaveImage tells whose it is"
        raise failure(Reason.INVALID_ARGUMENT, words)
    with _judged():
        connection.saveImageDefineXML(operation.path, operation.xml, flags.after_save(operation.after_restore))
    return Outcome(path=operation.path)


def define_managed_save_image(connection: Any, operation: ops.DefineManagedSaveImage) -> Outcome:
    """virDomainManagedSaveDefineXML. Raises WRONG_STATE where the domain runs or has no image."""
    domain = with_image(domain_of(connection, operation))
    with _judged():
        domain.managedSaveDefineXML(operation.xml, flags.after_save(operation.after_restore))
    return DONE


def managed_save_image(connection: Any, uuid: str) -> SaveImage:
    """virDomainManagedSaveGetXMLDesc, without secrets. Raises WRONG_STATE where there is no image."""
    domain = with_image(connection.lookupByUUIDString(uuid))
    return SaveImage(uuid=uuid, name=domain.name(), xml=domain_xml.without_secrets(domain.managedSaveGetXMLDesc(0)))


def with_image(domain: Any) -> Any:
    """The domain, which has a managed-save image: libvirt calls a missing one an I/O error."""
    if not domain.hasManagedSaveImage(0):
        raise failure(Reason.WRONG_STATE, "the domain has no managed save image")
    return domain


@contextmanager
def _judged() -> Iterator[None]:
    """A definition that differs in what a guest can see is INVALID_ARGUMENT: libvirt calls it an unsupported configuration."""
    try:
        yield
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_CONFIG_UNSUPPORTED:
            raise DriverError(replace(fault_of(error), reason=Reason.INVALID_ARGUMENT)) from None
        raise


VERBS: dict[str, Verb] = {
    "DefineSaveImage": define_save_image,
    "DefineManagedSaveImage": define_managed_save_image,
}
FUNCTIONS: dict[str, str] = {
    "DefineSaveImage": "virDomainSaveImageDefineXML",
    "DefineManagedSaveImage": "virDomainManagedSaveDefineXML",
}
