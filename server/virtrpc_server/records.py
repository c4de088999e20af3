"""A job as a value: what is stored, and what watchers see. Replaced whole with every change."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

import msgspec

from virtrpc_drivers.errors import Fault
from virtrpc_drivers.migration import Reading
from virtrpc_drivers.operations import AnyOperation
from virtrpc_drivers.values import BackupInfo, Metadata, Outcome, Phase, VerbSupport
from virtrpc_server.convergence import Convergence
from virtrpc_server.domains import Entry, Observed, Stats
from virtrpc_server.progress import Progress
from virtrpc_server.samples import NO_SAMPLES, Samples

DEFAULT_WAIT_LIMIT = 30.0


class JobState(StrEnum):
    """Where a job stands; all but the first two are final."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    PREEMPTED = "preempted"
    INTERRUPTED = "interrupted"
    OUTCOME_UNKNOWN = "outcome_unknown"


class WaitingFor(StrEnum):
    """What a queued job waits for."""

    CONDITION = "condition"
    HOST_LIMIT = "host_limit"
    DAEMON_BUDGET = "daemon_budget"
    BLOCKED_BY_OTHER = "blocked_by_other"


class OnDisconnect(StrEnum):
    """What happens to a job when the callers that listen to it leave."""

    WITHDRAW = "withdraw"
    DETACH = "detach"
    CANCEL = "cancel"


class CancelReason(StrEnum):
    """Why a job was asked to stop."""

    REQUESTED = "requested"
    CALLER_LEFT = "caller_left"
    RUN_TIMEOUT = "run_timeout"
    DRAIN = "drain"
    NOT_CONVERGING = "not_converging"
    """The last step of a migration's schedule."""
    FOREIGN = "foreign"
    """Somebody else aborted it at the hypervisor."""


class CancelOutcome(StrEnum):
    """What a cancel could do at once."""

    WITHDRAWN = "withdrawn"
    ABORTING = "aborting"
    NOT_ABORTABLE = "not_abortable"
    ALREADY_FINISHED = "already_finished"


@dataclass(frozen=True, slots=True)
class Problem:
    """An error in the contract's words: `reason` is an ErrorReason without its prefix; its status follows from the error table."""

    reason: str
    message: str
    metadata: dict[str, str] = field(default_factory=dict)
    libvirt_code: int | None = None
    libvirt_domain: int | None = None


@dataclass(frozen=True, slots=True)
class Holder:
    """Who is in the way of a queued job. What is no job of ours (a foreign one, a slow read) has only a text."""

    job_id: str = ""
    verb: str = ""
    owner: str = ""
    since: float | None = None
    """Wall time in seconds at which it got what it holds."""
    text: str = ""
    ghost: bool = False
    """Its job has ended and its call has not returned."""
    waiting_for: WaitingFor | None = None
    """What it waits for itself, with what is waited for here in its hands."""


class Origin(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who asked for a job beyond its owner's name, and why: for the audit log, which tells of it when the job is over."""

    rpc: str = ""
    way: str = ""
    names: tuple[str, ...] = ()
    """All that the caller was known as, where that is more than the owner."""
    peer: str = ""
    reason: str = ""


NO_ORIGIN = Origin()


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a caller asks for. Limits in seconds; `run_limit` None is no limit."""

    host: str
    operation: AnyOperation
    name: str
    generation: int | None = None
    owner: str = ""
    origin: Origin = NO_ORIGIN
    request_id: str = ""
    on_disconnect: OnDisconnect = OnDisconnect.WITHDRAW
    wait_limit: float = DEFAULT_WAIT_LIMIT
    run_limit: float | None = None
    destination_host: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    """The domain's, as this order leaves them."""
    fingerprint: str = ""
    """A hash of the request without its clocks and on_disconnect: what a repeated request_id must match. See fingerprints.py."""


class Job(msgspec.Struct, frozen=True, omit_defaults=True):
    """One verb on its way, or done. Times are wall time in seconds, limits seconds.

    A struct, not a dataclass: it is replaced with each report of its progress, which a dataclass of this size takes forty times as long for.
    """

    id: str
    host: str
    uuid: str
    name: str
    generation: int | None
    """The domain's at acceptance; None for one that is only being made."""
    operation: AnyOperation
    """Without its secrets, and once the job is over as `operation_kept` leaves it."""
    owner: str
    request_id: str
    fingerprint: str
    """Hash of the request without its clocks: what a repeated request_id must match. See fingerprints.py."""
    on_disconnect: OnDisconnect
    wait_limit: float
    run_limit: float | None
    created: float
    support: VerbSupport
    """What the hypervisor's table said of the verb when the job was accepted."""
    origin: Origin = NO_ORIGIN
    detached: bool = False
    """Whether any caller wanted it to go on whoever leaves."""
    secret: bool = False
    """Whether `operation` lacks a secret that it was accepted with."""
    attempts: int = 0
    """How many calls were sent for it; with the id it makes the present call's."""
    called: float | None = None
    """When that was sent."""
    haunts: bool = False
    """Its call, or an abort of it, was out when it ended, and is."""
    revision: int = 1
    state: JobState = JobState.QUEUED
    phase: Phase | None = None
    waiting_for: WaitingFor | None = None
    holders: tuple[Holder, ...] = ()
    queue_position: int | None = None
    started: float | None = None
    ended: float | None = None
    updated: float = 0.0
    progress: Progress | None = None
    migration: Reading | None = None
    backup: BackupInfo | None = None
    trouble: Fault | None = None
    """What keeps a block job or a backup from being finished or seen just now."""
    convergence: Convergence | None = None
    """How a migration gets on."""
    samples: Samples = NO_SAMPLES
    abortable: bool = True
    abort_reason: str = ""
    cancel_reason: CancelReason | None = None
    problem: Problem | None = None
    may_still_apply: bool = False
    evidence: str = ""
    outcome: Outcome | None = None
    domain: Entry | None = None
    """The domain as read after the job, where it still exists, as `domain_kept` leaves it."""
    created_domain: bool = False
    labels: tuple[tuple[str, str], ...] = ()
    """The domain's when the job was last decided on: by them rules judge who may see it once the domain is gone."""
    destination_host: str = ""
    traceparent: str = ""
    """The span of the RPC that began it, where that is recorded."""

    @property
    def verb(self) -> str:
        """The operation's tag."""
        return self.operation.verb

    @property
    def finished(self) -> bool:
        """Whether the state is final."""
        return self.state not in (JobState.QUEUED, JobState.RUNNING)


def number_of(job_id: str) -> int:
    """A job's place in the order of acceptance: the first part of its id."""
    return int(job_id.partition("-")[0], 16)


_WITHOUT_TEXTS = {
    "xml": "", "inactive_xml": None, "migratable_xml": None, "metadata": Metadata(), "inactive_metadata": None,
    "disks": (), "interfaces": (), "graphics": (),
}  # fmt: skip
_NO_STATS = Stats()


def operation_kept(operation: AnyOperation) -> AnyOperation:
    """The operation as a finished job keeps it: without its XML and where its files led, since thousands of finished jobs are kept."""
    texts = ("xml", "value", "destination_xml", "persistent_xml", "checkpoint_xml")
    long: dict[str, str | None] = {field: "" for field in texts if field in operation.__struct_fields__}
    if operation.trail is not None:
        long["trail"] = None
    return msgspec.structs.replace(operation, **long) if long else operation


def domain_kept(entry: Entry) -> Entry:
    """The domain as a finished job keeps it: its state and configuration, without the XML texts, the devices and the statistics."""
    config = entry.config
    if config is not None:
        config = Observed(msgspec.structs.replace(config.value, **_WITHOUT_TEXTS), config.stamp)
    return msgspec.structs.replace(entry, config=config, stats=_NO_STATS)
