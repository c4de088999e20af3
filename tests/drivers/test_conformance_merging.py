"""What every driver does with patches: they are merged into what is there when the call is made."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from msgspec.structs import replace

from tests.drivers.bed import Bed
from virtrpc_drivers import operations as ops
from virtrpc_drivers.device_xml import devices
from virtrpc_drivers.errors import Reason
from virtrpc_drivers.merging import NAMESPACE, followed, text

pytestmark = pytest.mark.asyncio(loop_scope="module")

CONFIG = ops.Scope.CONFIG


def patch(uuid: str, name: str, inner: str) -> ops.Define:
    """A patch of a definition."""
    return ops.Define(uuid=uuid, name=name, xml=f"<domain><name>{name}</name><uuid>{uuid}</uuid>{inner}</domain>", merge=True)


async def test_define_merges(bed: Bed) -> None:
    """What a patch says is so afterwards, what it does not say stays; said again it changes nothing."""
    uuid = await bed.defined()
    before = await bed.config(uuid)
    operation = patch(uuid, before.name, "<title>patched</title><devices><graphics type='vnc' autoport='yes'/></devices>")
    await bed.run(operation)
    after = await bed.config(uuid)
    assert (after.config.metadata.title, [screen.kind for screen in after.config.graphics]) == ("patched", ["vnc"])
    assert (after.config.disks, after.config.interfaces, after.config.memory_bytes) == (
        before.config.disks,
        before.config.interfaces,
        before.config.memory_bytes,
    )
    await bed.run(operation)
    assert (await bed.config(uuid)).config.xml == after.config.xml


async def test_a_later_patch_takes_away_what_is_stored(bed: Bed) -> None:
    """What the later of two patches removes is gone from the stored definition, though the earlier one says nothing of it."""
    uuid = await bed.defined()
    name = (await bed.config(uuid)).name
    await bed.run(patch(uuid, name, "<devices><graphics type='vnc' autoport='yes'/></devices>"))
    first = patch(uuid, name, "<title>patched</title>")
    later = f"<domain xmlns:m='{NAMESPACE}'><devices><graphics type='vnc' m:action='remove'/></devices></domain>"
    both = followed(ElementTree.fromstring(first.xml), ElementTree.fromstring(later))
    await bed.run(replace(first, xml=text(both)))
    after = (await bed.config(uuid)).config
    assert (after.metadata.title, after.graphics) == ("patched", ())


async def test_define_merges_into_nothing(bed: Bed) -> None:
    """Where there is no domain the patch is the definition; one that is too little for that is refused."""
    uuid = "00000000-0000-4000-8000-0000000000aa"
    assert await bed.refused(patch(uuid, "too-little", "<title>a</title>")) is not Reason.INTERNAL


async def test_devices_by_what_names_them(bed: Bed) -> None:
    """A disk is changed by its target alone and taken out by it; a target that is taken is ALREADY_EXISTS, one that is not there DEVICE_NOT_FOUND."""
    bed.need("AttachDevice", "UpdateDevice", "DetachDevice")
    uuid = await bed.defined()
    name = (await bed.config(uuid)).name
    await bed.run(ops.AttachDevice(uuid=uuid, xml=bed.kind.disk_xml(name), scope=CONFIG))
    again = ops.AttachDevice(uuid=uuid, xml=bed.kind.disk_xml(name), scope=CONFIG)
    assert await bed.refused(again) is Reason.ALREADY_EXISTS
    change = "<disk><target dev='vdb'/><serial>S7</serial></disk>"
    await bed.run(ops.UpdateDevice(uuid=uuid, xml=change, scope=CONFIG, merge=True))
    (disk,) = [disk for disk in devices((await bed.config(uuid)).config.xml).disks if disk.target == "vdb"]
    assert disk.serial == "S7"
    assert disk.source
    gone = ops.DetachDevice(uuid=uuid, xml="<disk><target dev='vdb'/></disk>", scope=CONFIG, merge=True)
    await bed.run(gone)
    assert "vdb" not in {disk.target for disk in (await bed.config(uuid)).config.disks}
    assert await bed.refused(gone) is Reason.DEVICE_NOT_FOUND
    assert await bed.refused(ops.UpdateDevice(uuid=uuid, xml=change, scope=CONFIG, merge=True)) is Reason.DEVICE_NOT_FOUND
    nobody = ops.DetachDevice(uuid=uuid, xml="<device><alias name='ua-nobody'/></device>", scope=CONFIG, merge=True)
    assert await bed.refused(nobody) is Reason.DEVICE_NOT_FOUND
