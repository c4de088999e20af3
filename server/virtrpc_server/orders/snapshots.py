"""Orders: snapshots. One function a verb, each refusing what can be seen to be wrong."""

from __future__ import annotations

import secrets
import time

from virtrpc.v1 import job_pb2, snapshot_pb2
from virtrpc_drivers import operations as op
from virtrpc_drivers.errors import DriverError
from virtrpc_server.errors import Refusal, problem_of
from virtrpc_server.orders.common import RESUME_STATES, invalid, snapshot_name
from virtrpc_server.snapshot_xml import build, named


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
        name=snapshot_name(name),
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
    name = snapshot_name(request.name)
    return op.RevertToSnapshot(uuid=uuid, name=name, after=after, force=request.force, reset_nvram=request.reset_nvram)


def delete_snapshot(request: snapshot_pb2.DeleteSnapshotRequest, uuid: str) -> op.DeleteSnapshot:
    """DeleteSnapshot."""
    if request.children and request.children_only:
        raise invalid("children_only", "children and children_only exclude each other")
    return op.DeleteSnapshot(
        uuid=uuid,
        name=snapshot_name(request.name),
        children=request.children,
        children_only=request.children_only,
        metadata_only=request.metadata_only,
    )
