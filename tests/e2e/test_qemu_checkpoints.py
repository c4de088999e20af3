"""Checkpoints of real QEMU guests: read back by libvirt and qemu-img, past virtrpc."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.server import Guest, QemuHost, ended
from virtrpc import AlreadyExists, AsyncClient, InvalidArgument, NotFound, WrongState
from virtrpc.v1 import job_pb2 as j

pytestmark = pytest.mark.hypervisor


@pytest.fixture
def guest(qemu_host: QemuHost) -> Iterator[Guest]:
    """A running guest with a disk, and no checkpoints left at the end."""
    with qemu_host.guest(disk_mib=16, agent=False, ready=False) as guest:
        yield guest
        if not guest.domain.isActive():
            guest.start(ready=False)
        for checkpoint in reversed(guest.domain.listAllCheckpoints(0)):
            checkpoint.delete(0)


def bitmaps(guest: Guest) -> list[str]:
    """The bitmaps in the image of a guest that is off."""
    assert guest.disk is not None
    info: dict[str, Any] = json.loads(subprocess.run(["qemu-img", "info", "--output=json", guest.disk.path], check=True, capture_output=True).stdout)
    return sorted(bitmap["name"] for bitmap in info["format-specific"]["data"].get("bitmaps", []))


async def test_checkpoints(client: AsyncClient, guest: Guest, qemu_host: QemuHost) -> None:
    """Checkpoints are taken by name and by XML, listed by page and by parent, shown with sizes, deleted, and stand as bitmaps in the image."""
    job = await ended(client.create_checkpoint(guest.name, definition=j.CheckpointDefinition(name="a", description="first")))
    made = job.create_checkpoint_result.checkpoint
    assert (made.name, made.description, list(made.disks), made.HasField("parent")) == ("a", "first", ["vda"], False)
    await ended(client.create_checkpoint(guest.name, xml="<domaincheckpoint><name>b</name></domaincheckpoint>"))
    unnamed = (await ended(client.create_checkpoint(guest.name))).create_checkpoint_result.checkpoint.name
    assert {found.getName() for found in guest.domain.listAllCheckpoints(0)} == {"a", "b", unnamed}
    assert [found.name async for found in client.list_checkpoints(guest.name, page_size=1)] == sorted(["a", "b", unnamed])
    assert [found.name async for found in client.list_checkpoints(guest.name, parent="a")] == ["b"]
    assert [found.name async for found in client.list_checkpoints(guest.name, parent="a", descendants=True)] == sorted(["b", unnamed])
    assert (await client.get_checkpoint(guest.name, name="b")).parent == "a"
    assert "size=" in (await client.get_checkpoint_xml(guest.name, name="a", size=True)).xml
    assert "<domain " in (await client.get_checkpoint_xml(guest.name, name="a")).xml
    await ended(client.delete_checkpoint(guest.name, name="b"))
    assert guest.domain.checkpointLookupByName(unnamed).getParent().getName() == "a"
    guest.domain.destroy()
    assert bitmaps(guest) == sorted(["a", unnamed])
    qemu_host.wait_known(guest)
    with pytest.raises(WrongState):
        await ended(client.create_checkpoint(guest.name))


async def test_refusals(client: AsyncClient, guest: Guest) -> None:
    """A name that is taken, names that are not there, and what cannot be."""
    await ended(client.create_checkpoint(guest.name, definition=j.CheckpointDefinition(name="a")))
    with pytest.raises(AlreadyExists):
        await ended(client.create_checkpoint(guest.name, definition=j.CheckpointDefinition(name="a")))
    for call in (client.get_checkpoint(guest.name, name="none"), client.get_checkpoint_xml(guest.name, name="none")):
        with pytest.raises(NotFound) as caught:
            await call
        assert caught.value.reason == "CHECKPOINT_NOT_FOUND"
    with pytest.raises(NotFound):
        await ended(client.delete_checkpoint(guest.name, name="none"))
    with pytest.raises(NotFound):
        assert [found async for found in client.list_checkpoints(guest.name, parent="none")]
    with pytest.raises(InvalidArgument):
        await ended(client.delete_checkpoint(guest.name, name="a", children=True, children_only=True))
    with pytest.raises(InvalidArgument):
        await ended(client.create_checkpoint(guest.name, xml="<domaincheckpoint>"))
