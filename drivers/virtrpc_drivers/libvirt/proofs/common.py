"""What proofs share: a verdict, and readings that several need."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from xml.etree.ElementTree import Element

import libvirt

from virtrpc_drivers import operations as ops
from virtrpc_drivers.libvirt import domain_xml
from virtrpc_drivers.libvirt.operations import DONE
from virtrpc_drivers.libvirt.readings import state_of
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
    """The XML texts that a change with this scope must show in."""
    active = bool(domain.isActive())
    live = scope in (ops.Scope.LIVE, ops.Scope.BOTH) or (scope is ops.Scope.CURRENT and active)
    config = scope in (ops.Scope.CONFIG, ops.Scope.BOTH) or (scope is ops.Scope.CURRENT and not active)
    texts = [domain.XMLDesc(0)] if live else []
    return texts + ([domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)] if config else [])


def shows(of: Callable[[Element, Any], bool]) -> Proof:
    """The proof that each definition which the scope names shows an operation."""

    def proof(domain: Any, operation: Any) -> Verdict:
        shown = [of(domain_xml.element(xml), operation) for xml in definitions(domain, operation.scope)]
        return Verdict(all(shown), "its definition shows it" if all(shown) else "its definition does not show it")

    return proof


def not_provable(domain: Any, _operation: ops.Operation) -> Verdict:
    """Of an operation that leaves nothing to be read."""
    return Verdict(False, f"nothing that can be read shows it; {state_text(domain)}")
