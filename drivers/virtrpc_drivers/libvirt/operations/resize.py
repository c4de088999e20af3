"""The libvirt calls of operations: the size of disks, and when they need more."""

from __future__ import annotations

from typing import Any

import libvirt

from virtrpc_drivers import operations as ops
from virtrpc_drivers.libvirt.operations.common import DONE, Verb, domain_of
from virtrpc_drivers.values import Outcome


def resize_block(connection: Any, operation: ops.ResizeBlock) -> Outcome:
    """virDomainBlockResize."""
    domain_of(connection, operation).blockResize(operation.device, operation.capacity_bytes, libvirt.VIR_DOMAIN_BLOCK_RESIZE_BYTES)
    return DONE


def set_block_threshold(connection: Any, operation: ops.SetBlockThreshold) -> Outcome:
    """virDomainSetBlockThreshold."""
    domain_of(connection, operation).setBlockThreshold(operation.device, operation.threshold_bytes, 0)
    return DONE


VERBS: dict[str, Verb] = {
    "ResizeBlock": resize_block,
    "SetBlockThreshold": set_block_threshold,
}
FUNCTIONS: dict[str, str] = {
    "ResizeBlock": "virDomainBlockResize",
}
