"""What proves operations: that something is or was measured does not say who began it."""

from __future__ import annotations

from virtrpc_drivers.libvirt.proofs.common import Proof, not_provable

PROOFS: dict[str, Proof] = {"StartDirtyRateCalculation": not_provable}
