"""What is there when a change is made: patches are merged into it, secrets included, so that nothing is lost that they do not speak of."""

from __future__ import annotations

from typing import Any

import libvirt

from virtrpc_drivers import merging
from virtrpc_drivers import operations as ops
from virtrpc_drivers.errors import Reason, failure
from virtrpc_drivers.libvirt import flags
from virtrpc_drivers.xml import parse


def with_present(connection: Any, operation: ops.Define) -> str:
    """The stored definition with what the operation says; what it says where the domain is not there."""
    patch = parse(operation.xml, "domain")
    try:
        present = connection.lookupByUUIDString(operation.uuid).XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE)
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
            raise
        return merging.text(merging.plain(patch))
    return merging.merged_text(present, patch)


def device_calls(domain: Any, operation: ops.UpdateDevice | ops.DetachDevice) -> tuple[tuple[str, int], ...]:
    """The operation's device as it is to be sent, with the scope of each call; one to merge is the present one with what is said of it.

    The running guest's device and the stored one have different addresses where either was attached later, so that neither can be sent for both:
    the running one comes first, which is refused more often. Raises DEVICE_NOT_FOUND.
    """
    if not operation.merge:
        return ((operation.xml, flags.scope(operation.scope)),)
    patch = parse(operation.xml)
    present = _device(domain, patch, operation.scope)
    if present is None:
        raise failure(Reason.DEVICE_NOT_FOUND, f"domain {domain.name()} has no {merging.meaning(patch)}")
    if operation.scope is ops.Scope.BOTH and domain.isPersistent():
        # An alias that libvirt gave is the running device's alone: the stored one is known by what else that has.
        stored = next((device for known in (patch, present) if (device := _device(domain, known, ops.Scope.CONFIG)) is not None), None)
        if stored is not None:
            return (_changed(present, patch), flags.scope(ops.Scope.LIVE)), (_changed(stored, patch), flags.scope(ops.Scope.CONFIG))
    return ((_changed(present, patch), flags.scope(operation.scope)),)


def _device(domain: Any, patch: merging.Element, scope: ops.Scope) -> merging.Element | None:
    devices = parse(domain.XMLDesc(_form(domain, scope))).find("devices")
    return None if devices is None else merging.device(devices, patch)


def _changed(present: merging.Element, patch: merging.Element) -> str:
    return merging.text(present if patch.tag == merging.ANY_DEVICE else merging.merged(present, patch))


def _form(domain: Any, scope: ops.Scope) -> int:
    stored = scope is ops.Scope.CONFIG or (scope is ops.Scope.CURRENT and not domain.isActive())
    return int(libvirt.VIR_DOMAIN_XML_SECURE | (libvirt.VIR_DOMAIN_XML_INACTIVE if stored else 0))
