"""What proves operations: devices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from xml.etree import ElementTree

from virtrpc_drivers import merging
from virtrpc_drivers import operations as ops
from virtrpc_drivers.libvirt import domain_xml
from virtrpc_drivers.libvirt.proofs.common import Proof, Verdict, definitions

Compare = Callable[[ElementTree.Element, ElementTree.Element], bool]


def _attached(domain: Any, operation: ops.AttachDevice) -> Verdict:
    found = [domain_xml.identified(xml, operation.xml) for xml in definitions(domain, operation.scope)]
    if None in found:
        # Another one that is just the same may have been there before.
        return Verdict(False, "no device is there that could only be the one that was sent")
    return _as_sent(found, operation.xml)


def _updated(domain: Any, operation: ops.UpdateDevice) -> Verdict:
    found = [_updatable(xml, operation.xml) for xml in definitions(domain, operation.scope)]
    return _as_sent(found, operation.xml, merging.applied if operation.merge else domain_xml.contains)


def _updatable(xml: str, device: str) -> ElementTree.Element | None:
    found = domain_xml.identified(xml, device)
    return found if found is not None else domain_xml.only_one(xml, device)


def _as_sent(found: Sequence[ElementTree.Element | None], device: str, as_sent: Compare = domain_xml.contains) -> Verdict:
    sent = domain_xml.element(device)
    shown = all(one is not None and as_sent(one, sent) for one in found)
    return Verdict(shown, f"the device is {'there' if shown else 'not there as it was sent'}")


def _detached(domain: Any, operation: ops.DetachDevice) -> Verdict:
    shown = all(domain_xml.matching(xml, operation.xml) is None for xml in definitions(domain, operation.scope))
    return Verdict(shown, f"the device is {'gone' if shown else 'still there'}")


PROOFS: dict[str, Proof] = {
    "AttachDevice": _attached,
    "DetachDevice": _detached,
    "UpdateDevice": _updated,
}
