"""What can go wrong at a hypervisor, in words that know nothing of gRPC."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Reason(StrEnum):
    """Why a driver call failed. The server's error table gives each its status."""

    HOST_UNREACHABLE = "HOST_UNREACHABLE"
    HOST_READ_ONLY = "HOST_READ_ONLY"
    DRIVER_LOST = "DRIVER_LOST"
    """The driver process ended while the call was out: nobody knows yet what became of it."""
    DOMAIN_NOT_FOUND = "DOMAIN_NOT_FOUND"
    SNAPSHOT_NOT_FOUND = "SNAPSHOT_NOT_FOUND"
    CHECKPOINT_NOT_FOUND = "CHECKPOINT_NOT_FOUND"
    DEVICE_NOT_FOUND = "DEVICE_NOT_FOUND"
    ALREADY_EXISTS = "ALREADY_EXISTS"
    WRONG_STATE = "WRONG_STATE"
    FOREIGN_JOB = "FOREIGN_JOB"
    """libvirt's job is held by somebody else (error 68)."""
    BUSY = "BUSY"
    ABORTED = "ABORTED"
    """The operation was aborted at the hypervisor (error 78), by us or by another."""
    UNSUPPORTED = "UNSUPPORTED_BY_HYPERVISOR"
    INVALID_ARGUMENT = "INVALID_ARGUMENT"
    XML_INVALID = "XML_INVALID"
    XML_TOO_LARGE = "XML_TOO_LARGE"
    PATH_NOT_ALLOWED = "PATH_NOT_ALLOWED"
    MIGRATION_TARGET_NOT_ALLOWED = "MIGRATION_TARGET_NOT_ALLOWED"
    AGENT_UNRESPONSIVE = "AGENT_UNRESPONSIVE"
    PERMISSION_DENIED = "HYPERVISOR_PERMISSION_DENIED"
    UNAUTHENTICATED = "HYPERVISOR_UNAUTHENTICATED"
    GUEST_TIMEOUT = "GUEST_TIMEOUT"
    """The guest was asked and did not do it in time."""
    MIGRATION_UNSAFE = "MIGRATION_UNSAFE"
    RESOURCE_LACKING = "RESOURCE_LACKING"
    """Memory, disk space or devices ran out."""
    FAILED = "OPERATION_FAILED"
    """The hypervisor refused or failed for a reason that has no word of its own; its message says why."""
    INTERRUPTED = "INTERRUPTED"
    """From `resume` only: nothing of ours runs any more and nothing proves success; the message holds the evidence."""
    OUTCOME_UNKNOWN = "OUTCOME_UNKNOWN"
    """From `resume` only: the call may still be on its way inside the hypervisor."""
    INTERNAL = "INTERNAL"


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """An error as a value: what travels over the socket and is stored with a job."""

    reason: Reason
    message: str
    libvirt_code: int | None = None
    libvirt_domain: int | None = None


class DriverError(Exception):
    """A failed driver call."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.message)
        self.fault = fault

    @property
    def reason(self) -> Reason:
        """The fault's reason."""
        return self.fault.reason


def failure(reason: Reason, message: str) -> DriverError:
    """A DriverError without libvirt's codes."""
    return DriverError(Fault(reason=reason, message=message))
