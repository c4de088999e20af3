"""The libvirt calls of operations: memory that goes to a file, and comes back."""

from __future__ import annotations

from typing import Any

import libvirt

from virtrpc_drivers import leads
from virtrpc_drivers import operations as ops
from virtrpc_drivers.errors import Reason, failure
from virtrpc_drivers.libvirt import domain_xml, flags
from virtrpc_drivers.libvirt.operations.common import Verb, domain_of
from virtrpc_drivers.values import Outcome, SaveImage


def save(connection: Any, operation: ops.Save) -> Outcome:
    """virDomainSaveFlags, or virDomainSave for hypervisors that have only that."""
    domain = domain_of(connection, operation)
    wanted = flags.after_save(operation.after_restore) | flags.union((operation.bypass_cache, libvirt.VIR_DOMAIN_SAVE_BYPASS_CACHE))
    if wanted or operation.xml:
        domain.saveFlags(operation.path, operation.xml or None, wanted)
    else:
        domain.save(operation.path)
    return Outcome(path=operation.path)


def restore(connection: Any, operation: ops.Restore) -> Outcome:
    """virDomainRestoreFlags, of the domain that was named alone. Raises INVALID_ARGUMENT where the image is another's.

    Where the hypervisor does not tell whose an image is (Xen), one that was another's is restored, and FAILED says so.
    """
    image = _image_if_told(connection, operation.path)
    if image and (image.uuid != operation.uuid or (not operation.xml and image.name != operation.name)):
        # Whose it is may not be the caller's business.
        words = f"the image {operation.path!r} does not hold {operation.name} ({operation.uuid}): GetSaveImage tells whose it is"
        raise failure(Reason.INVALID_ARGUMENT, words)
    if image:
        leads.hold_image(operation.trail, operation.path, image)
    wanted = flags.after_save(operation.after) | flags.union((operation.bypass_cache, libvirt.VIR_DOMAIN_SAVE_BYPASS_CACHE))
    if wanted or operation.xml:
        connection.restoreFlags(operation.path, operation.xml or None, wanted)
    else:
        connection.restore(operation.path)
    if not image and not _runs(connection, operation.uuid):
        raise failure(Reason.FAILED, f"the image {operation.path!r} was restored and did not hold {operation.name} ({operation.uuid})")
    return Outcome(path=operation.path)


def _image_if_told(connection: Any, path: str) -> SaveImage | None:
    try:
        return save_image(connection, path)
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_SUPPORT:
            return None
        raise


def _runs(connection: Any, uuid: str) -> bool:
    try:
        return bool(connection.lookupByUUIDString(uuid).isActive())
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return False
        raise


def save_image(connection: Any, path: str) -> SaveImage:
    """virDomainSaveImageGetXMLDesc: whose memory a file holds; without secrets."""
    xml: str = connection.saveImageGetXMLDesc(path, 0)
    root = domain_xml.element(xml)
    return SaveImage(uuid=(root.findtext("uuid") or "").lower(), name=root.findtext("name") or "", xml=xml)


def dump_core(connection: Any, operation: ops.DumpCore) -> Outcome:
    """virDomainCoreDumpWithFormat, or virDomainCoreDump where the format is raw."""
    domain = domain_of(connection, operation)
    wanted = flags.dump_core(operation)
    if operation.format == "raw":
        domain.coreDump(operation.path, wanted)
    else:
        domain.coreDumpWithFormat(operation.path, flags.core_format(operation.format), wanted)
    return Outcome(path=operation.path)


VERBS: dict[str, Verb] = {
    "Save": save,
    "Restore": restore,
    "DumpCore": dump_core,
}
FUNCTIONS: dict[str, str] = {
    "Save": "virDomainSaveFlags",
    "Restore": "virDomainRestoreFlags",
    "DumpCore": "virDomainCoreDumpWithFormat",
}
