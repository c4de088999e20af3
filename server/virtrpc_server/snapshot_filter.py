"""Which snapshots a list asks for: by their place in the tree, and by what they are."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from virtrpc.v1 import snapshot_pb2
from virtrpc_drivers.values import Checkpoint, Snapshot
from virtrpc_server.messages.snapshots import snapshot_kind


def chosen(snapshots: Iterable[Snapshot], request: snapshot_pb2.ListSnapshotsRequest) -> list[Snapshot]:
    """The snapshots that fit, in order of name."""
    fitting = list(snapshots)
    if request.parent:
        under = below(fitting, request.parent, deep=request.descendants)
        fitting = [snapshot for snapshot in fitting if snapshot.name in under]
    return sorted((snapshot for snapshot in fitting if _fits(snapshot, request.filter)), key=lambda snapshot: snapshot.name)


def below(snapshots: Collection[Snapshot | Checkpoint], parent: str, *, deep: bool) -> set[str]:
    """The names of those that build on the one of this name: directly, or at any depth."""
    found: set[str] = set()
    level = {parent}
    while level:
        level = {snapshot.name for snapshot in snapshots if snapshot.parent in level} - found
        found |= level
        if not deep:
            break
    return found


def _fits(snapshot: Snapshot, wanted: snapshot_pb2.SnapshotFilter) -> bool:
    if wanted.roots and snapshot.parent is not None:
        return False
    if wanted.HasField("leaf") and wanted.leaf != (snapshot.children == 0):
        return False
    if wanted.HasField("has_metadata") and wanted.has_metadata != snapshot.has_metadata:
        return False
    if wanted.HasField("external") and wanted.external != snapshot.external:
        return False
    return not wanted.kinds or snapshot_kind(snapshot) in wanted.kinds
