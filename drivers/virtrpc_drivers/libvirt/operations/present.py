"""What is there when a change is made: patches are merged into it, secrets included, so that nothing is lost that they do not speak of."""

from __future__ import annotations

from typing import Any

import libvirt

from virtrpc_drivers import merging
from virtrpc_drivers import operations as ops
from virtrpc_drivers.errors import Reason, failure
from virtrpc_drivers.xml import parse


def with_present(connection: Any, operation: ops.Define) -> str:
    """The stored definition with what the operation says; what it says where the domain is not there."""
    patch = parse(operation.xml, "domain")
    try:
        present = connection.lookupByUUIDString(operation.uuid).XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE)
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
            raise
        return merging.text(merging.plain(patch))
    return merging.merged_text(present, patch)


def with_present_device(domain: Any, operation: ops.UpdateDevice | ops.DetachDevice) -> str:
    """The operation's device as it is to be sent: one to merge is the present one with what is said of it. Raises DEVICE_NOT_FOUND."""
    if not operation.merge:
        return operation.xml
    patch = parse(operation.xml)
    devices = parse(domain.XMLDesc(_form(domain, operation.scope))).find("devices")
    present = None if devices is None else merging.device(devices, patch)
    if present is None:
        raise failure(Reason.DEVICE_NOT_FOUND, f"domain {domain.name()} has no {merging.meaning(patch)}")
    return merging.text(present if patch.tag == merging.ANY_DEVICE else merging.merged(present, patch))


def _form(domain: Any, scope: ops.Scope) -> int:
    stored = scope is ops.Scope.CONFIG or (scope is ops.Scope.CURRENT and not domain.isActive())
    return int(libvirt.VIR_DOMAIN_XML_SECURE | (libvirt.VIR_DOMAIN_XML_INACTIVE if stored else 0))
