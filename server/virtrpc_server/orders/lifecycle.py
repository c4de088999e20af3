"""Orders: starting, stopping and saving domains. One function a verb, each refusing what can be seen to be wrong."""

from __future__ import annotations

from virtrpc.v1 import job_pb2, snapshot_pb2
from virtrpc_drivers import operations as op
from virtrpc_server.orders.common import RESUME_STATES

SHUTDOWN_MODES = {
    job_pb2.SHUTDOWN_MODE_UNSPECIFIED: "",
    job_pb2.SHUTDOWN_MODE_ACPI: "acpi",
    job_pb2.SHUTDOWN_MODE_AGENT: "agent",
    job_pb2.SHUTDOWN_MODE_INITCTL: "initctl",
    job_pb2.SHUTDOWN_MODE_SIGNAL: "signal",
    job_pb2.SHUTDOWN_MODE_PARAVIRT: "paravirt",
}
SUSPEND_TARGETS = {job_pb2.SUSPEND_TARGET_DISK: "disk", job_pb2.SUSPEND_TARGET_HYBRID: "hybrid"}


def start(request: job_pb2.StartDomainRequest, uuid: str) -> op.Start:
    """StartDomain."""
    return op.Start(uuid=uuid, paused=request.paused, force_boot=request.force_boot, bypass_cache=request.bypass_cache)


def shutdown(request: job_pb2.ShutdownDomainRequest, uuid: str) -> op.Shutdown:
    """ShutdownDomain."""
    return op.Shutdown(uuid=uuid, mode=SHUTDOWN_MODES.get(request.mode, ""))


def reboot(request: job_pb2.RebootDomainRequest, uuid: str) -> op.Reboot:
    """RebootDomain."""
    return op.Reboot(uuid=uuid, mode=SHUTDOWN_MODES.get(request.mode, ""))


def suspend(_request: job_pb2.SuspendDomainRequest, uuid: str) -> op.Suspend:
    """SuspendDomain."""
    return op.Suspend(uuid=uuid)


def resume(_request: job_pb2.ResumeDomainRequest, uuid: str) -> op.Resume:
    """ResumeDomain."""
    return op.Resume(uuid=uuid)


def destroy(request: job_pb2.DestroyDomainRequest, uuid: str) -> op.Destroy:
    """DestroyDomain."""
    return op.Destroy(uuid=uuid, graceful=request.graceful)


def managed_save(request: job_pb2.ManagedSaveDomainRequest, uuid: str) -> op.ManagedSave:
    """ManagedSaveDomain."""
    return op.ManagedSave(uuid=uuid, bypass_cache=request.bypass_cache, after_restore=RESUME_STATES.get(request.resume_state, ""))


def reset(_request: job_pb2.ResetDomainRequest, uuid: str) -> op.Reset:
    """ResetDomain."""
    return op.Reset(uuid=uuid)


def power_management_suspend(request: job_pb2.PowerManagementSuspendRequest, uuid: str) -> op.PowerManagementSuspend:
    """PowerManagementSuspend."""
    return op.PowerManagementSuspend(uuid=uuid, target=SUSPEND_TARGETS.get(request.target, "memory"))


def power_management_wakeup(_request: job_pb2.PowerManagementWakeupRequest, uuid: str) -> op.PowerManagementWakeup:
    """PowerManagementWakeup."""
    return op.PowerManagementWakeup(uuid=uuid)


def remove_managed_save(_request: snapshot_pb2.RemoveManagedSaveRequest, uuid: str) -> op.RemoveManagedSave:
    """RemoveManagedSave."""
    return op.RemoveManagedSave(uuid=uuid)
