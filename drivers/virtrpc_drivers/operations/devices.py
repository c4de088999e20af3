"""Operations: the devices of a domain."""

from __future__ import annotations

from virtrpc_drivers.operations.base import Operation, Scope


class AttachDevice(Operation, frozen=True):
    """virDomainAttachDeviceFlags."""

    xml: str
    scope: Scope = Scope.CURRENT


class DetachDevice(Operation, frozen=True):
    """virDomainDetachDeviceFlags; live, done when the guest has let the device go.

    With `merge` the XML only says which device is meant: it is looked up when the call is made.
    """

    xml: str
    scope: Scope = Scope.CURRENT
    merge: bool = False


class UpdateDevice(Operation, frozen=True):
    """virDomainUpdateDeviceFlags; `force` ejects a medium that the guest has locked.

    With `merge` the XML is a patch (see `virtrpc_drivers.merging`) for the device as it is when the call is made.
    """

    xml: str
    scope: Scope = Scope.CURRENT
    force: bool = False
    merge: bool = False


AnyDevices = AttachDevice | DetachDevice | UpdateDevice
