"""What proofs share: a verdict, and readings that several need."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from xml.etree.ElementTree import Element

import libvirt

from virtrpc_drivers import operations as ops
from virtrpc_drivers.errors import Reason, failure
from virtrpc_drivers.libvirt import domain_xml
from virtrpc_drivers.libvirt.operations import DONE
from virtrpc_drivers.libvirt.readings import optional, state_of
from virtrpc_drivers.shown import SHOWN
from virtrpc_drivers.values import Outcome


@dataclass(frozen=True)
class Verdict:
    """What a look at the domain proves: success, or nothing but this evidence."""

    proven: bool
    evidence: str
    outcome: Outcome = DONE


Proof = Callable[[Any, Any], Verdict]
"""(domain, operation): blocking reads, on a lane's thread."""


def state_text(domain: Any) -> str:
    """The domain's state in words, as evidence."""
    state, reason = state_of(domain)
    return f"the domain is {state} ({reason})"


def definitions(domain: Any, scope: ops.Scope) -> list[str]:
    """The XML texts, with secrets, that a change with this scope must show in. Raises WRONG_STATE where the domain lacks one of them."""
    active = bool(domain.isActive())
    live = scope in (ops.Scope.LIVE, ops.Scope.BOTH) or (scope is ops.Scope.CURRENT and active)
    config = scope in (ops.Scope.CONFIG, ops.Scope.BOTH) or (scope is ops.Scope.CURRENT and not active)
    # libvirt answers all the same, with the other one.
    if live and not active:
        raise failure(Reason.WRONG_STATE, f"the change was for a guest that runs, and {state_text(domain)}")
    if config and not domain.isPersistent():
        raise failure(Reason.WRONG_STATE, "the change was for a stored definition, and the domain has none")
    texts = [domain.XMLDesc(libvirt.VIR_DOMAIN_XML_SECURE)] if live else []
    return texts + ([stored_definition(domain)] if config else [])


def stored_definition(domain: Any) -> str:
    """The definition as it is stored, of a transient domain as it was made; with secrets, since what was sent may have some."""
    xml: str = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE)
    return xml


def as_written(domain: Any, sent_xml: str, stored: Element) -> Element:
    """What was sent, with what libvirt writes in other words: a machine type's alias, and a number of virtual CPUs that is the maximum."""
    sent = domain_xml.element(sent_xml)
    vcpu, machine, written = sent.find("vcpu"), sent.find("os/type[@machine]"), stored.find("os/type[@machine]")
    if vcpu is not None and vcpu.get("current") == (vcpu.text or "").strip():
        del vcpu.attrib["current"]
    if machine is not None and written is not None and machine.attrib["machine"] != written.attrib["machine"]:
        asked = (stored.findtext("devices/emulator"), written.get("arch"), machine.attrib["machine"], stored.get("type"))
        machine.set("machine", _canonical(domain, asked) or machine.attrib["machine"])
    return sent


def _canonical(domain: Any, asked: tuple[str | None, ...]) -> str | None:
    """What the domain's own emulator calls a machine type: the host's capabilities would be asked of every emulator, which took 38 s."""
    described = optional(lambda: domain.connect().getDomainCapabilities(*asked, 0))
    return domain_xml.element(described).findtext("machine") if described else None


def shown_by_definition(verb: str) -> Proof:
    """The proof that each definition which the scope names shows an operation."""

    def proof(domain: Any, operation: Any) -> Verdict:
        shown = [SHOWN[verb](domain_xml.element(xml), operation) for xml in definitions(domain, operation.scope)]
        return Verdict(all(shown), "its definition shows it" if all(shown) else "its definition does not show it")

    return proof
