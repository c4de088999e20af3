"""The client of the virtrpc service: `AsyncClient` and `Client`, typed errors, job handles, watches.

Names are loaded when they are first used, so that `import virtrpc` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from virtrpc.address import DEFAULT_ADDRESS, resolve_address
    from virtrpc.advice import advice
    from virtrpc.aio import AsyncClient
    from virtrpc.credentials import Tls
    from virtrpc.errors import (
        Aborted,
        AgentUnresponsive,
        AlreadyExists,
        AmbiguousName,
        AuditUnavailable,
        Busy,
        Cancelled,
        DeadlineExceeded,
        FailedPrecondition,
        HostReadOnly,
        HostUnreachable,
        HypervisorDenied,
        Internal,
        Interrupted,
        InvalidArgument,
        JobNotFound,
        JournalUnavailable,
        LimitExceeded,
        MigrationUnsafe,
        MonitorUnresponsive,
        NotFound,
        NotReady,
        OperationFailed,
        OutcomeUnknown,
        PermissionDenied,
        Preempted,
        ResourceLacking,
        RunTimeout,
        ServerUnavailable,
        Unauthenticated,
        Unimplemented,
        Unsupported,
        VirtrpcError,
        WaitTimeout,
        WrongState,
    )
    from virtrpc.jobs import AsyncJobHandle, is_final
    from virtrpc.listing import AsyncListing
    from virtrpc.refs import domain_ref, job_options
    from virtrpc.sync import Client, JobHandle, Listing, Watch
    from virtrpc.watch import AsyncWatch, DomainMirror, JobMirror

_MODULES = {
    "virtrpc.address": ("DEFAULT_ADDRESS", "resolve_address"),
    "virtrpc.advice": ("advice",),
    "virtrpc.aio": ("AsyncClient",),
    "virtrpc.credentials": ("Tls",),
    "virtrpc.jobs": ("AsyncJobHandle", "is_final"),
    "virtrpc.listing": ("AsyncListing",),
    "virtrpc.refs": ("domain_ref", "job_options"),
    "virtrpc.sync": ("Client", "JobHandle", "Listing", "Watch"),
    "virtrpc.watch": ("AsyncWatch", "DomainMirror", "JobMirror"),
}

__all__ = [
    "DEFAULT_ADDRESS",
    "Aborted",
    "AgentUnresponsive",
    "AlreadyExists",
    "AmbiguousName",
    "AsyncClient",
    "AsyncJobHandle",
    "AsyncListing",
    "AsyncWatch",
    "AuditUnavailable",
    "Busy",
    "Cancelled",
    "Client",
    "DeadlineExceeded",
    "DomainMirror",
    "FailedPrecondition",
    "HostReadOnly",
    "HostUnreachable",
    "HypervisorDenied",
    "Internal",
    "Interrupted",
    "InvalidArgument",
    "JobHandle",
    "JobMirror",
    "JobNotFound",
    "JournalUnavailable",
    "LimitExceeded",
    "Listing",
    "MigrationUnsafe",
    "MonitorUnresponsive",
    "NotFound",
    "NotReady",
    "OperationFailed",
    "OutcomeUnknown",
    "PermissionDenied",
    "Preempted",
    "ResourceLacking",
    "RunTimeout",
    "ServerUnavailable",
    "Tls",
    "Unauthenticated",
    "Unimplemented",
    "Unsupported",
    "VirtrpcError",
    "WaitTimeout",
    "Watch",
    "WrongState",
    "advice",
    "domain_ref",
    "is_final",
    "job_options",
    "resolve_address",
]

_HOME = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'virtrpc' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME.get(name, "virtrpc.errors")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
