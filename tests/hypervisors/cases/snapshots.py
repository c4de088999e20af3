"""Cases: snapshots."""

from __future__ import annotations

from tests.e2e.server import ended
from tests.hypervisors.case import case
from tests.hypervisors.stage import LONG, Stage, all_of
from virtrpc.v1 import job_pb2 as j


async def _taken(s: Stage, name: str) -> str:
    ref = await s.off()
    await s.done(s.client.create_snapshot(ref, definition=j.SnapshotDefinition(name=name), options=LONG))
    return ref


async def _dropped(s: Stage, name: str) -> None:
    await s.done(s.client.delete_snapshot(s.ref, name=name))


@case("JobService/CreateSnapshot", lambda s: ended(s.client.create_snapshot(s.ref, definition=j.SnapshotDefinition(name="lacked"))))
async def create_snapshot(s: Stage) -> None:
    """A snapshot of a domain that is off is there afterwards."""
    ref = await _taken(s, "created")
    assert (await s.client.get_snapshot(ref, name="created")).name == "created"
    await _dropped(s, "created")


@case("JobService/RevertToSnapshot", lambda s: ended(s.client.revert_to_snapshot(s.ref, name="lacked")))
async def revert_to_snapshot(s: Stage) -> None:
    """A domain goes back to a snapshot, which is then the current one."""
    ref = await _taken(s, "reverted")
    await s.done(s.client.revert_to_snapshot(ref, name="reverted"))
    assert (await s.client.get_current_snapshot(ref)).name == "reverted"
    await _dropped(s, "reverted")


@case("SnapshotService/DeleteSnapshot", lambda s: ended(s.client.delete_snapshot(s.ref, name="lacked")))
async def delete_snapshot(s: Stage) -> None:
    """A deleted snapshot is gone from the list."""
    ref = await _taken(s, "deleted")
    await _dropped(s, "deleted")
    assert "deleted" not in [snapshot.name async for snapshot in s.client.list_snapshots(ref)]


@case("SnapshotService/ListSnapshots", lambda s: all_of(s.client.list_snapshots(s.ref)))
async def list_snapshots(s: Stage) -> None:
    """A snapshot is listed."""
    ref = await _taken(s, "listed")
    assert "listed" in [snapshot.name async for snapshot in s.client.list_snapshots(ref)]
    await _dropped(s, "listed")


@case("SnapshotService/GetSnapshot", lambda s: s.client.get_snapshot(s.ref, name="lacked"))
async def get_snapshot(s: Stage) -> None:
    """A snapshot is told with its domain."""
    ref = await _taken(s, "got")
    assert (await s.client.get_snapshot(ref, name="got")).domain.name == s.name
    await _dropped(s, "got")


@case("SnapshotService/GetSnapshotXml", lambda s: s.client.get_snapshot_xml(s.ref, name="lacked"))
async def get_snapshot_xml(s: Stage) -> None:
    """A snapshot's XML is libvirt's."""
    ref = await _taken(s, "described")
    assert "<name>described</name>" in (await s.client.get_snapshot_xml(ref, name="described")).xml
    await _dropped(s, "described")


@case("SnapshotService/GetCurrentSnapshot", lambda s: s.client.get_current_snapshot(s.ref))
async def get_current_snapshot(s: Stage) -> None:
    """The newest snapshot is the current one."""
    ref = await _taken(s, "current")
    assert (await s.client.get_current_snapshot(ref)).name == "current"
    await _dropped(s, "current")
