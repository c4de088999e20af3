"""Operations: the size of disks, and when they need more."""

from __future__ import annotations

from virtrpc_drivers.operations.base import Operation


class ResizeBlock(Operation, frozen=True):
    """virDomainBlockResize, in bytes. `device` is a disk's target or source."""

    device: str
    capacity_bytes: int


class SetBlockThreshold(Operation, frozen=True):
    """virDomainSetBlockThreshold: of a disk ("vda") or one of its layers ("vda[2]"); 0 watches no longer."""

    device: str
    threshold_bytes: int


AnyResize = ResizeBlock | SetBlockThreshold
