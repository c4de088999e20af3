"""What proves operations: the guest's agent."""

from __future__ import annotations

from virtrpc_drivers.libvirt.proofs.common import Proof, not_provable

PROOFS: dict[str, Proof] = {
    "SetUserPassword": not_provable,
}
