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
