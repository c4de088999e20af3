"""The libvirt calls of operations: checkpoints."""

from __future__ import annotations

from typing import Any

from virtrpc_drivers import operations as ops
from virtrpc_drivers.libvirt import checkpoints, flags
from virtrpc_drivers.libvirt.operations.common import DONE, Verb, domain_of
from virtrpc_drivers.libvirt.readings import optional
from virtrpc_drivers.values import Outcome


def create_checkpoint(connection: Any, operation: ops.CreateCheckpoint) -> Outcome:
    """virDomainCheckpointCreateXML; the outcome carries the checkpoint as libvirt then describes it."""
    domain = domain_of(connection, operation)
    checkpoints.find_absent(domain, operation.name)
    made = domain.checkpointCreateXML(operation.xml, flags.create_checkpoint(operation))
    return Outcome(checkpoint=optional(lambda: checkpoints.describe(made)))


def delete_checkpoint(connection: Any, operation: ops.DeleteCheckpoint) -> Outcome:
    """virDomainCheckpointDelete."""
    domain_of(connection, operation).checkpointLookupByName(operation.name, 0).delete(flags.delete_checkpoint(operation))
    return DONE


VERBS: dict[str, Verb] = {
    "CreateCheckpoint": create_checkpoint,
    "DeleteCheckpoint": delete_checkpoint,
}
FUNCTIONS: dict[str, str] = {
    "CreateCheckpoint": "virDomainCheckpointCreateXML",
    "DeleteCheckpoint": "virDomainCheckpointDelete",
}
