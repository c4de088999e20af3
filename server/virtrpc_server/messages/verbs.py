"""The two names of what a hypervisor can do: a row of the drivers' table here, an RPC (and a job kind where it is a verb) in the contract."""

from __future__ import annotations

from virtrpc.v1 import types_pb2
from virtrpc_drivers.operations import VERBS
from virtrpc_drivers.support import NAMES
from virtrpc_server.contract import METHODS

# An RPC is called like its operation, with the noun where the tag alone does not say it.
WITH_NOUN = frozenset({
    "Suspend", "Resume", "Start", "Shutdown", "Reboot", "Destroy", "Define", "Create", "Undefine", "ManagedSave", "Migrate", "Reset", "Rename",
    "Save", "Restore", "Backup",
})  # fmt: skip

_PATHS = {method.name: f"{method.containing_service.full_name}/{method.name}" for method in METHODS}


def _rpc(name: str) -> str:
    return f"{name}Domain" if name in WITH_NOUN else name


def _kind(rpc: str) -> types_pb2.JobKind.ValueType:
    snake = "".join(f"_{letter}" if letter.isupper() else letter.upper() for letter in rpc)
    return types_pb2.JobKind.Value(f"JOB_KIND{snake}")


KINDS = {verb: _kind(_rpc(verb)) for verb in VERBS}
"""The job kind of each verb."""

RPC_OF = {name: _PATHS[_rpc(name)] for name in NAMES}
"""The RPC of each verb and read, as gRPC names it."""


def kind_of(verb: str) -> types_pb2.JobKind.ValueType:
    """A verb's job kind; unspecified for a read, and for a verb that this server does not know (from a newer server's journal)."""
    return KINDS.get(verb, types_pb2.JOB_KIND_UNSPECIFIED)
