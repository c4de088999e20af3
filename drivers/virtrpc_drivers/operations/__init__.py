"""The operations that change a domain: one struct a verb, whose tag is the verb's name in the table of what hypervisors can do.

Sizes are bytes, durations seconds. `uuid` names the domain; a definition that lacked one was given one before it came here.
"""

from __future__ import annotations

from virtrpc_drivers.operations.agent import (
    AnyAgent,
    FreezeFilesystems,
    SetAuthorizedSshKeys,
    SetGuestTime,
    SetGuestVcpus,
    SetUserPassword,
    ThawFilesystems,
    TrimFilesystems,
)
from virtrpc_drivers.operations.backup import AnyBackup, Backup
from virtrpc_drivers.operations.base import Operation, Scope
from virtrpc_drivers.operations.blocks import AnyBlocks, CommitBlock, CopyBlock, PullBlock
from virtrpc_drivers.operations.checkpoints import AnyCheckpoints, CreateCheckpoint, DeleteCheckpoint
from virtrpc_drivers.operations.definition import AnyDefinition, Create, Define, Rename, SetAutostart, SetMetadata, Undefine
from virtrpc_drivers.operations.devices import AnyDevices, AttachDevice, DetachDevice, UpdateDevice
from virtrpc_drivers.operations.dirty_rate import AnyDirtyRate, StartDirtyRateCalculation
from virtrpc_drivers.operations.files import AnyFiles, DumpCore, Restore, Save
from virtrpc_drivers.operations.images import AnyImages, DefineManagedSaveImage, DefineSaveImage
from virtrpc_drivers.operations.keys import AnyKeys, InjectNmi, SendKey, SendProcessSignal
from virtrpc_drivers.operations.lifecycle import (
    AnyLifecycle,
    Destroy,
    ManagedSave,
    PowerManagementSuspend,
    PowerManagementWakeup,
    Reboot,
    RemoveManagedSave,
    Reset,
    Resume,
    Shutdown,
    Start,
    Suspend,
)
from virtrpc_drivers.operations.migration import AnyMigration, Migrate
from virtrpc_drivers.operations.resize import AnyResize, ResizeBlock, SetBlockThreshold
from virtrpc_drivers.operations.resources import (
    AnyResources,
    SetBlkioParameters,
    SetMemoryParameters,
    SetNumaParameters,
    SetSchedulerParameters,
)
from virtrpc_drivers.operations.settings import AnySettings, SetMemory, SetMemoryStatsPeriod, SetVcpus
from virtrpc_drivers.operations.snapshots import AnySnapshots, CreateSnapshot, DeleteSnapshot, RevertToSnapshot
from virtrpc_drivers.operations.tuning import (
    AddIoThread,
    AnyTuning,
    Bandwidth,
    DeleteIoThread,
    PinEmulator,
    PinIoThread,
    PinVcpu,
    SetBlockIoTune,
    SetInterfaceParameters,
    SetIoThreadParameters,
    SetLifecycleAction,
    SetPerfEvents,
    SetVcpu,
)

AnyOperation = (
    AnyLifecycle
    | AnyDefinition
    | AnyDevices
    | AnySettings
    | AnyAgent
    | AnySnapshots
    | AnyMigration
    | AnyKeys
    | AnyResize
    | AnyFiles
    | AnyImages
    | AnyTuning
    | AnyBlocks
    | AnyCheckpoints
    | AnyResources
    | AnyDirtyRate
    | AnyBackup
)
VERBS: tuple[str, ...] = tuple(kind.__name__ for kind in AnyOperation.__args__)
"""The tags of all operations."""

__all__ = [
    "VERBS",
    "AddIoThread",
    "AnyBlocks",
    "AnyOperation",
    "AttachDevice",
    "Backup",
    "Bandwidth",
    "CommitBlock",
    "CopyBlock",
    "Create",
    "CreateCheckpoint",
    "CreateSnapshot",
    "Define",
    "DefineManagedSaveImage",
    "DefineSaveImage",
    "DeleteCheckpoint",
    "DeleteIoThread",
    "DeleteSnapshot",
    "Destroy",
    "DetachDevice",
    "DumpCore",
    "FreezeFilesystems",
    "InjectNmi",
    "ManagedSave",
    "Migrate",
    "Operation",
    "PinEmulator",
    "PinIoThread",
    "PinVcpu",
    "PowerManagementSuspend",
    "PowerManagementWakeup",
    "PullBlock",
    "Reboot",
    "RemoveManagedSave",
    "Rename",
    "Reset",
    "ResizeBlock",
    "Restore",
    "Resume",
    "RevertToSnapshot",
    "Save",
    "Scope",
    "SendKey",
    "SendProcessSignal",
    "SetAuthorizedSshKeys",
    "SetAutostart",
    "SetBlkioParameters",
    "SetBlockIoTune",
    "SetBlockThreshold",
    "SetGuestTime",
    "SetGuestVcpus",
    "SetInterfaceParameters",
    "SetIoThreadParameters",
    "SetLifecycleAction",
    "SetMemory",
    "SetMemoryParameters",
    "SetMemoryStatsPeriod",
    "SetMetadata",
    "SetNumaParameters",
    "SetPerfEvents",
    "SetSchedulerParameters",
    "SetUserPassword",
    "SetVcpu",
    "SetVcpus",
    "Shutdown",
    "Start",
    "StartDirtyRateCalculation",
    "Suspend",
    "ThawFilesystems",
    "TrimFilesystems",
    "Undefine",
    "UpdateDevice",
]
