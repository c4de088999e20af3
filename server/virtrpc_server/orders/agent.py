"""Orders: the guest's agent. One function a verb, each refusing what can be seen to be wrong."""

from __future__ import annotations

from virtrpc.v1 import job_pb2
from virtrpc_drivers import operations as op
from virtrpc_server.orders.common import invalid

MAX_USER_LENGTH = 256


def set_user_password(request: job_pb2.SetUserPasswordRequest, uuid: str) -> op.SetUserPassword:
    """SetUserPassword."""
    if not request.user or len(request.user) > MAX_USER_LENGTH:
        raise invalid("user", f"must have 1 to {MAX_USER_LENGTH} characters")
    if not request.password:
        raise invalid("password", "must not be empty")
    return op.SetUserPassword(uuid=uuid, user=request.user, password=request.password, encrypted=request.encrypted)


def freeze_filesystems(request: job_pb2.FreezeFilesystemsRequest, uuid: str) -> op.FreezeFilesystems:
    """FreezeFilesystems."""
    return op.FreezeFilesystems(uuid=uuid, mountpoints=tuple(request.mountpoints))


def thaw_filesystems(request: job_pb2.ThawFilesystemsRequest, uuid: str) -> op.ThawFilesystems:
    """ThawFilesystems."""
    return op.ThawFilesystems(uuid=uuid, mountpoints=tuple(request.mountpoints))


def trim_filesystems(request: job_pb2.TrimFilesystemsRequest, uuid: str) -> op.TrimFilesystems:
    """TrimFilesystems."""
    if request.minimum_bytes < 0:
        raise invalid("minimum_bytes", f"must not be negative, not {request.minimum_bytes}")
    return op.TrimFilesystems(uuid=uuid, minimum_bytes=request.minimum_bytes)


def set_guest_time(request: job_pb2.SetGuestTimeRequest, uuid: str) -> op.SetGuestTime:
    """SetGuestTime."""
    if request.HasField("guest_time") == request.synchronise:
        raise invalid("guest_time", "either a time or synchronise is required")
    time = request.guest_time
    if time.seconds < 0 or not 0 <= time.nanos < 1_000_000_000:
        raise invalid("guest_time", "a time before 1970, or nanoseconds that are none")
    return op.SetGuestTime(uuid=uuid, seconds=time.seconds, nanoseconds=time.nanos, synchronise=request.synchronise)
