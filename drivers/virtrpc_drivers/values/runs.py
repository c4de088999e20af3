"""How an operation goes on, and what comes of it."""

from __future__ import annotations

from enum import StrEnum

from virtrpc_drivers.values.backup import BackupInfo
from virtrpc_drivers.values.base import Stamp, Value
from virtrpc_drivers.values.checkpoints import Checkpoint
from virtrpc_drivers.values.snapshots import Snapshot


class Phase(StrEnum):
    """Where inside its run a verb is, where that matters to others. The last two are no driver's to report: the server knows them."""

    CALLING = "calling"
    WAITING_GUEST = "waiting_guest"
    BACKGROUND = "background"
    READY = "ready"
    MIGRATION_PREPARE = "migration_prepare"
    MIGRATION_COPY = "migration_copy"
    MIGRATION_POST_COPY = "migration_post_copy"
    MIGRATION_FINISH = "migration_finish"
    ABORTING = "aborting"
    REFRESHING = "refreshing"

    @property
    def on_its_own(self) -> bool:
        """Whether what was begun goes on without its call, which is over and holds nothing."""
        return self in (Phase.WAITING_GUEST, Phase.BACKGROUND, Phase.READY)


class Outcome(Value, frozen=True):
    """What a finished operation has to tell: only the fields that its kind has."""

    uuid: str | None = None
    """The domain that it made or moved, where that is not the one it was sent to."""
    snapshot: Snapshot | None = None
    checkpoint: Checkpoint | None = None
    backup: BackupInfo | None = None
    destination_uri: str | None = None
    path: str | None = None
    count: int | None = None
    """How many file systems."""
    finish: str | None = None
    """How a mirror ended: pivot or stop."""
    stamp: Stamp | None = None
    """When its driver knew: a look that begins later finds what the operation has made."""


class Steering(Value, frozen=True):
    """What a background job that runs is told: how to finish its mirror ("pivot", "stop") or its pull ("stop"), or how fast to go, in bytes a second;
    0 is no limit."""

    finish: str | None = None
    bandwidth_bytes_per_second: int | None = None


class CancelAnswer(Value, frozen=True):
    """What became of one attempt to abort, or to steer."""

    sent: bool
    """Whether the abort reached the hypervisor, for this very call."""
    final: bool = False
    """No later attempt can succeed (the verb cannot be aborted on this hypervisor)."""
    message: str = ""
    """Why it was not sent."""
