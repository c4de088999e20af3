"""The one table of errors: from the contract's reasons, and from the drivers', to gRPC's status codes.

Below the transport an error is a `Problem`, raised as a `Refusal`; the interceptor of `transport.py` makes it a status.
"""

from __future__ import annotations

import logging
import uuid
from dataclasses import dataclass
from typing import Any, Never

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped] # googleapis-common-protos has no py.typed
from grpc import StatusCode, aio
from grpc_status import rpc_status

from virtrpc_drivers.errors import Fault, Reason
from virtrpc_server.records import Problem

log = logging.getLogger(__name__)

DOMAIN = "virtrpc"
"""ErrorInfo.domain of every error of this service."""

RETRY_SECONDS = 1
"""What DRAINING recommends: long enough for a balancer or a service manager to have another server ready."""

# A status travels in trailers, and a client refuses trailers of more than 8 KiB whole: it would see none of the error. The message travels twice.
MESSAGE_BYTES = 1024
METADATA_BYTES = 2048

STATUS: dict[str, StatusCode] = {
    "UNSPECIFIED": StatusCode.UNKNOWN,
    "INVALID_ARGUMENT": StatusCode.INVALID_ARGUMENT,
    "XML_INVALID": StatusCode.INVALID_ARGUMENT,
    "XML_TOO_LARGE": StatusCode.INVALID_ARGUMENT,
    "PAGE_TOKEN_INVALID": StatusCode.INVALID_ARGUMENT,
    "RESUME_TOKEN_INVALID": StatusCode.INVALID_ARGUMENT,
    "PATH_NOT_ALLOWED": StatusCode.INVALID_ARGUMENT,
    "MIGRATION_TARGET_NOT_ALLOWED": StatusCode.INVALID_ARGUMENT,
    "REQUEST_ID_REUSED": StatusCode.INVALID_ARGUMENT,
    "HOST_NOT_CONFIGURED": StatusCode.NOT_FOUND,
    "DOMAIN_NOT_FOUND": StatusCode.NOT_FOUND,
    "SNAPSHOT_NOT_FOUND": StatusCode.NOT_FOUND,
    "CHECKPOINT_NOT_FOUND": StatusCode.NOT_FOUND,
    "DEVICE_NOT_FOUND": StatusCode.NOT_FOUND,
    "JOB_NOT_FOUND": StatusCode.NOT_FOUND,
    "METADATA_NOT_FOUND": StatusCode.NOT_FOUND,
    "ALREADY_EXISTS": StatusCode.ALREADY_EXISTS,
    "HOST_UNREACHABLE": StatusCode.FAILED_PRECONDITION,
    "HOST_READ_ONLY": StatusCode.FAILED_PRECONDITION,
    "AGENT_UNRESPONSIVE": StatusCode.FAILED_PRECONDITION,
    "UNSUPPORTED_BY_HYPERVISOR": StatusCode.FAILED_PRECONDITION,
    "AMBIGUOUS_NAME": StatusCode.FAILED_PRECONDITION,
    "WRONG_STATE": StatusCode.FAILED_PRECONDITION,
    "MONITOR_UNRESPONSIVE": StatusCode.FAILED_PRECONDITION,
    "OPERATION_FAILED": StatusCode.FAILED_PRECONDITION,
    "MIGRATION_UNSAFE": StatusCode.FAILED_PRECONDITION,
    "RESOURCE_LACKING": StatusCode.FAILED_PRECONDITION,
    "NOT_READY": StatusCode.FAILED_PRECONDITION,
    "JOURNAL_UNAVAILABLE": StatusCode.FAILED_PRECONDITION,
    "AUDIT_UNAVAILABLE": StatusCode.FAILED_PRECONDITION,
    "RATE_LIMITED": StatusCode.RESOURCE_EXHAUSTED,
    "TOO_MANY_STREAMS": StatusCode.RESOURCE_EXHAUSTED,
    "TOO_MANY_JOBS": StatusCode.RESOURCE_EXHAUSTED,
    "WAIT_TIMEOUT": StatusCode.ABORTED,
    "BUSY": StatusCode.ABORTED,
    "CANCELLED": StatusCode.ABORTED,
    "RUN_TIMEOUT": StatusCode.ABORTED,
    "PREEMPTED": StatusCode.ABORTED,
    "DAEMON_BUDGET_FULL": StatusCode.ABORTED,
    "INTERRUPTED": StatusCode.UNKNOWN,
    "OUTCOME_UNKNOWN": StatusCode.UNKNOWN,
    "UNAUTHENTICATED": StatusCode.UNAUTHENTICATED,
    "PERMISSION_DENIED": StatusCode.PERMISSION_DENIED,
    "HYPERVISOR_PERMISSION_DENIED": StatusCode.PERMISSION_DENIED,
    "HYPERVISOR_UNAUTHENTICATED": StatusCode.UNAUTHENTICATED,
    "DRAINING": StatusCode.UNAVAILABLE,
    "INTERNAL": StatusCode.INTERNAL,
    "UNIMPLEMENTED": StatusCode.UNIMPLEMENTED,
}
"""Each ErrorReason without its prefix, with the status that its comment in types.proto promises."""

FROM_DRIVER: dict[Reason, str] = {
    Reason.HOST_UNREACHABLE: "HOST_UNREACHABLE",
    Reason.HOST_READ_ONLY: "HOST_READ_ONLY",
    Reason.DRIVER_LOST: "INTERRUPTED",
    Reason.DOMAIN_NOT_FOUND: "DOMAIN_NOT_FOUND",
    Reason.SNAPSHOT_NOT_FOUND: "SNAPSHOT_NOT_FOUND",
    Reason.CHECKPOINT_NOT_FOUND: "CHECKPOINT_NOT_FOUND",
    Reason.DEVICE_NOT_FOUND: "DEVICE_NOT_FOUND",
    Reason.ALREADY_EXISTS: "ALREADY_EXISTS",
    Reason.WRONG_STATE: "WRONG_STATE",
    # A job waits on and ends WAIT_TIMEOUT; this is for calls that are no jobs.
    Reason.FOREIGN_JOB: "BUSY",
    Reason.BUSY: "BUSY",
    Reason.ABORTED: "CANCELLED",
    Reason.UNSUPPORTED: "UNSUPPORTED_BY_HYPERVISOR",
    Reason.INVALID_ARGUMENT: "INVALID_ARGUMENT",
    Reason.XML_INVALID: "XML_INVALID",
    Reason.XML_TOO_LARGE: "XML_TOO_LARGE",
    Reason.PATH_NOT_ALLOWED: "PATH_NOT_ALLOWED",
    Reason.MIGRATION_TARGET_NOT_ALLOWED: "MIGRATION_TARGET_NOT_ALLOWED",
    Reason.AGENT_UNRESPONSIVE: "AGENT_UNRESPONSIVE",
    Reason.PERMISSION_DENIED: "HYPERVISOR_PERMISSION_DENIED",
    Reason.UNAUTHENTICATED: "HYPERVISOR_UNAUTHENTICATED",
    Reason.GUEST_TIMEOUT: "RUN_TIMEOUT",
    Reason.MIGRATION_UNSAFE: "MIGRATION_UNSAFE",
    Reason.RESOURCE_LACKING: "RESOURCE_LACKING",
    Reason.FAILED: "OPERATION_FAILED",
    Reason.INTERRUPTED: "INTERRUPTED",
    Reason.OUTCOME_UNKNOWN: "OUTCOME_UNKNOWN",
    Reason.INTERNAL: "INTERNAL",
}


@dataclass(frozen=True, slots=True)
class NotYet(Problem):
    """One that is over by itself soon."""

    retry_seconds: float = 0.5
    """When to try again."""


class Refusal(Exception):  # noqa: N818 # the word that the design uses
    """An error that is meant for the caller."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(f"{problem.reason}: {problem.message}")
        self.problem = problem


def refuse(reason: str, message: str, **metadata: str) -> Refusal:
    """A Refusal to raise. `reason` is an ErrorReason without its prefix: KeyError for any other text."""
    STATUS[reason]
    return Refusal(Problem(reason, message, metadata))


def not_yet(message: str, **metadata: str) -> Refusal:
    """A host that this server, just started, is still getting to know. Callers are told to try again soon."""
    return Refusal(NotYet("HOST_UNREACHABLE", message, metadata))


def too_much(reason: str, message: str, limit: float, retry_seconds: float) -> Refusal:
    """More than one caller may have. Callers are told what the limit is, and to try again after so long."""
    STATUS[reason]
    return Refusal(NotYet(reason, message, {"limit": f"{limit:g}"}, retry_seconds=retry_seconds))


def problem_of(fault: Fault, **metadata: str) -> Problem:
    """A driver's fault in the contract's words. The text of an INTERNAL one goes to the log only."""
    if fault.reason is Reason.INTERNAL:
        return internal(f"a driver failed: {fault.message}", **metadata)
    return Problem(FROM_DRIVER[fault.reason], fault.message, metadata, fault.libvirt_code, fault.libvirt_domain)


def internal(text: str, error: BaseException | None = None, /, **metadata: str) -> Problem:
    """Log what nobody expected, with its traceback, and give the problem that names the log's entry by "error_id"."""
    error_id = uuid.uuid4().hex
    log.error("error %s: %s", error_id, text, exc_info=error, extra={"error_id": error_id})
    return Problem("INTERNAL", f"a fault of this server; its log has error {error_id}", {**metadata, "error_id": error_id})


def status_of(problem: Problem) -> StatusCode:
    """The status of a problem; UNKNOWN for a reason that this server does not know (from a newer server's journal)."""
    return STATUS.get(problem.reason, StatusCode.UNKNOWN)


def code_of(problem: Problem) -> int:
    """The same as a google.rpc.Code."""
    code: int = status_of(problem).value[0]
    return code


def rich_status(problem: Problem) -> grpc.Status:
    """The status with its details: ErrorInfo, and RetryInfo where a retry will do. Long texts are cut to what trailers can carry."""
    info = error_details_pb2.ErrorInfo(reason=problem.reason, domain=DOMAIN, metadata=_fitting(problem.metadata))
    details: list[Message] = [info]
    seconds = problem.retry_seconds if isinstance(problem, NotYet) else RETRY_SECONDS if problem.reason == "DRAINING" else None
    if seconds is not None:
        details.append(error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(nanos=int(seconds * 1e9) % 10**9, seconds=int(seconds))))
    status = status_pb2.Status(code=code_of(problem), message=_cut(problem.message, MESSAGE_BYTES), details=map(_packed, details))
    return rpc_status.to_status(status)


async def abort(context: aio.ServicerContext[Any, Any], problem: Problem) -> Never:
    """End an RPC with a problem. Raises grpc's AbortError, which must pass untouched."""
    await context.abort_with_status(rich_status(problem))


def _packed(detail: Message) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(detail)
    return packed


def _fitting(metadata: dict[str, str]) -> dict[str, str]:
    room = METADATA_BYTES
    fitting = {}
    for key, value in metadata.items():
        fitting[key] = _cut(value, max(0, room - len(key)))
        room -= len(key) + len(fitting[key].encode())
    return fitting


def _cut(text: str, size: int) -> str:
    """The text in at most `size` bytes of UTF-8."""
    raw = text.encode(errors="replace")
    return raw.decode() if len(raw) <= size else raw[: max(0, size - 3)].decode(errors="ignore") + "…"[: size // 3]
