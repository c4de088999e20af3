"""Cases: checkpoints."""

from __future__ import annotations

from tests.e2e.server import ended
from tests.hypervisors.case import case
from tests.hypervisors.stage import LONG, Stage, all_of
from virtrpc.v1 import job_pb2 as j


async def _taken(s: Stage, name: str) -> str:
    ref = await s.running()
    await s.done(s.client.create_checkpoint(ref, definition=j.CheckpointDefinition(name=name), options=LONG))
    return ref


async def _dropped(s: Stage, name: str) -> None:
    await s.done(s.client.delete_checkpoint(s.ref, name=name, options=LONG))


@case("JobService/CreateCheckpoint", lambda s: ended(s.client.create_checkpoint(s.ref)))
async def create_checkpoint(s: Stage) -> None:
    """A checkpoint has the name that it was given."""
    ref = await _taken(s, "created")
    assert (await s.client.get_checkpoint(ref, name="created")).name == "created"
    await _dropped(s, "created")


@case("JobService/DeleteCheckpoint", lambda s: ended(s.client.delete_checkpoint(s.ref, name="lacked")))
async def delete_checkpoint(s: Stage) -> None:
    """A deleted checkpoint is gone from the list."""
    ref = await _taken(s, "deleted")
    await _dropped(s, "deleted")
    assert "deleted" not in [found.name async for found in s.client.list_checkpoints(ref)]


@case("SnapshotService/ListCheckpoints", lambda s: all_of(s.client.list_checkpoints(s.ref)))
async def list_checkpoints(s: Stage) -> None:
    """A checkpoint is listed."""
    ref = await _taken(s, "listed")
    assert "listed" in [found.name async for found in s.client.list_checkpoints(ref)]
    await _dropped(s, "listed")


@case("SnapshotService/GetCheckpoint", lambda s: s.client.get_checkpoint(s.ref, name="lacked"))
async def get_checkpoint(s: Stage) -> None:
    """A checkpoint is told with its domain."""
    ref = await _taken(s, "got")
    assert (await s.client.get_checkpoint(ref, name="got")).domain.name == s.name
    await _dropped(s, "got")


@case("SnapshotService/GetCheckpointXml", lambda s: s.client.get_checkpoint_xml(s.ref, name="lacked"))
async def get_checkpoint_xml(s: Stage) -> None:
    """A checkpoint's XML names it."""
    ref = await _taken(s, "told")
    assert "<name>told</name>" in (await s.client.get_checkpoint_xml(ref, name="told")).xml
    await _dropped(s, "told")
