"""The libvirt calls of operations: devices."""

from __future__ import annotations

from typing import Any

import libvirt
from msgspec.structs import replace

from virtrpc_drivers import operations as ops
from virtrpc_drivers.errors import DriverError, Reason
from virtrpc_drivers.libvirt import flags
from virtrpc_drivers.libvirt.errors import fault_of
from virtrpc_drivers.libvirt.operations.common import DONE, Verb, domain_of
from virtrpc_drivers.libvirt.operations.present import device_calls
from virtrpc_drivers.values import Outcome


def attach_device(connection: Any, operation: ops.AttachDevice) -> Outcome:
    """virDomainAttachDeviceFlags. Raises ALREADY_EXISTS where the target is taken: libvirt has three codes for that."""
    try:
        domain_of(connection, operation).attachDeviceFlags(operation.xml, flags.scope(operation.scope))
    except libvirt.libvirtError as error:
        if "already exists" in str(error) or ("duplicated" in str(error) and error.get_error_code() == libvirt.VIR_ERR_XML_ERROR):
            raise DriverError(replace(fault_of(error), reason=Reason.ALREADY_EXISTS)) from None
        raise
    return DONE


def detach_device(connection: Any, operation: ops.DetachDevice) -> Outcome:
    """virDomainDetachDeviceFlags: on a running guest it only asks."""
    domain = domain_of(connection, operation)
    for xml, scope in device_calls(domain, operation):
        domain.detachDeviceFlags(xml, scope)
    return DONE


def update_device(connection: Any, operation: ops.UpdateDevice) -> Outcome:
    """virDomainUpdateDeviceFlags."""
    force = flags.union((operation.force, libvirt.VIR_DOMAIN_DEVICE_MODIFY_FORCE))
    domain = domain_of(connection, operation)
    for xml, scope in device_calls(domain, operation):
        domain.updateDeviceFlags(xml, scope | force)
    return DONE


VERBS: dict[str, Verb] = {
    "AttachDevice": attach_device,
    "DetachDevice": detach_device,
    "UpdateDevice": update_device,
}
FUNCTIONS: dict[str, str] = {
    "AttachDevice": "virDomainAttachDeviceFlags",
    "DetachDevice": "virDomainDetachDeviceFlags",
    "UpdateDevice": "virDomainUpdateDeviceFlags",
}
