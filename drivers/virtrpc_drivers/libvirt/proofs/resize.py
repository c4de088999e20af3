"""What proves operations: the size of disks; what is watched for is only in statistics."""

from __future__ import annotations

from typing import Any

from virtrpc_drivers import operations as ops
from virtrpc_drivers.libvirt.proofs.common import Proof, Verdict, not_provable


def _resized(domain: Any, operation: ops.ResizeBlock) -> Verdict:
    capacity: int = domain.blockInfo(operation.device)[0]
    # An image format rounds up.
    shown = 0 <= capacity - operation.capacity_bytes < 1 << 20
    return Verdict(shown, f"disk {operation.device} has {capacity} bytes")


PROOFS: dict[str, Proof] = {
    "ResizeBlock": _resized,
    "SetBlockThreshold": not_provable,
}
