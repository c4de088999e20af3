"""The verbs' two names: an operation's tag here, a job kind and an RPC in the contract."""

from __future__ import annotations

from virtrpc.v1 import types_pb2
from virtrpc_drivers.operations import VERBS

JOB_SERVICE = "virtrpc.v1.JobService"
SNAPSHOT_SERVICE = "virtrpc.v1.SnapshotService"

# An RPC is called like its operation, with the noun where the tag alone does not say it.
WITH_NOUN = frozenset({"Suspend", "Resume", "Start", "Shutdown", "Reboot", "Destroy", "Define", "Create", "Undefine", "ManagedSave", "Migrate"})
IN_SNAPSHOT_SERVICE = frozenset({"DeleteSnapshot", "RemoveManagedSave"})


def _rpc(verb: str) -> str:
    return f"{verb}Domain" if verb in WITH_NOUN else verb


def _kind(rpc: str) -> types_pb2.JobKind.ValueType:
    snake = "".join(f"_{letter}" if letter.isupper() else letter.upper() for letter in rpc)
    return types_pb2.JobKind.Value(f"JOB_KIND{snake}")


KINDS = {verb: _kind(_rpc(verb)) for verb in VERBS}
"""The job kind of each verb."""

VERB_OF_KIND = {kind: verb for verb, kind in KINDS.items()}
"""The verb of each job kind."""

METHODS = {verb: f"{SNAPSHOT_SERVICE if verb in IN_SNAPSHOT_SERVICE else JOB_SERVICE}/{_rpc(verb)}" for verb in VERBS}
"""The RPC of each verb, as gRPC names it."""


def kind_of(verb: str) -> types_pb2.JobKind.ValueType:
    """A verb's job kind; unspecified for one that this server does not know (from a newer server's journal)."""
    return KINDS.get(verb, types_pb2.JOB_KIND_UNSPECIFIED)
