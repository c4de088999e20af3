"""What proves operations: definitions, and domains that are made."""

from __future__ import annotations

import copy
from typing import Any
from xml.etree import ElementTree

import libvirt

from virtrpc_drivers import merging
from virtrpc_drivers import operations as ops
from virtrpc_drivers.libvirt import domain_xml
from virtrpc_drivers.libvirt.proofs.common import Proof, Verdict, definitions
from virtrpc_drivers.libvirt.proofs.lifecycle import started
from virtrpc_drivers.metadata import metadata, with_metadata
from virtrpc_drivers.values import Metadata


def _defined(domain: Any, operation: ops.Define) -> Verdict:
    stored = domain_xml.element(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))
    sent, as_sent = domain_xml.element(operation.xml), merging.applied if operation.merge else domain_xml.contains
    shown = bool(domain.isPersistent()) and as_sent(stored, sent)
    return Verdict(shown, "the stored definition is what was sent" if shown else "the stored definition differs from what was sent")


def _undefined(domain: Any, _operation: ops.Operation) -> Verdict:
    persistent = bool(domain.isPersistent())
    return Verdict(not persistent, f"the domain is {'still' if persistent else 'no longer'} defined")


def _renamed(domain: Any, operation: ops.Rename) -> Verdict:
    return Verdict(domain.name() == operation.name, f"the domain is called {domain.name()}")


def _metadata_set(domain: Any, operation: ops.SetMetadata) -> Verdict:
    # As it would be, had it been set: then setting it changes nothing.
    roots = [domain_xml.element(xml) for xml in definitions(domain, operation.scope)]
    shown = all(_metadata_with(root, operation) == metadata(root) for root in roots)
    return Verdict(shown, f"its {operation.kind} is {'as' if shown else 'not what'} was sent")


def _metadata_with(root: ElementTree.Element, operation: ops.SetMetadata) -> Metadata:
    changed = copy.deepcopy(root)
    with_metadata(changed, operation.kind, operation.value, operation.uri)
    return metadata(changed)


def _autostart_set(domain: Any, operation: ops.SetAutostart) -> Verdict:
    autostart = bool(domain.autostart())
    return Verdict(autostart == operation.autostart, f"its autostart is {'on' if autostart else 'off'}")


PROOFS: dict[str, Proof] = {
    "Rename": _renamed,
    "SetMetadata": _metadata_set,
    "SetAutostart": _autostart_set,
    "Define": _defined,
    "Create": started,
    "Undefine": _undefined,
}
