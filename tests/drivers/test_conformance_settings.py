"""What every driver does with settings, metadata, keys and sleep, whatever is behind it."""

from __future__ import annotations

import pytest

from tests.drivers.bed import Bed
from virtrpc_drivers import operations as ops
from virtrpc_drivers.errors import Reason
from virtrpc_drivers.values import State

pytestmark = pytest.mark.asyncio(loop_scope="module")

URI = "http://example.org/app"


async def test_rename(bed: Bed) -> None:
    """A domain that is off is called otherwise; another's name is ALREADY_EXISTS; one that runs is WRONG_STATE."""
    bed.need("Rename")
    uuid, other = await bed.defined(), await bed.defined()
    await bed.run(ops.Rename(uuid=uuid, name="called-otherwise"))
    assert (await bed.config(uuid)).name == "called-otherwise"
    assert await bed.refused(ops.Rename(uuid=other, name="called-otherwise")) is Reason.ALREADY_EXISTS
    await bed.run(ops.Start(uuid=uuid))
    assert await bed.refused(ops.Rename(uuid=uuid, name="never")) is Reason.WRONG_STATE


async def test_metadata(bed: Bed) -> None:
    """Title, description and an element are set and removed."""
    bed.need("SetMetadata")
    uuid = await bed.defined()
    await bed.run(ops.SetMetadata(uuid=uuid, kind="title", value="short"))
    await bed.run(ops.SetMetadata(uuid=uuid, kind="description", value="long"))
    await bed.run(ops.SetMetadata(uuid=uuid, kind="element", value="<a b='1'/>", uri=URI, key="app"))
    found = (await bed.config(uuid)).config.metadata
    assert (found.title, found.description, [element.uri for element in found.elements]) == ("short", "long", [URI])
    for kind, uri in (("title", ""), ("description", ""), ("element", URI)):
        await bed.run(ops.SetMetadata(uuid=uuid, kind=kind, uri=uri))
    found = (await bed.config(uuid)).config.metadata
    assert (found.title, found.description, found.elements) == ("", "", ())


async def test_autostart(bed: Bed) -> None:
    """Autostart is set and taken back."""
    bed.need("SetAutostart")
    uuid = await bed.defined()
    for wanted in (True, False):
        await bed.run(ops.SetAutostart(uuid=uuid, autostart=wanted))
        assert (await bed.config(uuid)).config.autostart is wanted


async def test_vcpus(bed: Bed) -> None:
    """The maximum and the present number of a domain that is off are set; more than the maximum is refused."""
    bed.need("SetVcpus")
    uuid = await bed.defined()
    await bed.run(ops.SetVcpus(uuid=uuid, vcpus=2, maximum=True, scope=ops.Scope.CONFIG))
    await bed.run(ops.SetVcpus(uuid=uuid, vcpus=2, scope=ops.Scope.CONFIG))
    config = (await bed.config(uuid)).config
    assert (config.vcpus_config, config.vcpus_maximum) == (2, 2)
    assert await bed.refused(ops.SetVcpus(uuid=uuid, vcpus=3, scope=ops.Scope.CONFIG)) is Reason.INVALID_ARGUMENT


async def test_memory_stats_period(bed: Bed) -> None:
    """The stored period of the balloon's reports is set."""
    bed.need("SetMemoryStatsPeriod")
    uuid = await bed.defined()
    await bed.run(ops.SetMemoryStatsPeriod(uuid=uuid, seconds=7, scope=ops.Scope.CONFIG))
    xml = (await bed.config(uuid)).config.xml
    assert "period='7'" in xml.replace('"', "'")


async def test_keys_and_interrupts(bed: Bed) -> None:
    """Keys and an NMI are taken while it runs, and WRONG_STATE while it is off."""
    bed.need("SendKey", "InjectNmi")
    uuid = await bed.defined()
    assert await bed.refused(ops.SendKey(uuid=uuid, keycodes=(30,))) is Reason.WRONG_STATE
    await bed.run(ops.Start(uuid=uuid))
    await bed.run(ops.SendKey(uuid=uuid, keycodes=(30, 48)))
    await bed.run(ops.InjectNmi(uuid=uuid))


async def test_reset(bed: Bed) -> None:
    """A reset guest runs on under the same number; one that is off is WRONG_STATE."""
    bed.need("Reset")
    uuid = await bed.started()
    before = (await bed.state(uuid)).id
    await bed.run(ops.Reset(uuid=uuid))
    state = await bed.state(uuid)
    assert (state.state, state.id) == (State.RUNNING, before)
    await bed.run(ops.Destroy(uuid=uuid))
    assert await bed.refused(ops.Reset(uuid=uuid)) is Reason.WRONG_STATE


async def test_resize(bed: Bed) -> None:
    """A disk that is not there is not resized."""
    bed.need("ResizeBlock")
    uuid = await bed.started()
    await bed.run(ops.ResizeBlock(uuid=uuid, device="vda", capacity_bytes=32 << 20))
    wrong = await bed.refused(ops.ResizeBlock(uuid=uuid, device="vdz", capacity_bytes=32 << 20))
    assert wrong in (Reason.DEVICE_NOT_FOUND, Reason.INVALID_ARGUMENT)


async def test_host_stats(bed: Bed) -> None:
    """A host says how much memory it has, and what is free of it."""
    bed.need("GetHostStats")
    stats = await bed.driver.host_stats()
    assert stats.free_bytes is not None
    assert stats.memory_bytes is None or stats.free_bytes <= stats.memory_bytes
