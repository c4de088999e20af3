"""The libvirt calls of operations: definitions, and domains that are made."""

from __future__ import annotations

from typing import Any

import libvirt

from virtrpc_drivers import operations as ops
from virtrpc_drivers.libvirt import flags
from virtrpc_drivers.libvirt.operations.common import DONE, Verb, domain_of
from virtrpc_drivers.values import Outcome


def define(connection: Any, operation: ops.Define) -> Outcome:
    """virDomainDefineXMLFlags, or virDomainDefineXML for hypervisors that have only that."""
    if operation.validate:
        connection.defineXMLFlags(operation.xml, libvirt.VIR_DOMAIN_DEFINE_VALIDATE)
    else:
        connection.defineXML(operation.xml)
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


VERBS: dict[str, Verb] = {
    "Define": define,
    "Create": create,
    "Undefine": undefine,
}
FUNCTIONS: dict[str, str] = {
    "Define": "virDomainDefineXMLFlags",
    "Create": "virDomainCreateXML",
    "Undefine": "virDomainUndefineFlags",
}
