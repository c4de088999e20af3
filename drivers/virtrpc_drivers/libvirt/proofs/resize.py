"""What proves operations: the size of disks, and how far they may be written until somebody is told."""

from __future__ import annotations

from typing import Any

import libvirt

from virtrpc_drivers import operations as ops
from virtrpc_drivers.libvirt.proofs.common import Proof, Verdict

_SECTOR = 512


def _resized(domain: Any, operation: ops.ResizeBlock) -> Verdict:
    capacity: int = domain.blockInfo(operation.device)[0]
    # libvirt and image formats round up to whole sectors.
    return Verdict(0 <= capacity - operation.capacity_bytes < _SECTOR, f"disk {operation.device} has {capacity} bytes")


def _watched(domain: Any, operation: ops.SetBlockThreshold) -> Verdict:
    wanted = libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_BACKING if operation.device.endswith("]") else 0
    ((_, fields),) = domain.connect().domainListGetStats([domain], libvirt.VIR_DOMAIN_STATS_BLOCK, wanted)
    rows = [f"block.{number}." for number in range(fields.get("block.count", 0))]
    found = next((row for row in rows if operation.device in (fields.get(f"{row}name"), _layer(fields, row))), None)
    if found is None:
        return Verdict(False, f"the guest has no disk {operation.device}")
    # libvirt tells of none that is 0, and forgets one that was reached.
    offset = fields.get(f"{found}threshold", 0)
    return Verdict(offset == operation.threshold_bytes, f"disk {operation.device} is watched for {offset or 'no'} bytes")


def _layer(fields: dict[str, Any], row: str) -> str:
    return f"{fields.get(f'{row}name')}[{fields.get(f'{row}backingIndex')}]"


PROOFS: dict[str, Proof] = {
    "ResizeBlock": _resized,
    "SetBlockThreshold": _watched,
}
