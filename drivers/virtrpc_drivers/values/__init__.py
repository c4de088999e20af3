"""The values that a driver hands to the server: immutable, typed, and small enough to travel in one message.

A reading carries the `Stamp` of the moment at which the call that made it STARTED, so that a late answer never overwrites a
newer one. `None` means "this reading does not say", never zero.
"""

from __future__ import annotations

from virtrpc_drivers.values.agent import GuestFilesystem, GuestInfo, GuestInterface, GuestPart, GuestUser, GuestVcpu
from virtrpc_drivers.values.backup import BackupDisk, BackupInfo, BackupServer
from virtrpc_drivers.values.base import Stamp, Value, to_builtins
from virtrpc_drivers.values.checkpoints import Checkpoint, Checkpoints
from virtrpc_drivers.values.definition import Address, DomainConfig, Metadata, MetadataElement
from virtrpc_drivers.values.devices import DiskConfig, DiskPlace, GraphicsConfig, InterfaceConfig, NetworkHost
from virtrpc_drivers.values.files import FoundFile, NamedFile, SaveImage, Trail
from virtrpc_drivers.values.host import HostInfo, Slot, VerbSupport
from virtrpc_drivers.values.readings import DomainReading, Failed, Group, Listed, Listing, Missing, Readings
from virtrpc_drivers.values.runs import CancelAnswer, Outcome, Phase, Steering
from virtrpc_drivers.values.screenshot import Screenshot
from virtrpc_drivers.values.snapshots import Snapshot, Snapshots
from virtrpc_drivers.values.state import ACTIVE_STATES, Control, DomainState, State
from virtrpc_drivers.values.statistics import (
    BlockStats,
    CpuStats,
    DirtyRate,
    HostStats,
    InterfaceStats,
    MemoryStats,
    Pulse,
    Pulses,
    Samples,
    StatsReading,
    VcpuStats,
)

__all__ = [
    "ACTIVE_STATES",
    "Address",
    "BackupDisk",
    "BackupInfo",
    "BackupServer",
    "BlockStats",
    "CancelAnswer",
    "Checkpoint",
    "Checkpoints",
    "Control",
    "CpuStats",
    "DirtyRate",
    "DiskConfig",
    "DiskPlace",
    "DomainConfig",
    "DomainReading",
    "DomainState",
    "Failed",
    "FoundFile",
    "GraphicsConfig",
    "Group",
    "GuestFilesystem",
    "GuestInfo",
    "GuestInterface",
    "GuestPart",
    "GuestUser",
    "GuestVcpu",
    "HostInfo",
    "HostStats",
    "InterfaceConfig",
    "InterfaceStats",
    "Listed",
    "Listing",
    "MemoryStats",
    "Metadata",
    "MetadataElement",
    "Missing",
    "NamedFile",
    "NetworkHost",
    "Outcome",
    "Phase",
    "Pulse",
    "Pulses",
    "Readings",
    "Samples",
    "SaveImage",
    "Screenshot",
    "Slot",
    "Snapshot",
    "Snapshots",
    "Stamp",
    "State",
    "StatsReading",
    "Steering",
    "Trail",
    "Value",
    "VcpuStats",
    "VerbSupport",
    "to_builtins",
]
