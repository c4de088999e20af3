"""Orders: the guest's agent. One function a verb, each refusing what can be seen to be wrong."""

from __future__ import annotations

from virtrpc.v1 import job_pb2
from virtrpc_drivers import operations as op
from virtrpc_server.orders.common import invalid

MAX_USER_LENGTH = 256
MAX_VCPUS = 1024
MAX_VCPU = 4095
MAX_KEYS = 256
MAX_KEY_LENGTH = 16 << 10
KEY_CHANGES = {job_pb2.SSH_KEYS_CHANGE_REMOVE: "remove", job_pb2.SSH_KEYS_CHANGE_REPLACE: "replace"}


def set_user_password(request: job_pb2.SetUserPasswordRequest, uuid: str) -> op.SetUserPassword:
    """SetUserPassword."""
    user = user_of(request.user)
    if not request.password:
        raise invalid("password", "must not be empty")
    return op.SetUserPassword(uuid=uuid, user=user, password=request.password, encrypted=request.encrypted)


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


def set_guest_vcpus(request: job_pb2.SetGuestVcpusRequest, uuid: str) -> op.SetGuestVcpus:
    """SetGuestVcpus."""
    if not 0 < len(request.vcpus) <= MAX_VCPUS:
        raise invalid("vcpus", f"1 to {MAX_VCPUS} are switched at once, not {len(request.vcpus)}")
    if any(not 0 <= number <= MAX_VCPU for number in request.vcpus):
        raise invalid("vcpus", f"a virtual CPU's number is 0 to {MAX_VCPU}")
    return op.SetGuestVcpus(uuid=uuid, vcpus=tuple(sorted(set(request.vcpus))), online=request.online)


def set_authorized_ssh_keys(request: job_pb2.SetAuthorizedSshKeysRequest, uuid: str) -> op.SetAuthorizedSshKeys:
    """SetAuthorizedSshKeys."""
    user, change = user_of(request.user), KEY_CHANGES.get(request.change, "add")
    if len(request.keys) > MAX_KEYS or (not request.keys and change != "replace"):
        raise invalid("keys", f"1 to {MAX_KEYS} are changed at once, not {len(request.keys)}")
    for key in request.keys:
        if not key.strip() or len(key) > MAX_KEY_LENGTH or not key.isprintable():
            raise invalid("keys", f"each is one line of 1 to {MAX_KEY_LENGTH} printable characters")
    return op.SetAuthorizedSshKeys(uuid=uuid, user=user, keys=tuple(request.keys), change=change)


def user_of(user: str) -> str:
    """A user inside a guest."""
    if not user or len(user) > MAX_USER_LENGTH:
        raise invalid("user", f"must have 1 to {MAX_USER_LENGTH} characters")
    return user
