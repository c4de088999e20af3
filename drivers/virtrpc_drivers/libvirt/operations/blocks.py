"""The libvirt calls of operations: block jobs. Each call returns once the job has begun."""

from __future__ import annotations

from typing import Any

import libvirt

from virtrpc_drivers import operations as ops
from virtrpc_drivers.libvirt import blocks, flags
from virtrpc_drivers.libvirt.operations.common import DONE, Verb, domain_of
from virtrpc_drivers.values import Outcome


def pull_block(connection: Any, operation: ops.PullBlock) -> Outcome:
    """virDomainBlockPull, virDomainBlockRebase."""
    domain, disk, bandwidth = domain_of(connection, operation), operation.disk, operation.bandwidth_bytes_per_second
    blocks.find_free(domain, disk)
    if operation.base:
        domain.blockRebase(disk, operation.base, bandwidth, libvirt.VIR_DOMAIN_BLOCK_REBASE_BANDWIDTH_BYTES)
    else:
        domain.blockPull(disk, bandwidth, libvirt.VIR_DOMAIN_BLOCK_PULL_BANDWIDTH_BYTES)
    return DONE


def copy_block(connection: Any, operation: ops.CopyBlock) -> Outcome:
    """virDomainBlockCopy."""
    domain = domain_of(connection, operation)
    blocks.find_free(domain, operation.disk)
    wanted = {
        libvirt.VIR_DOMAIN_BLOCK_COPY_BANDWIDTH: operation.bandwidth_bytes_per_second,
        libvirt.VIR_DOMAIN_BLOCK_COPY_GRANULARITY: operation.granularity_bytes,
        libvirt.VIR_DOMAIN_BLOCK_COPY_BUF_SIZE: operation.buffer_bytes,
    }
    domain.blockCopy(operation.disk, operation.xml, {name: value for name, value in wanted.items() if value}, flags.copy_block(operation))
    return DONE


def commit_block(connection: Any, operation: ops.CommitBlock) -> Outcome:
    """virDomainBlockCommit."""
    domain = domain_of(connection, operation)
    blocks.find_free(domain, operation.disk)
    bandwidth = operation.bandwidth_bytes_per_second
    # libvirt demands the flag for the active image, and refuses it for any other.
    active = not operation.top or operation.top == blocks.active_file(domain, operation.disk)
    domain.blockCommit(operation.disk, operation.base or None, operation.top or None, bandwidth, flags.commit_block(operation, active=active))
    return DONE


VERBS: dict[str, Verb] = {
    "PullBlock": pull_block,
    "CopyBlock": copy_block,
    "CommitBlock": commit_block,
}
FUNCTIONS: dict[str, str] = {
    "PullBlock": "virDomainBlockPull",
    "CopyBlock": "virDomainBlockCopy",
    "CommitBlock": "virDomainBlockCommit",
}
