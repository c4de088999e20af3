"""A job record as a Job."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import compress
from typing import TYPE_CHECKING, Any, NamedTuple

from msgspec.structs import astuple

from virtrpc.v1 import job_pb2, types_pb2
from virtrpc_drivers.operations import (
    AnyBlocks,
    Backup,
    CommitBlock,
    CopyBlock,
    CreateCheckpoint,
    CreateSnapshot,
    Define,
    DefineSaveImage,
    DumpCore,
    FreezeFilesystems,
    Migrate,
    PullBlock,
    Save,
    ThawFilesystems,
)
from virtrpc_drivers.values import Outcome, Phase
from virtrpc_server.errors import code_of, problem_of
from virtrpc_server.hosts import Hosts
from virtrpc_server.messages.backup import backup_message
from virtrpc_server.messages.checkpoints import checkpoint_message
from virtrpc_server.messages.common import duration, enum_table, timestamp
from virtrpc_server.messages.domains import domain_message
from virtrpc_server.messages.migration import migration_message, reading_message
from virtrpc_server.messages.snapshots import snapshot_message
from virtrpc_server.messages.verbs import kind_of
from virtrpc_server.progress import Progress
from virtrpc_server.records import CancelReason, Holder, Job, JobState, OnDisconnect, Problem, WaitingFor
from virtrpc_server.serialised import field

if TYPE_CHECKING:
    from virtrpc_server.jobs import Jobs

JOB_STATES = enum_table(JobState, types_pb2.JobState, "JOB_STATE_")
PHASES = enum_table(Phase, types_pb2.JobPhase, "JOB_PHASE_", {Phase.CALLING: "UNSPECIFIED"})
WAITING_FOR = enum_table(WaitingFor, types_pb2.JobWaitingFor, "JOB_WAITING_FOR_")
CANCEL_REASONS = enum_table(CancelReason, types_pb2.CancelReason, "CANCEL_REASON_")
BLOCK_FINISHES = {
    None: types_pb2.BLOCK_JOB_FINISH_UNSPECIFIED,
    "pivot": types_pb2.BLOCK_JOB_FINISH_PIVOT,
    "stop": types_pb2.BLOCK_JOB_FINISH_STOP,
    "wait": types_pb2.BLOCK_JOB_FINISH_WAIT,
}
ON_DISCONNECT = enum_table(OnDisconnect, types_pb2.OnDisconnect, "ON_DISCONNECT_", {OnDisconnect.WITHDRAW: "UNSPECIFIED"})


# What each report of progress changes, and who is in the way, are apart from the rest of a job, whose bytes stay good for many revisions.
_MOVING = frozenset({"revision", "updated", "progress", "samples", "holders"})
_LASTS = [name not in _MOVING for name in Job.__struct_fields__]


def job_message(job: Job, hosts: Hosts) -> types_pb2.Job:
    """A job whole, as of its revision; `hosts` say how fresh the domain in its result is."""
    message = _lasting(job, hosts)
    message.MergeFrom(_moving(job))
    message.MergeFrom(_holders(job))
    return message


def _moving(job: Job) -> types_pb2.Job:
    progress = _progress(job.progress) if job.progress is not None else None
    return types_pb2.Job(revision=job.revision, update_time=timestamp(job.updated), progress=progress)


def _lasting(job: Job, hosts: Hosts) -> types_pb2.Job:
    return types_pb2.Job(
        job_id=job.id,
        kind=kind_of(job.verb),
        domain=_identity(job),
        owner=job.owner,
        request_id=job.request_id,
        reason=job.origin.reason,
        backup=backup_message(job.backup) if job.backup is not None else None,
        block_job=_block_job(job.operation) if isinstance(job.operation, AnyBlocks) else None,
        **_standing(job),
        **_times(job),
        **_stopping(job),
        **_result(job, hosts),
    )


class JobBytes(NamedTuple):
    """A job's revision as streams send it: a JobUpdate, and a WatchJobsResponse with this one change."""

    update: bytes
    change: bytes


def job_bytes(job: Job, jobs: Jobs) -> JobBytes:
    """A job encoded, once for each revision however many listen."""
    return jobs.serialised.get(
        job.id, (job,), lambda: _encoded(_lasting_bytes(job, jobs) + _moving(job).SerializeToString() + _holders_bytes(job, jobs))
    )


def job_bytes_for(told: Job, job: Job, jobs: Jobs) -> JobBytes:
    """The same of a job of which not all is told."""
    if told.holders is not job.holders or told.problem is not job.problem:
        return _encoded(job_message(told, jobs.hosts).SerializeToString())
    # All who are kept from the same few fields are told the same.
    return jobs.serialised.get(f"{job.id} without request_id", (job,), lambda: _encoded(job_message(told, jobs.hosts).SerializeToString()))


def _lasting_bytes(job: Job, jobs: Jobs) -> bytes:
    return jobs.serialised_lasting.get(job.id, tuple(compress(astuple(job), _LASTS)), lambda: _lasting(job, jobs.hosts).SerializeToString())


def _holders_bytes(job: Job, jobs: Jobs) -> bytes:
    # A budget has a hundred holders, and fifty jobs that wait for it are told of the same ones in one go.
    if not job.holders:
        return b""
    told_at = round(job.updated, 1)
    return jobs.serialised_holders.get((id(job.holders), told_at), (job.holders,), lambda: _holders(job).SerializeToString())


def _encoded(job: bytes) -> JobBytes:
    change = field(job_pb2.JobChange.CURRENT_FIELD_NUMBER, job)
    return JobBytes(field(types_pb2.JobUpdate.JOB_FIELD_NUMBER, job), field(job_pb2.WatchJobsResponse.CHANGES_FIELD_NUMBER, change))


def _identity(job: Job) -> types_pb2.DomainIdentity:
    return types_pb2.DomainIdentity(host=job.host, uuid=job.uuid, name=job.name)


def _standing(job: Job) -> dict[str, Any]:
    return {
        "state": JOB_STATES[job.state],
        "phase": PHASES[job.phase] if job.phase is not None else None,
        "waiting_for": WAITING_FOR[job.waiting_for] if job.waiting_for is not None else None,
        "queue_position": job.queue_position,
        "migration": migration_message(job) if job.migration is not None or job.convergence is not None else None,
    }


def _times(job: Job) -> dict[str, Any]:
    return {
        "create_time": timestamp(job.created),
        "start_time": timestamp(job.started),
        "end_time": timestamp(job.ended),
        "wait_timeout": duration(job.wait_limit),
        "run_timeout": duration(job.run_limit),
        "on_disconnect": ON_DISCONNECT[job.on_disconnect],
    }


def _stopping(job: Job) -> dict[str, Any]:
    return {
        "abortable": job.abortable and not job.finished,
        "abort_reason": "" if job.finished else job.abort_reason,
        "cancel_requested": job.cancel_reason not in (None, CancelReason.FOREIGN),
        "cancel_reason": CANCEL_REASONS[job.cancel_reason] if job.cancel_reason is not None else None,
        "error": error_message(job.problem) if job.problem is not None else None,
        "trouble": error_message(problem_of(job.trouble, host=job.host, domain=job.uuid)) if job.trouble is not None else None,
        "may_still_apply": job.may_still_apply,
        "evidence": job.evidence,
    }


def _holders(job: Job) -> types_pb2.Job:
    return types_pb2.Job(holders=[_holder(holder, job.updated) for holder in job.holders])


def _holder(holder: Holder, now: float) -> types_pb2.JobHolder:
    return types_pb2.JobHolder(
        job_id=holder.job_id,
        kind=kind_of(holder.verb),
        owner=holder.owner,
        since_time=timestamp(holder.since),
        age=duration(max(0.0, now - holder.since)) if holder.since is not None else None,
        foreign_text=holder.text,
        ghost=holder.ghost,
        waiting_for=WAITING_FOR[holder.waiting_for] if holder.waiting_for else types_pb2.JOB_WAITING_FOR_UNSPECIFIED,
    )


def _progress(progress: Progress) -> types_pb2.JobProgress:
    return types_pb2.JobProgress(
        processed_bytes=progress.processed_bytes,
        total_bytes=progress.total_bytes,
        remaining_bytes=progress.remaining_bytes,
        rate_bytes_per_second=progress.rate_bytes_per_second,
        eta=duration(progress.remaining_seconds),
        percent=progress.percent,
        observed_time=timestamp(progress.observed),
        elapsed=duration(progress.elapsed_seconds),
        memory_iteration=progress.memory_iteration,
    )


def sample_messages(job: Job) -> Iterator[types_pb2.ProgressSample]:
    """How a job went, oldest first."""
    for sample in job.samples.all():
        migration = reading_message(sample.migration) if sample.migration is not None else None
        yield types_pb2.ProgressSample(phase=PHASES[sample.phase], progress=_progress(sample.progress), migration=migration)


def error_message(problem: Problem) -> types_pb2.JobError:
    """What went wrong with a job: the same as the status of its verb."""
    return types_pb2.JobError(
        code=code_of(problem),
        reason=problem.reason,
        message=problem.message,
        metadata=problem.metadata,
        libvirt_code=problem.libvirt_code,
        libvirt_domain=problem.libvirt_domain,
    )


def _result(job: Job, hosts: Hosts) -> dict[str, Any]:
    if job.state is not JobState.SUCCEEDED:
        return {}
    match job.operation:
        case Define():
            return {"define_domain_result": types_pb2.DefineDomainResult(domain=_domain(job, hosts), created=job.created_domain)}
        case CreateSnapshot():
            return {"create_snapshot_result": types_pb2.CreateSnapshotResult(snapshot=_snapshot(job))}
        case CreateCheckpoint():
            return {"create_checkpoint_result": types_pb2.CreateCheckpointResult(checkpoint=_checkpoint(job))}
        case Migrate():
            return {"migrate_domain_result": _migrated(job, job.operation)}
        case Save() | DumpCore() | DefineSaveImage():
            return {"file_result": types_pb2.FileResult(path=job.operation.path, domain=_domain(job, hosts))}
        case Backup():
            return {"backup_domain_result": types_pb2.BackupDomainResult(checkpoint=_checkpoint(job), domain=_domain(job, hosts))}
        case PullBlock() | CopyBlock() | CommitBlock():
            return {"block_job_result": _block_result(job, job.operation.disk, hosts)}
        case FreezeFilesystems() | ThawFilesystems():
            return {"filesystems_result": types_pb2.FilesystemsResult(filesystems=job.outcome.count or 0 if job.outcome else 0)}
        case _:
            return {"domain_result": types_pb2.DomainResult(domain=_domain(job, hosts))}


def _domain(job: Job, hosts: Hosts) -> types_pb2.Domain | None:
    return domain_message(job.domain, hosts.get(job.domain.host)) if job.domain is not None else None


def _snapshot(job: Job) -> types_pb2.Snapshot | None:
    if job.outcome is None or job.outcome.snapshot is None:
        return None
    return snapshot_message(job.outcome.snapshot, _identity(job), job.ended)


def _checkpoint(job: Job) -> types_pb2.Checkpoint | None:
    if job.outcome is None or job.outcome.checkpoint is None:
        return None
    return checkpoint_message(job.outcome.checkpoint, _identity(job), job.ended)


def _block_job(operation: AnyBlocks) -> types_pb2.BlockJob:
    return types_pb2.BlockJob(disk=operation.disk, finish=BLOCK_FINISHES[getattr(operation, "finish", None)])


def _block_result(job: Job, disk: str, hosts: Hosts) -> types_pb2.BlockJobResult:
    outcome = job.outcome or Outcome()
    return types_pb2.BlockJobResult(disk=disk, finish=BLOCK_FINISHES[outcome.finish], path=outcome.path or "", domain=_domain(job, hosts))


def _migrated(job: Job, operation: Migrate) -> types_pb2.MigrateDomainResult:
    uri = job.outcome.destination_uri if job.outcome is not None else None
    uuid = job.outcome.uuid if job.outcome is not None else None
    return types_pb2.MigrateDomainResult(host=job.destination_host, uri=uri or "", uuid=uuid or job.uuid, name=operation.new_name or job.name)
