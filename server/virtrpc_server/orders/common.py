"""What all orders share: the words of requests as the drivers know them, and how a bad value is refused."""

from __future__ import annotations

from virtrpc.v1 import types_pb2
from virtrpc_drivers import operations as op
from virtrpc_server.errors import Refusal, refuse

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
MAX_NAME_LENGTH = 256


def invalid(field: str, message: str) -> Refusal:
    """The refusal of one field's value."""
    return refuse("INVALID_ARGUMENT", f"{field}: {message}", field=field)


def scope_of(scope: types_pb2.ChangeScope.ValueType) -> op.Scope:
    """What a change applies to."""
    return SCOPES.get(scope, op.Scope.CURRENT)


def snapshot_name(name: str) -> str:
    """A snapshot's name; refused where it cannot be one."""
    if not name or len(name) > MAX_NAME_LENGTH or "/" in name:
        raise invalid("name", f"a snapshot's name has 1 to {MAX_NAME_LENGTH} characters and no slash")
    return name
