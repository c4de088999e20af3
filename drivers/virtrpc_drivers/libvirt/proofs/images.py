"""What proves operations: the definitions inside images of saved guests."""

from __future__ import annotations

from typing import Any

from virtrpc_drivers import operations as ops
from virtrpc_drivers.libvirt import domain_xml
from virtrpc_drivers.libvirt.operations.files import save_image
from virtrpc_drivers.libvirt.operations.images import managed_save_image
from virtrpc_drivers.libvirt.proofs.common import Proof, Verdict
from virtrpc_drivers.values import Outcome


def _save_image_defined(domain: Any, operation: ops.DefineSaveImage) -> Verdict:
    shown = _shows(save_image(domain.connect(), operation.path).xml, operation.xml)
    return Verdict(shown, _evidence(shown), Outcome(path=operation.path))


def _managed_save_image_defined(domain: Any, operation: ops.DefineManagedSaveImage) -> Verdict:
    shown = _shows(managed_save_image(domain.connect(), operation.uuid).xml, operation.xml)
    return Verdict(shown, _evidence(shown))


def _shows(image_xml: str, xml: str) -> bool:
    return domain_xml.contains(domain_xml.element(image_xml), domain_xml.element(xml))


def _evidence(shown: bool) -> str:
    return f"the image's definition {'is' if shown else 'differs from'} what was sent"


PROOFS: dict[str, Proof] = {
    "DefineSaveImage": _save_image_defined,
    "DefineManagedSaveImage": _managed_save_image_defined,
}
