"""What a call or a job failed with, as exceptions: one class for each family of reasons, found by one dictionary."""
# ruff: noqa: N818 - they are called as the contract calls its reasons

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import grpc
from google.protobuf import any_pb2
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped] # has neither stubs nor a marker

if TYPE_CHECKING:
    from virtrpc.v1.types_pb2 import Job, JobError

DETAILS_KEY = "grpc-status-details-bin"
ERROR_DOMAIN = "virtrpc"


class VirtrpcError(Exception):
    """The root of all errors of this package.

    `code` is the gRPC status. `reason` is an ErrorReason without its prefix; empty where no virtrpc server said it, such as a broken connection.
    `metadata` holds the pairs that the contract names at the reason. `job` is the job as last seen, where a job failed. `retry_after` are the
    seconds that the server asks to be left alone before a retry; None where it did not say.
    """

    retry_after: float | None = None

    def __init__(
        self, code: grpc.StatusCode, reason: str = "", message: str = "", metadata: Mapping[str, str] | None = None, job: Job | None = None
    ) -> None:
        super().__init__(message or reason or code.name)
        self.code = code
        self.reason = reason
        self.message = message
        self.metadata: Mapping[str, str] = dict(metadata or {})
        self.job = job


class InvalidArgument(VirtrpcError):
    """The request is wrong, and repeating it is useless. `metadata["field"]` may name the field."""


class NotFound(VirtrpcError):
    """No such host, domain, snapshot, device or job."""


class JobNotFound(NotFound):
    """No such job, or one that the server has forgotten. Of a job that was accepted: look at the domain before you repeat it."""


class AlreadyExists(VirtrpcError):
    """A domain, snapshot or device of that name exists or is being made."""


class FailedPrecondition(VirtrpcError):
    """The request is right, and the world is not ready for it."""


class HostUnreachable(FailedPrecondition):
    """The hypervisor cannot be reached, or was never listed. Retry later."""


class HostReadOnly(FailedPrecondition):
    """The host is configured read-only."""


class AgentUnresponsive(FailedPrecondition):
    """The guest agent is absent or does not answer."""


class Unsupported(FailedPrecondition):
    """The hypervisor lacks the verb, or this form of it."""


class AmbiguousName(FailedPrecondition):
    """Several domains fit; `metadata["matches"]` lists them."""


class WrongState(FailedPrecondition):
    """The domain is not in a state for it; `metadata["state"]`."""


class MonitorUnresponsive(FailedPrecondition):
    """The hypervisor does not answer for this domain."""


class OperationFailed(FailedPrecondition):
    """The hypervisor tried and failed; the message is libvirt's."""


class MigrationUnsafe(OperationFailed):
    """libvirt thinks that the move could damage the guest's disks."""


class ResourceLacking(OperationFailed):
    """The hypervisor ran out of memory, disk space or devices."""


class NotReady(FailedPrecondition):
    """The job is not at a point where this can be done; `metadata["phase"]`. Watch it, then retry."""


class JournalUnavailable(FailedPrecondition):
    """The server cannot write or read its journal of jobs (its disk is full, its file damaged); nothing was begun. Queries are answered."""


class AuditUnavailable(FailedPrecondition):
    """The server cannot write its audit log, and is set to change nothing without it; nothing was begun. Queries are answered."""


class LimitExceeded(VirtrpcError):
    """More than the server lets one caller have (`reason`, `metadata["limit"]`), or a longer message than it takes. Nothing was begun."""


class Aborted(VirtrpcError):
    """Stopped before it was done."""


class Busy(Aborted):
    """Something else is in the way, and nothing was changed. `metadata["holder_job_id"]` and its neighbours say what."""


class WaitTimeout(Busy):
    """The job waited for as long as `wait_timeout` allows."""


class Cancelled(Aborted):
    """The job was cancelled."""


class RunTimeout(Aborted):
    """The job ran for as long as `run_timeout` allows, and was stopped."""


class Preempted(Aborted):
    """The domain was destroyed before the job could do its work."""


class OutcomeUnknown(VirtrpcError):
    """Nobody can say what became of the job; it may still take effect. Look before you repeat it."""


class Interrupted(OutcomeUnknown):
    """A restart or a crash cut the job off, and nothing proves that it succeeded."""


class Unauthenticated(VirtrpcError):
    """The server does not know who you are."""


class PermissionDenied(VirtrpcError):
    """You may not call this, or not for this domain."""


class HypervisorDenied(VirtrpcError):
    """The hypervisor refuses the server's own account or credentials; yours are not in question. Its administrator must act."""


class ServerUnavailable(VirtrpcError):
    """The virtrpc server itself cannot be reached or is going down. Retry, there or at another."""


class DeadlineExceeded(VirtrpcError):
    """You stopped listening because your time was up. A job goes its own way, as its on_disconnect says."""


class Unimplemented(VirtrpcError):
    """The server is older than this client."""


class Internal(VirtrpcError):
    """A fault of the server, or a status that the contract does not know. `metadata["error_id"]` finds it in the server's log."""


BY_REASON: Mapping[str, type[VirtrpcError]] = {
    "INVALID_ARGUMENT": InvalidArgument,
    "XML_INVALID": InvalidArgument,
    "XML_TOO_LARGE": InvalidArgument,
    "PAGE_TOKEN_INVALID": InvalidArgument,
    "RESUME_TOKEN_INVALID": InvalidArgument,
    "PATH_NOT_ALLOWED": InvalidArgument,
    "MIGRATION_TARGET_NOT_ALLOWED": InvalidArgument,
    "REQUEST_ID_REUSED": InvalidArgument,
    "HOST_NOT_CONFIGURED": NotFound,
    "DOMAIN_NOT_FOUND": NotFound,
    "SNAPSHOT_NOT_FOUND": NotFound,
    "CHECKPOINT_NOT_FOUND": NotFound,
    "DEVICE_NOT_FOUND": NotFound,
    "JOB_NOT_FOUND": JobNotFound,
    "METADATA_NOT_FOUND": NotFound,
    "ALREADY_EXISTS": AlreadyExists,
    "HOST_UNREACHABLE": HostUnreachable,
    "HOST_READ_ONLY": HostReadOnly,
    "AGENT_UNRESPONSIVE": AgentUnresponsive,
    "UNSUPPORTED_BY_HYPERVISOR": Unsupported,
    "AMBIGUOUS_NAME": AmbiguousName,
    "WRONG_STATE": WrongState,
    "MONITOR_UNRESPONSIVE": MonitorUnresponsive,
    "OPERATION_FAILED": OperationFailed,
    "MIGRATION_UNSAFE": MigrationUnsafe,
    "RESOURCE_LACKING": ResourceLacking,
    "NOT_READY": NotReady,
    "JOURNAL_UNAVAILABLE": JournalUnavailable,
    "AUDIT_UNAVAILABLE": AuditUnavailable,
    "RATE_LIMITED": LimitExceeded,
    "TOO_MANY_STREAMS": LimitExceeded,
    "TOO_MANY_JOBS": LimitExceeded,
    "WAIT_TIMEOUT": WaitTimeout,
    "BUSY": Busy,
    "CANCELLED": Cancelled,
    "RUN_TIMEOUT": RunTimeout,
    "PREEMPTED": Preempted,
    "DAEMON_BUDGET_FULL": Busy,
    "INTERRUPTED": Interrupted,
    "OUTCOME_UNKNOWN": OutcomeUnknown,
    "UNAUTHENTICATED": Unauthenticated,
    "PERMISSION_DENIED": PermissionDenied,
    "HYPERVISOR_PERMISSION_DENIED": HypervisorDenied,
    "HYPERVISOR_UNAUTHENTICATED": HypervisorDenied,
    "DRAINING": ServerUnavailable,
    "INTERNAL": Internal,
    "UNIMPLEMENTED": Unimplemented,
}

# For reasons of a newer server, and for statuses that proxies and gRPC itself make.
BY_CODE: Mapping[grpc.StatusCode, type[VirtrpcError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidArgument,
    grpc.StatusCode.OUT_OF_RANGE: InvalidArgument,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.ALREADY_EXISTS: AlreadyExists,
    grpc.StatusCode.FAILED_PRECONDITION: FailedPrecondition,
    grpc.StatusCode.RESOURCE_EXHAUSTED: LimitExceeded,
    grpc.StatusCode.ABORTED: Aborted,
    grpc.StatusCode.UNAUTHENTICATED: Unauthenticated,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDenied,
    grpc.StatusCode.UNAVAILABLE: ServerUnavailable,
    # Ours are never seen as a status: this is a proxy or a server that cut the call.
    grpc.StatusCode.CANCELLED: ServerUnavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    grpc.StatusCode.UNIMPLEMENTED: Unimplemented,
}

_CODES: Mapping[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}


def make_error(
    code: grpc.StatusCode, reason: str = "", message: str = "", metadata: Mapping[str, str] | None = None, job: Job | None = None
) -> VirtrpcError:
    """The exception for a reason; for one that is not known here, that of the status code."""
    kind = BY_REASON.get(reason) or BY_CODE.get(code, Internal)
    if reason and kind is Internal and code is grpc.StatusCode.UNKNOWN:
        kind = OutcomeUnknown  # a newer server's reason; without one it is some handler's crash
    return kind(code, reason, message, metadata, job)


def from_status(code: grpc.StatusCode, message: str, trailers: Iterable[tuple[str, str | bytes]] | None) -> VirtrpcError:
    """The exception for an RPC that ended with `code`; its ErrorInfo and RetryInfo are looked for in the trailing metadata."""
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    for detail in _all_details(trailers or ()):
        if not (detail.Unpack(info) and info.domain == ERROR_DOMAIN):
            detail.Unpack(retry)
    ours = info.domain == ERROR_DOMAIN
    error = make_error(code, info.reason if ours else "", message, info.metadata if ours else None)
    if retry.HasField("retry_delay"):
        error.retry_after = retry.retry_delay.ToMilliseconds() / 1000
    return error


def is_passing(error: VirtrpcError) -> bool:
    """A retry will do: it was no answer of a server, or one that sends us elsewhere or to try again soon."""
    return was_cut(error) or error.retry_after is not None


def was_cut(error: VirtrpcError) -> bool:
    """It was no answer of a server, or one that sends us elsewhere."""
    cut = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN)
    return error.code in cut and error.reason in ("", "DRAINING")


def from_job(job: Job) -> VirtrpcError:
    """The exception for a job that ended otherwise than SUCCEEDED."""
    error: JobError = job.error
    return make_error(_CODES.get(error.code, grpc.StatusCode.UNKNOWN), error.reason, error.message, error.metadata, job)


def _all_details(trailers: Iterable[tuple[str, str | bytes]]) -> Iterable[any_pb2.Any]:
    return [detail for key, value in trailers if key == DETAILS_KEY and isinstance(value, bytes) for detail in _details(value)]


def _details(value: bytes) -> Iterable[any_pb2.Any]:
    try:
        details: Iterable[any_pb2.Any] = status_pb2.Status.FromString(value).details
    except DecodeError:  # a proxy's garbage must not hide the status itself
        return ()
    return details
