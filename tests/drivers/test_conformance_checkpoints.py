"""What every driver does with checkpoints, whatever is behind it."""

from __future__ import annotations

import pytest

from tests.drivers.bed import Bed
from virtrpc_drivers import operations as ops
from virtrpc_drivers.errors import DriverError, Reason

pytestmark = pytest.mark.asyncio(loop_scope="module")


def create(uuid: str, name: str) -> ops.CreateCheckpoint:
    """Takes a checkpoint with a description."""
    return ops.CreateCheckpoint(
        uuid=uuid, name=name, xml=f"<domaincheckpoint><name>{name}</name><description>for a test</description></domaincheckpoint>"
    )


async def test_checkpoints(bed: Bed) -> None:
    """Checkpoints are taken one upon the other, listed with their parents and disks, told as XML, and deleted: a child moves to its grandparent."""
    bed.need("CreateCheckpoint")
    uuid = await bed.started()
    for name in ("a", "b", "c"):
        outcome = await bed.run(create(uuid, name))
        assert outcome.checkpoint is not None
        assert (outcome.checkpoint.name, outcome.checkpoint.description, outcome.checkpoint.disks) == (name, "for a test", ("vda",))
    assert {found.name: found.parent for found in (await bed.driver.checkpoints(uuid)).checkpoints} == {"a": None, "b": "a", "c": "b"}
    assert "<name>b</name>" in await bed.driver.checkpoint_xml(uuid, "b", size=False)
    await bed.run(ops.DeleteCheckpoint(uuid=uuid, name="b"))
    assert {found.name: found.parent for found in (await bed.driver.checkpoints(uuid)).checkpoints} == {"a": None, "c": "a"}
    await bed.run(ops.DeleteCheckpoint(uuid=uuid, name="a", children=True))
    assert (await bed.driver.checkpoints(uuid)).checkpoints == ()


async def test_checkpoint_refusals(bed: Bed) -> None:
    """A name that is taken, one that is not there, and a disk that the domain does not have."""
    bed.need("CreateCheckpoint")
    uuid = await bed.started()
    odd = "<domaincheckpoint><name>odd</name><disks><disk name='vdz' checkpoint='bitmap'/></disks></domaincheckpoint>"
    assert await bed.refused(ops.CreateCheckpoint(uuid=uuid, name="odd", xml=odd)) is Reason.UNSUPPORTED
    await bed.run(create(uuid, "a"))
    assert await bed.refused(create(uuid, "a")) is Reason.ALREADY_EXISTS
    assert await bed.refused(ops.DeleteCheckpoint(uuid=uuid, name="none")) is Reason.CHECKPOINT_NOT_FOUND
    with pytest.raises(DriverError) as caught:
        await bed.driver.checkpoint_xml(uuid, "none", size=False)
    assert caught.value.reason is Reason.CHECKPOINT_NOT_FOUND
    await bed.run(ops.DeleteCheckpoint(uuid=uuid, name="a"))
