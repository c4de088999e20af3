"""What proves operations: definitions, and domains that are made."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from xml.etree.ElementTree import Element

from virtrpc_drivers import merging
from virtrpc_drivers import operations as ops
from virtrpc_drivers.libvirt import domain_xml
from virtrpc_drivers.libvirt.proofs.common import Proof, Verdict, as_written, shown_by_definition, stored_definition
from virtrpc_drivers.libvirt.proofs.lifecycle import started

Compare = Callable[[Element, Element], bool]


def _defined(domain: Any, operation: ops.Define) -> Verdict:
    shown = bool(domain.isPersistent()) and _is_as_sent(domain, operation, merging.applied if operation.merge else domain_xml.contains)
    return Verdict(shown, "the stored definition is what was sent" if shown else "the stored definition differs from what was sent")


def _created(domain: Any, operation: ops.Create) -> Verdict:
    verdict = started(domain, operation)
    # What a running guest was made from cannot be compared: its balloon, ports and aliases stand in its definition by now.
    if domain.isPersistent() or domain.name() != operation.name:
        return Verdict(False, f"{verdict.evidence}, and is not the one that was sent")
    return verdict


def _is_as_sent(domain: Any, operation: ops.Define, as_sent: Compare) -> bool:
    stored = domain_xml.element(stored_definition(domain))
    return as_sent(stored, as_written(domain, operation.xml, stored))


def _undefined(domain: Any, _operation: ops.Operation) -> Verdict:
    persistent = bool(domain.isPersistent())
    return Verdict(not persistent, f"the domain is {'still' if persistent else 'no longer'} defined")


def _renamed(domain: Any, operation: ops.Rename) -> Verdict:
    return Verdict(domain.name() == operation.name, f"the domain is called {domain.name()}")


def _autostart_set(domain: Any, operation: ops.SetAutostart) -> Verdict:
    autostart = bool(domain.autostart())
    return Verdict(autostart == operation.autostart, f"its autostart is {'on' if autostart else 'off'}")


PROOFS: dict[str, Proof] = {
    "Rename": _renamed,
    "SetMetadata": shown_by_definition("SetMetadata"),
    "SetAutostart": _autostart_set,
    "Define": _defined,
    "Create": _created,
    "Undefine": _undefined,
}
