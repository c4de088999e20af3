"""Which calls can be proven after the process that made them died, and by what: one rule for every hypervisor."""

from __future__ import annotations

MADE = frozenset({"CreateSnapshot", "CreateCheckpoint", "Save", "DumpCore", "Backup"})
"""What a call makes proves it only where it is no older than the call. All else is a state or a setting: it holds, whoever made it so."""

UNPROVABLE: dict[str, str] = {
    "Reboot": "that a guest runs does not say whether it has begun anew",
    "Reset": "that a guest runs does not say whether it has begun anew",
    "RevertToSnapshot": "which snapshot is the current one does not say when it became so",
    "SendKey": "what a guest was sent is not kept",
    "InjectNmi": "what a guest was sent is not kept",
    "SendProcessSignal": "what a process was sent is not kept",
    "SetUserPassword": "passwords cannot be read",
    "FreezeFilesystems": "no hypervisor tells which file systems are frozen",
    "ThawFilesystems": "no hypervisor tells which file systems are frozen",
    "TrimFilesystems": "what was trimmed is not kept",
    "SetGuestTime": "the guest's clock runs on, and may have been right before",
    "StartDirtyRateCalculation": "that a rate was measured does not say who asked for it",
}
"""Operations that leave nothing to be read which only they can have left, each with its reason."""
