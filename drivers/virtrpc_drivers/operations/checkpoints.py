"""Operations: checkpoints."""

from __future__ import annotations

from virtrpc_drivers.operations.base import Operation


class CreateCheckpoint(Operation, frozen=True):
    """virDomainCheckpointCreateXML. The name was chosen before it came here, so that it can be looked for."""

    name: str
    xml: str
    quiesce: bool = False


class DeleteCheckpoint(Operation, frozen=True):
    """virDomainCheckpointDelete."""

    name: str
    children: bool = False
    children_only: bool = False
    metadata_only: bool = False


AnyCheckpoints = CreateCheckpoint | DeleteCheckpoint
