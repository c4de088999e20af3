"""The libvirt calls of operations: definitions, and domains that are made."""

from __future__ import annotations

from typing import Any

import libvirt
from msgspec.structs import replace

from virtrpc_drivers import operations as ops
from virtrpc_drivers.errors import DriverError, Reason
from virtrpc_drivers.libvirt import flags
from virtrpc_drivers.libvirt.errors import fault_of
from virtrpc_drivers.libvirt.operations.common import DONE, Verb, domain_of
from virtrpc_drivers.libvirt.operations.present import with_present
from virtrpc_drivers.values import Outcome


def define(connection: Any, operation: ops.Define) -> Outcome:
    """virDomainDefineXMLFlags, or virDomainDefineXML for hypervisors that have only that."""
    xml = with_present(connection, operation) if operation.merge else operation.xml
    if operation.validate:
        connection.defineXMLFlags(xml, libvirt.VIR_DOMAIN_DEFINE_VALIDATE)
    else:
        connection.defineXML(xml)
    return DONE


def create(connection: Any, operation: ops.Create) -> Outcome:
    """virDomainCreateXML."""
    wanted = flags.union((operation.paused, libvirt.VIR_DOMAIN_START_PAUSED), (operation.validate, libvirt.VIR_DOMAIN_START_VALIDATE))
    connection.createXML(operation.xml, wanted)
    return DONE


def undefine(connection: Any, operation: ops.Undefine) -> Outcome:
    """virDomainUndefineFlags."""
    domain = domain_of(connection, operation)
    wanted = flags.undefine(operation)
    if wanted:
        domain.undefineFlags(wanted)
    else:
        domain.undefine()
    return DONE


def rename(connection: Any, operation: ops.Rename) -> Outcome:
    """virDomainRename. Raises ALREADY_EXISTS where another domain has the name: libvirt has only a general code for that."""
    try:
        domain_of(connection, operation).rename(operation.name, 0)
    except libvirt.libvirtError as error:
        if "already exists" in str(error):
            raise DriverError(replace(fault_of(error), reason=Reason.ALREADY_EXISTS)) from None
        raise
    return DONE


def set_metadata(connection: Any, operation: ops.SetMetadata) -> Outcome:
    """virDomainSetMetadata."""
    kind, scope = flags.metadata(operation.kind), flags.scope(operation.scope)
    domain_of(connection, operation).setMetadata(kind, operation.value or None, operation.key or None, operation.uri or None, scope)
    return DONE


def set_autostart(connection: Any, operation: ops.SetAutostart) -> Outcome:
    """virDomainSetAutostart."""
    domain_of(connection, operation).setAutostart(int(operation.autostart))
    return DONE


VERBS: dict[str, Verb] = {
    "Rename": rename,
    "SetMetadata": set_metadata,
    "SetAutostart": set_autostart,
    "Define": define,
    "Create": create,
    "Undefine": undefine,
}
FUNCTIONS: dict[str, str] = {
    "Define": "virDomainDefineXMLFlags",
    "Create": "virDomainCreateXML",
    "Undefine": "virDomainUndefineFlags",
}
