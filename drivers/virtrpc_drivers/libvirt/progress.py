"""libvirt's job statistics of a domain: whose they are, and what they say of our call."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import libvirt

from virtrpc_drivers.errors import Reason, failure
from virtrpc_drivers.libvirt import migration_stats
from virtrpc_drivers.libvirt.errors import fault_of
from virtrpc_drivers.libvirt.migration_stats import UNKNOWN, Limits
from virtrpc_drivers.libvirt.readings import optional
from virtrpc_drivers.operations import Backup, CreateSnapshot, DumpCore, ManagedSave, Migrate, Operation, Save
from virtrpc_drivers.protocol import Report
from virtrpc_drivers.values import Phase, Stamp

POLL_SECONDS = 0.25
CLOCK_SLACK = 0.5
"""Seconds by which libvirt's elapsed time may exceed ours, rounding and clock rates included."""

_TAKEN = (libvirt.VIR_DOMAIN_CONTROL_JOB, libvirt.VIR_DOMAIN_CONTROL_OCCUPIED)
_POST_COPY = (libvirt.VIR_DOMAIN_PAUSED_POSTCOPY, libvirt.VIR_DOMAIN_PAUSED_POSTCOPY_FAILED)
_LIVE = (libvirt.VIR_DOMAIN_JOB_BOUNDED, libvirt.VIR_DOMAIN_JOB_UNBOUNDED)


@dataclass(frozen=True)
class JobLook:
    """One reading of virDomainGetJobStats: what runs, since how many seconds."""

    kind: int
    operation: int
    elapsed: float
    fields: dict[str, Any]
    post_copy: bool = False
    """A migration away whose guest runs at the destination already."""
    limits: Limits = UNKNOWN
    """What is set for a migration, where that was asked for."""

    @property
    def live(self) -> bool:
        """Whether a job is under way."""
        return self.kind in _LIVE

    @property
    def abortable(self) -> bool:
        """Whether that job could be aborted now."""
        return self.live and not self.post_copy

    @property
    def present(self) -> bool:
        """Whether libvirt holds an asynchronous job at all, be it in its last steps."""
        return bool(self.kind != libvirt.VIR_DOMAIN_JOB_NONE)


_OPERATIONS = {
    libvirt.VIR_DOMAIN_JOB_OPERATION_START: "start",
    libvirt.VIR_DOMAIN_JOB_OPERATION_SAVE: "save",
    libvirt.VIR_DOMAIN_JOB_OPERATION_RESTORE: "restore",
    libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_IN: "incoming migration",
    libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT: "migration",
    libvirt.VIR_DOMAIN_JOB_OPERATION_SNAPSHOT: "snapshot",
    libvirt.VIR_DOMAIN_JOB_OPERATION_SNAPSHOT_REVERT: "revert to a snapshot",
    libvirt.VIR_DOMAIN_JOB_OPERATION_DUMP: "dump",
    libvirt.VIR_DOMAIN_JOB_OPERATION_BACKUP: "backup",
}

NO_JOB = JobLook(kind=libvirt.VIR_DOMAIN_JOB_NONE, operation=libvirt.VIR_DOMAIN_JOB_OPERATION_UNKNOWN, elapsed=0.0, fields={})


def job_operation(operation: Operation) -> int | None:
    """The virDomainJobOperation under which libvirt runs this operation; None where it keeps no statistics of it."""
    if isinstance(operation, ManagedSave | Save):
        return int(libvirt.VIR_DOMAIN_JOB_OPERATION_SAVE)
    if isinstance(operation, Migrate):
        return int(libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT)
    if isinstance(operation, DumpCore):
        return int(libvirt.VIR_DOMAIN_JOB_OPERATION_DUMP)
    if isinstance(operation, Backup):
        return int(libvirt.VIR_DOMAIN_JOB_OPERATION_BACKUP)
    if isinstance(operation, CreateSnapshot) and operation.saves_memory:
        return int(libvirt.VIR_DOMAIN_JOB_OPERATION_SNAPSHOT)
    return None


def rate_between(last: tuple[float, int] | None, now: tuple[float, int]) -> int | None:
    """Bytes a second between two looks, each (seconds, bytes done); None where there was none before."""
    if last is None or now[0] <= last[0]:
        return None
    return max(0, int((now[1] - last[1]) / (now[0] - last[0])))


def is_occupied(domain: Any) -> bool:
    """Whether somebody is at the domain's monitor, or has its job: what needs these would wait, perhaps for ever. Never hangs."""
    control = optional(lambda: domain.controlInfo(0))
    return control is not None and control[0] in _TAKEN


def look(connection: Any, uuid: str, *, limits: bool = False) -> JobLook | None:
    """virDomainGetJobStats of a domain, with the `limits` of a migration; None where it is occupied, and was not asked.

    Takes libvirt's query job: it can fail with error 68, or hang where the monitor hangs and nobody has noticed yet.
    """
    domain = connection.lookupByUUIDString(uuid)
    return None if is_occupied(domain) else _statistics(domain, limits=limits)


def _statistics(domain: Any, *, limits: bool = False) -> JobLook:
    fields: dict[str, Any] = domain.jobStats(0)
    operation = fields.get(libvirt.VIR_DOMAIN_JOB_OPERATION, libvirt.VIR_DOMAIN_JOB_OPERATION_UNKNOWN)
    away = operation == libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT
    return JobLook(
        kind=fields.get("type", libvirt.VIR_DOMAIN_JOB_NONE),
        operation=operation,
        post_copy=away and _in_post_copy(domain),
        limits=migration_stats.limits(domain) if away and limits else UNKNOWN,
        elapsed=fields.get(libvirt.VIR_DOMAIN_JOB_TIME_ELAPSED, 0) / 1000,
        fields=fields,
    )


def _in_post_copy(domain: Any) -> bool:
    """The source of a guest that went on at the destination: neither asks the monitor nor takes a job."""
    state = optional(domain.state)
    return state is not None and state[0] == libvirt.VIR_DOMAIN_PAUSED and state[1] in _POST_COPY


def clear_completed(domain: Any) -> None:
    """Read, and so drop, the statistics of an older job, lest they be taken for ours."""
    try:
        domain.jobStats(libvirt.VIR_DOMAIN_JOB_STATS_COMPLETED)
    except libvirt.libvirtError:
        pass  # none there, or this hypervisor keeps none


def find_free(domain: Any) -> None:
    """Raises FOREIGN_JOB where the domain runs a job of somebody else's, before ours is sent to wait behind it. Can hang, as ours would.

    Inside libvirt it would wait 30 s for nothing, no cancel would reach it there, and it would go ahead after all; and a job of the same
    operation that comes before it in libvirt's queue could not be told from it.
    """
    try:
        job = _statistics(domain)
    except libvirt.libvirtError as error:
        if fault_of(error).reason in (Reason.FOREIGN_JOB, Reason.HOST_UNREACHABLE):
            raise
        return  # it is off or gone, or nothing can be asked: then the call itself says so
    if job.present:
        name = _OPERATIONS.get(job.operation, "a job")
        raise failure(Reason.FOREIGN_JOB, f"libvirt shows another's {name} on this domain, begun {job.elapsed:.1f} s ago")


def is_ours(job: JobLook, operation: int | None, began: float, now: float, within: float = math.inf) -> bool:
    """Whether a job that was read at `now` can be the call that went out at `began` (seconds of one clock).

    The same operation, and not older than our call: a job that began before it is somebody else's. Nor did it begin more than `within`
    seconds after it: nothing was in our call's way when it was sent (`find_free`).
    """
    if not job.present or operation is None or job.operation != operation:
        return False
    return began - CLOCK_SLACK <= now - job.elapsed <= began + within


def report(call_id: str, job: JobLook, stamp: Stamp) -> Report:
    """What our job's statistics say. Bytes; the rate in bytes a second."""
    # Before the first pass begins, the statistics are there and all zero: that says nothing.
    fields = job.fields if job.fields.get(libvirt.VIR_DOMAIN_JOB_DATA_TOTAL) else {}
    remaining = fields.get(libvirt.VIR_DOMAIN_JOB_DATA_REMAINING)
    rate = fields.get(libvirt.VIR_DOMAIN_JOB_MEMORY_BPS)
    return Report(
        call_id=call_id,
        phase=_phase(job),
        abortable=job.abortable,
        stamp=stamp,
        processed_bytes=fields.get(libvirt.VIR_DOMAIN_JOB_DATA_PROCESSED),
        total_bytes=fields.get(libvirt.VIR_DOMAIN_JOB_DATA_TOTAL),
        remaining_bytes=remaining,
        rate_bytes_per_second=rate,
        remaining_seconds=_remaining_seconds(fields, remaining, rate),
        elapsed_seconds=job.elapsed,
        memory_iteration=fields.get(libvirt.VIR_DOMAIN_JOB_MEMORY_ITERATION) if _migrates(job) else None,
        migration=migration_stats.reading(fields, job.limits) if _migrates(job) else None,
    )


def _migrates(job: JobLook) -> bool:
    return bool(job.operation == libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT)


def _phase(job: JobLook) -> Phase:
    if not _migrates(job):
        return Phase.CALLING
    if not job.live:
        return Phase.MIGRATION_FINISH
    if job.post_copy:
        return Phase.MIGRATION_POST_COPY
    return Phase.MIGRATION_COPY if job.fields.get(libvirt.VIR_DOMAIN_JOB_DATA_TOTAL) else Phase.MIGRATION_PREPARE


def _remaining_seconds(fields: dict[str, Any], remaining: int | None, rate: int | None) -> float | None:
    stated = fields.get(libvirt.VIR_DOMAIN_JOB_TIME_REMAINING)
    if stated is not None:
        return float(stated) / 1000
    return remaining / rate if remaining is not None and rate else None
