"""What the server asks of a hypervisor: one small asynchronous protocol, the same in process and behind a socket.

A driver knows nothing of jobs, caches or gRPC. Every method may be called from one event loop at any time and in any number;
a driver keeps its own caps. A caller that stops awaiting abandons an answer and never the call at the hypervisor.
All methods raise `DriverError`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Protocol

import msgspec

from virtrpc_drivers.errors import Fault
from virtrpc_drivers.migration import Arrival, Departure, Facts, Reading, TuneAnswer, Tuning
from virtrpc_drivers.operations import AnyOperation, Migrate, Scope
from virtrpc_drivers.resources import ResourceParameters
from virtrpc_drivers.values import (
    BackupInfo,
    CancelAnswer,
    Checkpoints,
    DirtyRate,
    FoundFile,
    Group,
    GuestInfo,
    GuestPart,
    GuestVcpu,
    HostInfo,
    HostStats,
    Listing,
    NamedFile,
    Outcome,
    Phase,
    Pulses,
    Readings,
    Samples,
    SaveImage,
    Screenshot,
    Snapshots,
    Stamp,
    Steering,
    Value,
)


class DriverSettings(Value, frozen=True):
    """What a driver needs to know to serve one host. `process` is the number that its stamps carry."""

    uri: str
    read_only: bool = False
    path_roots: tuple[str, ...] = ()
    """Directories below which file paths in requests must resolve."""
    process: int = 0
    host: str = ""
    """What the server calls it, for spans and logs."""
    tracing: bool = False
    migration_schemes: tuple[str, ...] = ()


class Call(Value, frozen=True):
    """One run of one operation. `id` is the server's, unique for ever; `began` is the wall time in seconds at which it is sent."""

    id: str
    operation: AnyOperation
    began: float
    wait_guest: float = 300.0
    """Seconds that an asking verb waits for the guest."""
    traceparent: str | None = None
    begun: bool = False
    """To `resume`: it is known to have returned, and to have begun what goes on without it (Phase.on_its_own)."""


def attributes(call: Call, host: str) -> dict[str, str | int | float | bool]:
    """The attributes of a call's span."""
    job = call.id.rpartition(".")[0]
    return {"virtrpc.job.id": job, "virtrpc.call": call.id, "virtrpc.host": host, "virtrpc.domain.uuid": call.operation.uuid}


class Change(StrEnum):
    """What an event announces. It only marks the domain dirty: a read decides."""

    LIFECYCLE = "lifecycle"
    DEFINED = "defined"
    UNDEFINED = "undefined"
    DEVICE = "device"
    METADATA = "metadata"
    BALLOON = "balloon"
    REBOOT = "reboot"
    AGENT = "agent"
    JOB = "job"
    BLOCK_JOB = "block_job"
    OTHER = "other"


class Notice(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The base of what a driver says unasked. Delivered on the server's loop, in order."""


class HostUp(Notice, frozen=True):
    """The connection is open and events are registered: list everything again."""

    info: HostInfo


class HostDown(Notice, frozen=True):
    """The connection is lost, or cannot be opened; the driver goes on trying with back-off."""

    fault: Fault
    process_lost: bool = False
    """The driver process itself ended: calls that were out end with DRIVER_LOST and must be resumed."""


class DomainChanged(Notice, frozen=True):
    """Something about this domain changed, now or a while ago. Repeated and late ones are harmless."""

    uuid: str
    change: Change
    detail: str = ""
    stamp: Stamp | None = None
    """When it came in, on the clock of readings: a reading that began later has seen the change. None: nobody knows."""


class EventsLost(Notice, frozen=True):
    """Events were dropped or may have been: list and read everything again."""


class Report(Notice, frozen=True):
    """Where a running call is: its phase, whether an abort would reach it now, and its progress where it has any. Bytes, seconds."""

    call_id: str
    phase: Phase = Phase.CALLING
    abortable: bool | None = None
    stamp: Stamp | None = None
    processed_bytes: int | None = None
    total_bytes: int | None = None
    remaining_bytes: int | None = None
    rate_bytes_per_second: int | None = None
    remaining_seconds: float | None = None
    percent: float | None = None
    """From the hypervisor, where it counts in per cent (vz); else the server derives it from the bytes."""
    elapsed_seconds: float | None = None
    """How long it has run, by the hypervisor's count."""
    memory_iteration: int | None = None
    migration: Reading | None = None
    """More of a migration."""
    backup: BackupInfo | None = None
    """More of a backup."""
    trouble: Fault | None = None
    """What keeps a block job or a backup from being finished or seen just now."""


class SpanRecord(Value, frozen=True):
    """One finished span: times in nanoseconds since the epoch, ids in hexadecimal."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str | None
    start_ns: int
    end_ns: int
    attributes: dict[str, str | int | float | bool]
    error: str | None = None


class Spans(Notice, frozen=True):
    """Finished spans: only the server exports them."""

    spans: tuple[SpanRecord, ...]


class StuckCalls(Notice, frozen=True):
    """How many calls have not come back in time, by what they are for; told when it changes. Each has a thread for as long as it is out."""

    lanes: dict[str, int]


AnyNotice = HostUp | HostDown | DomainChanged | EventsLost | Report | Spans | StuckCalls
Deliver = Callable[[AnyNotice], None]


class Driver(Protocol):
    """One hypervisor host."""

    async def start(self, deliver: Deliver) -> None:
        """Begin to connect, and to deliver notices; returns at once. The first notice is HostUp or HostDown."""

    async def list(self) -> Listing:
        """All domains, active or not (virConnectListAllDomains)."""

    async def read(self, uuids: Sequence[str], group: Group) -> Readings:
        """One group of each of these domains, each with the stamp at which its own call began."""

    async def sample(self, uuids: Sequence[str]) -> Samples:
        """The statistics of these running domains in one sweep, waiting for no job (virDomainListGetStats with NOWAIT).

        Hangs for as long as a monitor does: a guest that was wedged while idle holds no job. A driver has four such calls out at most.
        """

    async def pulses(self, uuids: Sequence[str]) -> Pulses:
        """Signs of life of these domains; never hangs on one (virDomainGetInfo and virDomainGetControlInfo). Those that are off are left out."""

    async def run(self, call: Call) -> Outcome:
        """Run one operation to its end; its progress and phases come as `Report`s before this returns.

        Raises DriverError: FOREIGN_JOB where somebody else holds the hypervisor's job, ABORTED where it was aborted.
        """

    async def resume(self, call: Call) -> Outcome:
        """Find out what became of a call whose process died.

        While the hypervisor still runs it, it is followed with progress and can be cancelled as in `run`. Returns where success
        is proven, raises the operation's error where its failure is, INTERRUPTED with the evidence where nothing is proven and
        nothing runs, OUTCOME_UNKNOWN where it may still be on its way. A success is never guessed.
        """

    async def cancel(self, call_id: str) -> CancelAnswer:
        """Abort this call and no other: sent only where the hypervisor's job statistics show this very operation."""

    async def tune(self, call_id: str, tuning: Tuning) -> TuneAnswer:
        """Change the limits of this migration and no other, or switch it to post-copy: sent only where the hypervisor's statistics show it.

        Raises what the hypervisor refuses; MONITOR_UNRESPONSIVE is told as "not sent".
        """

    async def departure(self, operation: Migrate) -> Departure:
        """What stands in the way of a migration at its source, and the facts that its destination needs. Changes nothing."""

    async def arrival(self, operation: Migrate, facts: Facts, uri: str = "") -> Arrival:
        """What stands in its way at the destination: this host, or where a URI is given the one there, opened read-only. Changes nothing."""

    async def steer(self, call_id: str, steering: Steering) -> CancelAnswer:
        """Tell the block job or pull backup of this call, and no other, how to finish or how fast to go. Raises what the hypervisor refuses."""

    async def probe(self, uuid: str) -> None:
        """Returns once the hypervisor's job on this domain could be taken: whatever was stuck there is over."""

    async def host_stats(self) -> HostStats:
        """How busy the whole host is (virNodeGetCPUStats, virNodeGetMemoryStats); asks no domain."""

    async def snapshots(self, uuid: str) -> Snapshots:
        """All snapshots of a domain, without XML."""

    async def snapshot_xml(self, uuid: str, name: str) -> str:
        """One snapshot's XML, without secrets (virDomainSnapshotGetXMLDesc). Raises SNAPSHOT_NOT_FOUND."""

    async def current_snapshot(self, uuid: str) -> str | None:
        """The current snapshot's name, or None (virDomainSnapshotCurrent)."""

    async def checkpoints(self, uuid: str) -> Checkpoints:
        """All checkpoints of a domain, without XML."""

    async def checkpoint_xml(self, uuid: str, name: str, *, size: bool) -> str:
        """One checkpoint's XML, without secrets (virDomainCheckpointGetXMLDesc); the sizes need a job. Raises CHECKPOINT_NOT_FOUND."""

    async def save_image(self, path: str) -> SaveImage:
        """Whose memory a file holds (virDomainSaveImageGetXMLDesc). Raises PATH_NOT_ALLOWED outside the roots."""

    async def follow(self, files: Sequence[NamedFile]) -> tuple[FoundFile, ...]:
        """Where files lead, themselves included: see leads.follow. Asks no hypervisor, but the host must have been connected."""

    async def guest_info(self, uuid: str, parts: Sequence[GuestPart]) -> GuestInfo:
        """What a guest's agent tells (virDomainGetGuestInfo and its elders). Raises AGENT_UNRESPONSIVE. Can hang as the agent does."""

    async def managed_save_image(self, uuid: str) -> SaveImage:
        """The definition in a domain's image (virDomainManagedSaveGetXMLDesc). Raises WRONG_STATE where there is none."""

    async def guest_vcpus(self, uuid: str) -> tuple[GuestVcpu, ...]:
        """By number, as the agent tells (virDomainGetGuestVcpus). Raises AGENT_UNRESPONSIVE, WRONG_STATE. Can hang as the agent does."""

    async def authorized_ssh_keys(self, uuid: str, user: str) -> tuple[str, ...]:
        """A user's public keys, as the agent tells (virDomainAuthorizedSSHKeysGet). As guest_vcpus."""

    async def resource_parameters(self, uuid: str, scope: Scope) -> ResourceParameters:
        """What it may use of its host (virDomainGetSchedulerParametersFlags and its neighbours). Raises WRONG_STATE. Scope BOTH is not asked."""

    async def dirty_rate(self, uuid: str) -> DirtyRate:
        """How fast its memory changes, as last measured (virDomainListGetStats). Raises WRONG_STATE. Can hang as the monitor does."""

    async def screenshot(self, uuid: str, screen: int) -> Screenshot:
        """A picture of a screen, of 64 MiB at most (virDomainScreenshot)."""

    async def domain_capabilities(self, emulator: str, arch: str, machine: str, virt_type: str) -> str:
        """What domains can have, as XML; each empty for the host's own (virConnectGetDomainCapabilities).

        INVALID_ARGUMENT for an emulator that is none of the host's.
        """

    async def close(self) -> None:
        """Close connections. Calls that are out are abandoned; guests and daemons are left as they are."""
