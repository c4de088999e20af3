"""Operations: the devices of a domain."""

from __future__ import annotations

from virtrpc_drivers.operations.base import Operation, Scope


class AttachDevice(Operation, frozen=True):
    """virDomainAttachDeviceFlags."""

    xml: str
    scope: Scope = Scope.CURRENT


class DetachDevice(Operation, frozen=True):
    """virDomainDetachDeviceFlags; live, done when the guest has let the device go."""

    xml: str
    scope: Scope = Scope.CURRENT


class UpdateDevice(Operation, frozen=True):
    """virDomainUpdateDeviceFlags; `force` ejects a medium that the guest has locked."""

    xml: str
    scope: Scope = Scope.CURRENT
    force: bool = False


AnyDevices = AttachDevice | DetachDevice | UpdateDevice
