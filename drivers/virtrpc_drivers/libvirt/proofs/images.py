"""What proves operations: the definitions inside images of saved guests."""

from __future__ import annotations

from typing import Any

from virtrpc_drivers import operations as ops
from virtrpc_drivers.libvirt import domain_xml
from virtrpc_drivers.libvirt.operations import DONE
from virtrpc_drivers.libvirt.operations.files import save_image
from virtrpc_drivers.libvirt.operations.images import managed_save_image
from virtrpc_drivers.libvirt.proofs.common import Proof, Verdict, as_written
from virtrpc_drivers.values import Outcome


def _save_image_defined(domain: Any, operation: ops.DefineSaveImage) -> Verdict:
    return _judged(domain, save_image(domain.connect(), operation.path).xml, operation, Outcome(path=operation.path))


def _managed_save_image_defined(domain: Any, operation: ops.DefineManagedSaveImage) -> Verdict:
    return _judged(domain, managed_save_image(domain.connect(), operation.uuid).xml, operation, DONE)


def _judged(domain: Any, image_xml: str, operation: ops.DefineSaveImage | ops.DefineManagedSaveImage, outcome: Outcome) -> Verdict:
    image = domain_xml.element(image_xml)
    shown = domain_xml.contains(image, as_written(domain, operation.xml, image))
    text = f"the image's definition {'is' if shown else 'differs from'} what was sent"
    if operation.after_restore:
        return Verdict(False, f"{text}; whether its guest is to be {operation.after_restore} cannot be read")
    return Verdict(shown, text, outcome)


PROOFS: dict[str, Proof] = {
    "DefineSaveImage": _save_image_defined,
    "DefineManagedSaveImage": _managed_save_image_defined,
}
