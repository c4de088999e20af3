"""The operations that change a domain: one struct a verb, whose tag is the verb's name in the capability table.

Sizes are bytes, durations seconds. `uuid` names the domain; a definition that lacked one was given one before it came here.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Operation(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The base of all operations."""

    uuid: str

    @property
    def verb(self) -> str:
        """The operation's tag: its row in the capability table."""
        return type(self).__name__


class Scope(StrEnum):
    """virDomainModificationImpact: what a change applies to."""

    CURRENT = "current"
    """The running guest where there is one, else the stored definition."""
    LIVE = "live"
    CONFIG = "config"
    BOTH = "both"


class Suspend(Operation, frozen=True):
    """virDomainSuspend."""


class Resume(Operation, frozen=True):
    """virDomainResume."""


class Start(Operation, frozen=True):
    """virDomainCreateWithFlags; restores from a managed save image where there is one, unless `force_boot`."""

    paused: bool = False
    force_boot: bool = False
    bypass_cache: bool = False


class Shutdown(Operation, frozen=True):
    """virDomainShutdownFlags; done when the guest is off. `mode`: "", acpi, agent, initctl, signal or paravirt."""

    mode: str = ""


class Reboot(Operation, frozen=True):
    """virDomainReboot; done when the guest has restarted. `mode` as for Shutdown."""

    mode: str = ""


class Destroy(Operation, frozen=True):
    """virDomainDestroyFlags; `graceful` sends SIGTERM only."""

    graceful: bool = False


class Define(Operation, frozen=True):
    """virDomainDefineXMLFlags; `validate` checks the XML against libvirt's schema first."""

    xml: str
    name: str
    validate: bool = False


class Create(Operation, frozen=True):
    """virDomainCreateXML: a transient domain, started."""

    xml: str
    name: str
    paused: bool = False
    validate: bool = False


class Undefine(Operation, frozen=True):
    """virDomainUndefineFlags; each flag says what else may be removed, without it libvirt refuses."""

    managed_save: bool = False
    snapshots_metadata: bool = False
    checkpoints_metadata: bool = False
    nvram: bool = False
    keep_nvram: bool = False


class AttachDevice(Operation, frozen=True):
    """virDomainAttachDeviceFlags."""

    xml: str
    scope: Scope = Scope.CURRENT


class DetachDevice(Operation, frozen=True):
    """virDomainDetachDeviceFlags; live, done when the guest has let the device go."""

    xml: str
    scope: Scope = Scope.CURRENT


class UpdateDevice(Operation, frozen=True):
    """virDomainUpdateDeviceFlags; `force` ejects a medium that the guest has locked."""

    xml: str
    scope: Scope = Scope.CURRENT
    force: bool = False


class SetUserPassword(Operation, frozen=True):
    """virDomainSetUserPassword, through the guest agent."""

    user: str
    password: str
    encrypted: bool = False


class ManagedSave(Operation, frozen=True):
    """virDomainManagedSave. `after_restore`: "", "running" or "paused"."""

    bypass_cache: bool = False
    after_restore: str = ""


class SetMemory(Operation, frozen=True):
    """virDomainSetMemoryFlags; `maximum` sets the boot-time maximum instead (stored definition only)."""

    memory_bytes: int
    scope: Scope = Scope.CURRENT
    maximum: bool = False


class CreateSnapshot(Operation, frozen=True):
    """virDomainSnapshotCreateXML. The name was chosen before it came here, so that it can be looked for."""

    name: str
    xml: str
    disk_only: bool = False
    quiesce: bool = False
    atomic: bool = False
    live: bool = False
    halt: bool = False
    reuse_external: bool = False
    no_metadata: bool = False
    validate: bool = False


class RevertToSnapshot(Operation, frozen=True):
    """virDomainRevertToSnapshot. `after`: "", "running" or "paused"."""

    name: str
    after: str = ""
    force: bool = False
    reset_nvram: bool = False


class DeleteSnapshot(Operation, frozen=True):
    """virDomainSnapshotDelete."""

    name: str
    children: bool = False
    children_only: bool = False
    metadata_only: bool = False


class RemoveManagedSave(Operation, frozen=True):
    """virDomainManagedSaveRemove."""


class Migrate(Operation, frozen=True):
    """virDomainMigrateToURI3; bandwidth in bytes a second."""

    destination_uri: str
    migrate_uri: str = ""
    new_name: str = ""
    live: bool = True
    peer_to_peer: bool = True
    persist_destination: bool = False
    undefine_source: bool = False
    unsafe: bool = False
    offline: bool = False
    paused: bool = False
    bandwidth_bytes_per_second: int | None = None


AnyOperation = (
    Suspend
    | Resume
    | Start
    | Shutdown
    | Reboot
    | Destroy
    | Define
    | Create
    | Undefine
    | AttachDevice
    | DetachDevice
    | UpdateDevice
    | SetUserPassword
    | ManagedSave
    | SetMemory
    | CreateSnapshot
    | RevertToSnapshot
    | DeleteSnapshot
    | RemoveManagedSave
    | Migrate
)
VERBS: tuple[str, ...] = tuple(kind.__name__ for kind in AnyOperation.__args__)
"""The tags of all operations, in the order of the file."""
