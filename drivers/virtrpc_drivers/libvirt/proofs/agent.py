"""What proves operations: the guest's agent."""

from __future__ import annotations

from virtrpc_drivers.libvirt.proofs.common import Proof, not_provable

PROOFS: dict[str, Proof] = {
    "FreezeFilesystems": not_provable,
    "ThawFilesystems": not_provable,
    "TrimFilesystems": not_provable,
    "SetGuestTime": not_provable,
    "SetUserPassword": not_provable,
}
