"""The libvirt calls of operations: snapshots."""

from __future__ import annotations

from typing import Any

from virtrpc_drivers import operations as ops
from virtrpc_drivers.errors import Reason, failure
from virtrpc_drivers.libvirt import flags, snapshots
from virtrpc_drivers.libvirt.operations.common import DONE, Verb, domain_of
from virtrpc_drivers.libvirt.readings import optional
from virtrpc_drivers.values import Outcome


def create_snapshot(connection: Any, operation: ops.CreateSnapshot) -> Outcome:
    """virDomainSnapshotCreateXML; the outcome carries the snapshot as libvirt then describes it."""
    domain = domain_of(connection, operation)
    # libvirt would call that a fault of the XML.
    if operation.saves_memory and not domain.isActive():
        raise failure(Reason.WRONG_STATE, "the domain is not running: it has no memory that a snapshot could write to a file")
    made = domain.snapshotCreateXML(operation.xml, flags.create_snapshot(operation))
    return Outcome(snapshot=optional(lambda: snapshots.describe(made)))


def revert_to_snapshot(connection: Any, operation: ops.RevertToSnapshot) -> Outcome:
    """virDomainRevertToSnapshot."""
    domain = domain_of(connection, operation)
    domain.revertToSnapshot(domain.snapshotLookupByName(operation.name, 0), flags.revert(operation))
    return DONE


def delete_snapshot(connection: Any, operation: ops.DeleteSnapshot) -> Outcome:
    """virDomainSnapshotDelete."""
    domain_of(connection, operation).snapshotLookupByName(operation.name, 0).delete(flags.delete_snapshot(operation))
    return DONE


VERBS: dict[str, Verb] = {
    "CreateSnapshot": create_snapshot,
    "RevertToSnapshot": revert_to_snapshot,
    "DeleteSnapshot": delete_snapshot,
}
FUNCTIONS: dict[str, str] = {
    "CreateSnapshot": "virDomainSnapshotCreateXML",
    "DeleteSnapshot": "virDomainSnapshotDelete",
}
