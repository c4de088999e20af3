"""What proves operations: snapshots."""

from __future__ import annotations

from typing import Any

import libvirt

from virtrpc_drivers import operations as ops
from virtrpc_drivers.libvirt import snapshots
from virtrpc_drivers.libvirt.proofs.common import Proof, Verdict
from virtrpc_drivers.libvirt.readings import optional
from virtrpc_drivers.values import Outcome


def _snapshot_there(domain: Any, operation: ops.CreateSnapshot) -> Verdict:
    try:
        found = snapshots.describe(domain.snapshotLookupByName(operation.name, 0))
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN_SNAPSHOT:
            return Verdict(False, f"there is no snapshot {operation.name!r}")
        raise
    return Verdict(True, f"snapshot {operation.name!r} is there", Outcome(snapshot=found))


def _snapshot_gone(domain: Any, operation: ops.DeleteSnapshot) -> Verdict:
    try:
        handle = domain.snapshotLookupByName(operation.name, 0)
    except libvirt.libvirtError as error:
        gone = error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN_SNAPSHOT and not operation.children_only
        return Verdict(gone, f"there is no snapshot {operation.name!r}")
    children = optional(lambda: handle.numChildren(0))
    return Verdict(operation.children_only and children == 0, f"snapshot {operation.name!r} is there, with {children} children")


PROOFS: dict[str, Proof] = {
    "CreateSnapshot": _snapshot_there,
    "DeleteSnapshot": _snapshot_gone,
}
