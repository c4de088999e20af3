"""From requests to operations."""

from __future__ import annotations

import re

from tests.server.fake_driver import uuid
from virtrpc.v1 import job_pb2
from virtrpc_server.orders import snapshots


def test_snapshots_without_a_name_get_one_each() -> None:
    """From the time and random digits, so that two of one second do not collide; the XML says the same name."""
    made = [snapshots.create_snapshot(job_pb2.CreateSnapshotRequest(), uuid(1)) for _ in range(50)]
    assert len({snapshot.name for snapshot in made}) == 50
    assert all(re.fullmatch(r"snapshot-\d{8}-\d{6}-[0-9a-f]{8}", snapshot.name) for snapshot in made)
    assert all(f"<name>{snapshot.name}</name>" in snapshot.xml for snapshot in made)
