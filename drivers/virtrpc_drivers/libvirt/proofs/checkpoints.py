"""What proves operations: checkpoints."""

from __future__ import annotations

from typing import Any

from virtrpc_drivers import operations as ops
from virtrpc_drivers.libvirt import checkpoints
from virtrpc_drivers.libvirt.proofs.common import Proof, Verdict
from virtrpc_drivers.values import Outcome


def _checkpoint_there(domain: Any, operation: ops.CreateCheckpoint) -> Verdict:
    found = checkpoints.named(domain, operation.name)
    if found is None:
        return Verdict(False, f"there is no checkpoint {operation.name!r}")
    return Verdict(True, f"checkpoint {operation.name!r} is there", Outcome(checkpoint=found))


def _checkpoint_gone(domain: Any, operation: ops.DeleteCheckpoint) -> Verdict:
    found = checkpoints.named(domain, operation.name)
    if operation.children_only:
        parents = [checkpoints.describe(handle).parent for handle in domain.listAllCheckpoints(0)]
        spared = found is not None and operation.name not in parents
        return Verdict(spared, f"checkpoint {operation.name!r} is {'there, and alone' if spared else 'gone, or has children'}")
    return Verdict(found is None, f"checkpoint {operation.name!r} is {'gone' if found is None else 'there'}")


PROOFS: dict[str, Proof] = {
    "CreateCheckpoint": _checkpoint_there,
    "DeleteCheckpoint": _checkpoint_gone,
}
