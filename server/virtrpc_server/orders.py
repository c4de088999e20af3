"""From a verb's request to the operation that it asks for: one function a verb, each refusing what can be seen to be wrong."""

from __future__ import annotations

import secrets
import time

from virtrpc.v1 import job_pb2, snapshot_pb2, types_pb2
from virtrpc_drivers import operations as op
from virtrpc_drivers import xml as xmls
from virtrpc_drivers.errors import DriverError
from virtrpc_server.errors import Refusal, problem_of, refuse
from virtrpc_server.snapshot_xml import build, named

SHUTDOWN_MODES = {
    job_pb2.SHUTDOWN_MODE_UNSPECIFIED: "",
    job_pb2.SHUTDOWN_MODE_ACPI: "acpi",
    job_pb2.SHUTDOWN_MODE_AGENT: "agent",
    job_pb2.SHUTDOWN_MODE_INITCTL: "initctl",
    job_pb2.SHUTDOWN_MODE_SIGNAL: "signal",
    job_pb2.SHUTDOWN_MODE_PARAVIRT: "paravirt",
}
RESUME_STATES = {
    types_pb2.RESUME_STATE_UNSPECIFIED: "",
    types_pb2.RESUME_STATE_RUNNING: "running",
    types_pb2.RESUME_STATE_PAUSED: "paused",
}
SCOPES = {
    types_pb2.CHANGE_SCOPE_UNSPECIFIED: op.Scope.CURRENT,
    types_pb2.CHANGE_SCOPE_CURRENT: op.Scope.CURRENT,
    types_pb2.CHANGE_SCOPE_LIVE: op.Scope.LIVE,
    types_pb2.CHANGE_SCOPE_CONFIG: op.Scope.CONFIG,
    types_pb2.CHANGE_SCOPE_BOTH: op.Scope.BOTH,
}
MAX_USER_LENGTH = 256
MAX_NAME_LENGTH = 256


def invalid(field: str, message: str) -> Refusal:
    """The refusal of one field's value."""
    return refuse("INVALID_ARGUMENT", f"{field}: {message}", field=field)


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


def remove_managed_save(_request: snapshot_pb2.RemoveManagedSaveRequest, uuid: str) -> op.RemoveManagedSave:
    """RemoveManagedSave."""
    return op.RemoveManagedSave(uuid=uuid)


def define(request: job_pb2.DefineDomainRequest) -> op.Define:
    """DefineDomain; a definition without a uuid is given one."""
    given = _definition(request.xml)
    return op.Define(uuid=given.uuid, name=given.name, xml=given.xml, validate=True)


def create(request: job_pb2.CreateDomainRequest) -> op.Create:
    """CreateDomain; a definition without a uuid is given one."""
    given = _definition(request.xml)
    return op.Create(uuid=given.uuid, name=given.name, xml=given.xml, paused=request.paused)


def undefine(request: job_pb2.UndefineDomainRequest, uuid: str) -> op.Undefine:
    """UndefineDomain."""
    if request.nvram and request.keep_nvram:
        raise invalid("keep_nvram", "nvram and keep_nvram exclude each other")
    return op.Undefine(
        uuid=uuid,
        managed_save=request.managed_save,
        snapshots_metadata=request.snapshots_metadata,
        checkpoints_metadata=request.checkpoints_metadata,
        nvram=request.nvram,
        keep_nvram=request.keep_nvram,
    )


def attach_device(request: job_pb2.AttachDeviceRequest, uuid: str) -> op.AttachDevice:
    """AttachDevice."""
    return op.AttachDevice(uuid=uuid, xml=_device(request.xml), scope=_scope(request.scope))


def detach_device(request: job_pb2.DetachDeviceRequest, uuid: str) -> op.DetachDevice:
    """DetachDevice."""
    return op.DetachDevice(uuid=uuid, xml=_device(request.xml), scope=_scope(request.scope))


def update_device(request: job_pb2.UpdateDeviceRequest, uuid: str) -> op.UpdateDevice:
    """UpdateDevice."""
    return op.UpdateDevice(uuid=uuid, xml=_device(request.xml), scope=_scope(request.scope), force=request.force)


def set_memory(request: job_pb2.SetMemoryRequest, uuid: str) -> op.SetMemory:
    """SetMemory."""
    if request.memory_bytes <= 0:
        raise invalid("memory_bytes", f"must be above zero, not {request.memory_bytes}")
    return op.SetMemory(uuid=uuid, memory_bytes=request.memory_bytes, scope=_scope(request.scope), maximum=request.maximum)


def set_user_password(request: job_pb2.SetUserPasswordRequest, uuid: str) -> op.SetUserPassword:
    """SetUserPassword."""
    if not request.user or len(request.user) > MAX_USER_LENGTH:
        raise invalid("user", f"must have 1 to {MAX_USER_LENGTH} characters")
    if not request.password:
        raise invalid("password", "must not be empty")
    return op.SetUserPassword(uuid=uuid, user=request.user, password=request.password, encrypted=request.encrypted)


def create_snapshot(request: job_pb2.CreateSnapshotRequest, uuid: str) -> op.CreateSnapshot:
    """CreateSnapshot. A snapshot without a name gets one here, so that it can be looked for."""
    # The digits keep two of one second apart.
    fallback = f"{time.strftime('snapshot-%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(4)}"
    try:
        name, xml = named(request.xml or build(request.definition), fallback)
    except DriverError as error:
        raise Refusal(problem_of(error.fault, field="xml")) from None
    return op.CreateSnapshot(
        uuid=uuid,
        name=_snapshot_name(name),
        xml=xml,
        disk_only=request.disk_only,
        quiesce=request.quiesce,
        atomic=request.atomic,
        live=request.live,
        halt=request.halt,
        reuse_external=request.reuse_external,
        no_metadata=request.no_metadata,
    )


def revert_to_snapshot(request: job_pb2.RevertToSnapshotRequest, uuid: str) -> op.RevertToSnapshot:
    """RevertToSnapshot."""
    after = RESUME_STATES.get(request.resume_state, "")
    name = _snapshot_name(request.name)
    return op.RevertToSnapshot(uuid=uuid, name=name, after=after, force=request.force, reset_nvram=request.reset_nvram)


def delete_snapshot(request: snapshot_pb2.DeleteSnapshotRequest, uuid: str) -> op.DeleteSnapshot:
    """DeleteSnapshot."""
    if request.children and request.children_only:
        raise invalid("children_only", "children and children_only exclude each other")
    return op.DeleteSnapshot(
        uuid=uuid,
        name=_snapshot_name(request.name),
        children=request.children,
        children_only=request.children_only,
        metadata_only=request.metadata_only,
    )


def _snapshot_name(name: str) -> str:
    if not name or len(name) > MAX_NAME_LENGTH or "/" in name:
        raise invalid("name", f"a snapshot's name has 1 to {MAX_NAME_LENGTH} characters and no slash")
    return name


def _scope(scope: types_pb2.ChangeScope.ValueType) -> op.Scope:
    return SCOPES.get(scope, op.Scope.CURRENT)


def _device(xml: str) -> str:
    if not xml:
        raise invalid("xml", "a device is required")
    try:
        xmls.parse(xml)
    except DriverError as error:
        raise Refusal(problem_of(error.fault, field="xml")) from None
    return xml


def _definition(xml: str) -> xmls.Definition:
    if not xml:
        raise invalid("xml", "a definition is required")
    try:
        return xmls.definition(xml)
    except DriverError as error:
        raise Refusal(problem_of(error.fault, field="xml")) from None
