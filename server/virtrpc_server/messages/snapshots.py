"""A snapshot's metadata as a Snapshot."""

from __future__ import annotations

from virtrpc.v1 import types_pb2
from virtrpc_drivers import values
from virtrpc_drivers.values import ACTIVE_STATES, State
from virtrpc_server.messages.common import STATES, timestamp

DISK_SNAPSHOT = "disk-snapshot"
"""libvirt's word where others have the domain's state."""


def snapshot_message(snapshot: values.Snapshot, domain: types_pb2.DomainIdentity, observed: float | None) -> types_pb2.Snapshot:
    """A snapshot of this domain, as read at `observed` (wall time in seconds)."""
    return types_pb2.Snapshot(
        domain=domain,
        name=snapshot.name,
        parent=snapshot.parent,
        description=snapshot.description or "",
        create_time=timestamp(snapshot.creation_time),
        kind=snapshot_kind(snapshot),
        state=_state(snapshot),
        current=snapshot.current,
        has_metadata=snapshot.has_metadata,
        external=snapshot.external,
        children=snapshot.children,
        observed_time=timestamp(observed),
    )


def snapshot_kind(snapshot: values.Snapshot) -> types_pb2.SnapshotKind.ValueType:
    """What a snapshot holds."""
    if snapshot.disk_only or snapshot.state == DISK_SNAPSHOT:
        return types_pb2.SNAPSHOT_KIND_DISK_ONLY
    if snapshot.state is None:
        return types_pb2.SNAPSHOT_KIND_UNSPECIFIED
    return types_pb2.SNAPSHOT_KIND_ACTIVE if snapshot.state in ACTIVE_STATES else types_pb2.SNAPSHOT_KIND_INACTIVE


def _state(snapshot: values.Snapshot) -> types_pb2.DomainState.ValueType:
    if snapshot_kind(snapshot) == types_pb2.SNAPSHOT_KIND_DISK_ONLY:
        return types_pb2.DOMAIN_STATE_SHUTOFF
    return STATES[State(snapshot.state)] if snapshot.state in set(State) else types_pb2.DOMAIN_STATE_UNSPECIFIED
