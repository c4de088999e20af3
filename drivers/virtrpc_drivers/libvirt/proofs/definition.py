"""What proves operations: definitions, and domains that are made."""

from __future__ import annotations

from typing import Any

import libvirt

from virtrpc_drivers import operations as ops
from virtrpc_drivers.libvirt import domain_xml
from virtrpc_drivers.libvirt.proofs.common import Proof, Verdict
from virtrpc_drivers.libvirt.proofs.lifecycle import started


def _defined(domain: Any, operation: ops.Define) -> Verdict:
    stored = domain_xml.element(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))
    shown = bool(domain.isPersistent()) and domain_xml.contains(stored, domain_xml.element(operation.xml))
    return Verdict(shown, "the stored definition is what was sent" if shown else "the stored definition differs from what was sent")


def _undefined(domain: Any, _operation: ops.Operation) -> Verdict:
    persistent = bool(domain.isPersistent())
    return Verdict(not persistent, f"the domain is {'still' if persistent else 'no longer'} defined")


PROOFS: dict[str, Proof] = {
    "Define": _defined,
    "Create": started,
    "Undefine": _undefined,
}
