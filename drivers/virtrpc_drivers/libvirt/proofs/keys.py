"""What proves operations: keys, interrupts and signals leave nothing to be read."""

from __future__ import annotations

from virtrpc_drivers.libvirt.proofs.common import Proof, not_provable

PROOFS: dict[str, Proof] = {
    "SendKey": not_provable,
    "InjectNmi": not_provable,
    "SendProcessSignal": not_provable,
}
