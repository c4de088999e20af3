"""What each hypervisor can do: one row for each verb and each read that not every hypervisor has, by the name of its operation or its RPC.

The rows are what libvirt's drivers implement. Hypervisors are named as virConnectGetType does, in lower case, but Xen, which is "xen". One that
stands nowhere here is asked for everything, and answers itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache

from virtrpc_drivers.operations import VERBS
from virtrpc_drivers.values import Slot, VerbSupport

Names = frozenset[str]


def _names(words: str) -> Names:
    return frozenset(words.split())


HYPERVISORS = _names("qemu xen lxc ch bhyve vz openvz esx vmware hyper-v vbox test")
PUSHES_EVENTS = _names("qemu xen lxc ch bhyve vz vbox test")
"""Those whose libvirt driver has events; the others are polled."""
IN_CLIENT_LIBRARY = _names("esx hyper-v openvz vbox vmware")
"""Drivers that live in the driver process: ending it ends their calls."""


@dataclass(frozen=True, slots=True)
class Row:
    """One verb or read: who has it, what it takes, who reports progress and whose can be aborted."""

    name: str
    has: Names = HYPERVISORS
    slot: Slot = Slot.CONDITION
    slots: dict[Slot, Names] = field(default_factory=dict)
    """Where some take something else."""
    progress: Names = frozenset()
    abortable: Names = frozenset()
    since: dict[str, int] = field(default_factory=dict)
    """The libvirt version (major * 1,000,000 + minor * 1,000) that brought it to a hypervisor, where 9.0 lacks it."""


def _row(name: str, has: Names, slot: Slot = Slot.CONDITION, *, progress: str = "", abortable: str = "", **since: int) -> Row:
    return Row(name, has, slot, progress=_names(progress), abortable=_names(abortable), since=since)


def _asking(name: str, has: Names, *, on: str, else_: Slot = Slot.CONDITION) -> Row:
    return Row(name, has, else_, slots={Slot.ASKING: _names(on)})


def _agent(name: str, has: str) -> Row:
    # QEMU's agent is apart from its monitor; elsewhere the call goes the way of all others.
    return Row(name, _names(has), Slot.CONDITION, slots={Slot.AGENT: _names("qemu")})


def _shared(name: str, has: str) -> Row:
    # vz deletes by a call of its own and needs no job.
    return Row(name, _names(has), Slot.CONDITION, slots={Slot.NONE: _names("vz")})


def _read(name: str, has: str) -> Row:
    return Row(name, _names(has), Slot.NONE)


_LIFECYCLE = (
    _row("Suspend", HYPERVISORS - {"bhyve"}),
    _row("Resume", HYPERVISORS - {"bhyve"}),
    _row("Start", HYPERVISORS),
    # A hypervisor without events is asked again and again whether the guest is off; vz's call returns when it is.
    _asking("Shutdown", HYPERVISORS, on=" ".join(HYPERVISORS - {"vz"})),
    # A reboot that no event tells of cannot be seen.
    _asking("Reboot", HYPERVISORS, on="qemu xen lxc"),
    _row("Destroy", HYPERVISORS, Slot.DESTROY),
    _row("ManagedSave", _names("qemu xen ch vz hyper-v test"), progress="qemu xen", abortable="qemu"),
    _shared("RemoveManagedSave", "qemu xen ch vz hyper-v test"),
    _row("Save", _names("qemu xen ch vbox test"), progress="qemu xen", abortable="qemu"),
    _row("Restore", _names("qemu xen ch test")),
    _row("DefineSaveImage", _names("qemu test")),
    _row("DefineManagedSaveImage", _names("qemu")),
    _row("DumpCore", _names("qemu xen test"), progress="qemu xen", abortable="qemu"),
    _row("Reset", _names("qemu vz hyper-v test")),
    _row("PowerManagementSuspend", _names("qemu xen")),
    _row("PowerManagementWakeup", _names("qemu xen")),
)
_DEFINITION = (
    _row("Define", HYPERVISORS),
    _row("Create", HYPERVISORS - {"vz", "esx", "hyper-v"}),
    # libvirt's openvz driver calls "vzctl start destroy CTID" (seen in 9.0, and still in its sources later), which removes nothing.
    _row("Undefine", HYPERVISORS - {"openvz"}),
    _row("Rename", _names("qemu test")),
    _row("SetMetadata", _names("qemu xen lxc bhyve test")),
    _row("SetAutostart", _names("qemu xen lxc bhyve openvz esx hyper-v test")),
)
_DEVICES = (
    _row("AttachDevice", _names("qemu xen lxc vz hyper-v vbox test"), test=9_006_000),
    _asking("DetachDevice", _names("qemu xen lxc vz vbox"), on="qemu"),
    _row("UpdateDevice", _names("qemu xen lxc vz openvz vbox test"), test=9_006_000),
)
_SETTINGS = (
    _row("SetMemory", _names("qemu xen lxc vz esx hyper-v vbox test")),
    _row("SetVcpus", _names("qemu xen vz openvz esx hyper-v vbox test")),
    _row("SetMemoryStatsPeriod", _names("qemu test")),
)
_KEYS = (
    _row("SendKey", _names("qemu hyper-v vbox test")),
    _row("InjectNmi", _names("qemu test")),
    _row("SendProcessSignal", _names("lxc test")),
)
_TUNING = (
    # Xen's driver has it, but libvirt-python counts the host's processors first, by virNodeGetCPUMap, which that driver lacks.
    _row("PinVcpu", _names("qemu ch test")),
    _row("PinEmulator", _names("qemu ch test")),
    _row("AddIoThread", _names("qemu test")),
    _row("DeleteIoThread", _names("qemu test")),
    _row("PinIoThread", _names("qemu test")),
    _row("SetBlockIoTune", _names("qemu test")),
    _row("SetInterfaceParameters", _names("qemu test")),
    _row("SetLifecycleAction", _names("qemu test")),
    _row("SetIoThreadParameters", _names("qemu test")),
    _row("SetVcpu", _names("qemu")),
    _row("SetPerfEvents", _names("qemu test")),
    _row("StartDirtyRateCalculation", _names("qemu")),
)
_RESOURCES = (
    _row("SetSchedulerParameters", _names("qemu xen lxc esx test")),
    # libvirt's esx and openvz drivers have it too, but refuse a flag that libvirt itself adds to the call (seen in 9.0).
    _row("SetMemoryParameters", _names("qemu lxc test")),
    _row("SetNumaParameters", _names("qemu ch test")),
    _row("SetBlkioParameters", _names("qemu lxc test")),
)
_RESIZE = (_row("ResizeBlock", _names("qemu vz")), _row("SetBlockThreshold", _names("qemu")))
_BLOCKS = tuple(_row(name, _names("qemu"), Slot.BACKGROUND, progress="qemu", abortable="qemu") for name in ("PullBlock", "CopyBlock", "CommitBlock"))
_AGENT = (
    _agent("SetUserPassword", "qemu vz test"),
    _agent("FreezeFilesystems", "qemu test"),
    _agent("ThawFilesystems", "qemu test"),
    _agent("TrimFilesystems", "qemu test"),
    _agent("SetGuestTime", "qemu test"),
    _agent("SetGuestVcpus", "qemu"),
    _agent("SetAuthorizedSshKeys", "qemu"),
)
_SNAPSHOTS = (
    _row("CreateSnapshot", _names("qemu vz esx vbox test"), progress="qemu", abortable="qemu"),
    _row("RevertToSnapshot", _names("qemu vz esx vbox test")),
    _shared("DeleteSnapshot", "qemu vz esx vbox test"),
)
_CHECKPOINTS = (_row("CreateCheckpoint", _names("qemu test")), _row("DeleteCheckpoint", _names("qemu test")))
_BACKUP = (_row("Backup", _names("qemu"), Slot.BACKGROUND, progress="qemu", abortable="qemu"),)
# OpenVZ migrates only where a client holds both connections (virDomainMigrate3), and never peer to peer.
_MIGRATION = (_row("Migrate", _names("qemu xen vz"), progress="qemu xen vz", abortable="qemu vz"),)
_READS = (
    _read("ListVcpus", "qemu xen ch vz hyper-v test"),
    _read("GetBlockStats", "qemu xen lxc vz test"),
    _read("GetInterfaceStats", "qemu xen lxc vz openvz test"),
    _read("GetMemoryStats", "qemu xen lxc vz test"),
    _read("GetMetadata", "qemu xen lxc bhyve test"),
    _read("GetHostStats", "qemu xen lxc vz test"),
    _read("TuneMigration", "qemu"),
    _read("PlanMigration", "qemu xen vz"),
    _read("FinishBlockJob", "qemu"),
    _read("SetJobSpeed", "qemu"),
    _read("ListCheckpoints", "qemu test"),
    _read("GetCheckpoint", "qemu test"),
    _read("GetCheckpointXml", "qemu test"),
    _read("ListSnapshots", "qemu vz esx vbox test"),
    _read("GetSnapshot", "qemu vz esx vbox test"),
    _read("GetSnapshotXml", "qemu vz esx vbox test"),
    _read("GetCurrentSnapshot", "qemu vz esx vbox test"),
    # LXC, OpenVZ and ESX have no agent: the host name that libvirt tells there is that of a lease, or the domain's own.
    _read("GetGuestInfo", "qemu test"),
    _read("TakeScreenshot", "qemu esx hyper-v vbox test"),
    _read("GetDomainCapabilities", "qemu xen ch bhyve"),
    _read("GetSaveImage", "qemu ch test"),
    _read("GetManagedSaveImage", "qemu ch"),
    _read("GetGuestVcpus", "qemu"),
    _read("GetAuthorizedSshKeys", "qemu"),
    _read("GetResourceParameters", "qemu xen lxc ch esx hyper-v test"),
    _read("GetDirtyRate", "qemu"),
)
_ROWS = (
    *_LIFECYCLE,
    *_DEFINITION,
    *_DEVICES,
    *_SETTINGS,
    *_AGENT,
    *_SNAPSHOTS,
    *_MIGRATION,
    *_KEYS,
    *_RESIZE,
    *_BLOCKS,
    *_CHECKPOINTS,
    *_BACKUP,
    *_TUNING,
    *_RESOURCES,
    *_READS,
)

READS: tuple[str, ...] = tuple(row.name for row in _READS)
"""The RPCs that change nothing and that some hypervisor lacks."""
NAMES: tuple[str, ...] = (*VERBS, *READS)
"""Every row's name: the verbs by their operation's tag, the reads by their RPC."""


@cache
def table(hypervisor: str, libvirt_version: int = 9_000_000) -> tuple[VerbSupport, ...]:
    """A row for each verb and read, as this hypervisor has it with this libvirt (virConnectGetLibVersion)."""
    by_name = {row.name: row for row in _ROWS}
    return tuple(_support(by_name[name], hypervisor, libvirt_version) for name in NAMES)


def _support(row: Row, hypervisor: str, version: int) -> VerbSupport:
    known = hypervisor in HYPERVISORS
    return VerbSupport(
        verb=row.name,
        supported=not known or (hypervisor in row.has and version >= row.since.get(hypervisor, 0)),
        slot=next((slot for slot, names in row.slots.items() if hypervisor in names), row.slot),
        progress=hypervisor in row.progress,
        abortable=hypervisor in row.abortable,
        killable=hypervisor in IN_CLIENT_LIBRARY,
    )
