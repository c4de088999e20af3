"""Operations: the size of disks."""

from __future__ import annotations

from virtrpc_drivers.operations.base import Operation


class ResizeBlock(Operation, frozen=True):
    """virDomainBlockResize, in bytes. `device` is a disk's target or source."""

    device: str
    capacity_bytes: int


AnyResize = ResizeBlock
