"""A checkpoint's metadata as a Checkpoint."""

from __future__ import annotations

from virtrpc.v1 import types_pb2
from virtrpc_drivers import values
from virtrpc_server.messages.common import timestamp


def checkpoint_message(checkpoint: values.Checkpoint, domain: types_pb2.DomainIdentity, observed: float | None) -> types_pb2.Checkpoint:
    """A checkpoint of this domain, as read at `observed` (wall time in seconds)."""
    return types_pb2.Checkpoint(
        domain=domain,
        name=checkpoint.name,
        parent=checkpoint.parent,
        description=checkpoint.description or "",
        create_time=timestamp(checkpoint.creation_time),
        disks=checkpoint.disks,
        children=checkpoint.children,
        observed_time=timestamp(observed),
    )
