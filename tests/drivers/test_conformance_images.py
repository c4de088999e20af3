"""What every driver does with the definitions inside images of saved guests, and what it asks of a guest's agent."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.drivers.bed import KINDS, Bed
from tests.drivers.conftest import HYPERVISORS
from virtrpc_drivers import operations as ops
from virtrpc_drivers.errors import DriverError, Reason
from virtrpc_drivers.values import State

pytestmark = pytest.mark.asyncio(loop_scope="module")

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA one"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The one directory that images may lie in."""
    return tmp_path_factory.mktemp("images")


@pytest_asyncio.fixture(params=HYPERVISORS, scope="module", loop_scope="module")
async def shared_bed(request: pytest.FixtureRequest, root: Path) -> AsyncIterator[Bed]:
    """A driver of each kind that may write there."""
    bed = await Bed.open(KINDS[request.param](), path_roots=(str(root),))
    yield bed
    await bed.close()


def titled(xml: str) -> str:
    """A definition with another title, which a guest cannot see."""
    return xml.replace("</name>", "</name><title>set in the image</title>")


async def test_define_save_image(bed: Bed, root: Path) -> None:
    """A file's definition is replaced, and its domain comes back with it; another domain's definition is refused."""
    bed.need("DefineSaveImage", "GetSaveImage", "Restore")
    uuid, path = await bed.started(), str(root / f"{bed.kind.name}.save")
    name = (await bed.config(uuid)).name
    await bed.run(ops.Save(uuid=uuid, path=path))
    xml = titled((await bed.driver.save_image(path)).xml)
    outcome = await bed.run(ops.DefineSaveImage(uuid=uuid, name=name, path=path, xml=xml, after_restore="paused"))
    assert outcome.path == path
    assert "set in the image" in (await bed.driver.save_image(path)).xml
    other = await bed.defined()
    assert await bed.refused(ops.DefineSaveImage(uuid=other, name="x", path=path, xml=xml)) is Reason.INVALID_ARGUMENT
    await bed.run(ops.Restore(uuid=uuid, name=name, path=path))
    assert "set in the image" in (await bed.config(uuid)).config.xml
    if bed.kind.name != "test":  # it reads the state and starts the guest all the same
        assert (await bed.state(uuid)).state is State.PAUSED


async def test_define_save_image_outside_the_roots(bed: Bed) -> None:
    """A file outside the configured directories is not written."""
    bed.need("DefineSaveImage")
    uuid = await bed.defined()
    assert await bed.refused(ops.DefineSaveImage(uuid=uuid, name="x", path="/etc/x", xml="<domain/>")) is Reason.PATH_NOT_ALLOWED


async def test_define_save_image_of_no_image(bed: Bed, root: Path) -> None:
    """A file that is not there, or is none, stays as it is: OPERATION_FAILED."""
    bed.need("DefineSaveImage")
    uuid = await bed.defined()
    named = await bed.config(uuid)
    operation = ops.DefineSaveImage(uuid=uuid, name=named.name, path=str(root / "none.save"), xml=named.config.xml)
    assert await bed.refused(operation) is Reason.FAILED


async def test_define_managed_save_image(bed: Bed) -> None:
    """The definition in a managed-save image is told and replaced, and the domain comes back with it."""
    bed.need("DefineManagedSaveImage", "GetManagedSaveImage")
    uuid = await bed.started()
    await bed.run(ops.ManagedSave(uuid=uuid))
    image = await bed.driver.managed_save_image(uuid)
    assert (image.uuid, image.name) == (uuid, (await bed.config(uuid)).name)
    await bed.run(ops.DefineManagedSaveImage(uuid=uuid, xml=titled(image.xml)))
    assert "set in the image" in (await bed.driver.managed_save_image(uuid)).xml
    await bed.run(ops.Start(uuid=uuid))
    assert "set in the image" in (await bed.config(uuid)).config.xml


async def test_a_definition_that_an_image_does_not_take(bed: Bed) -> None:
    """One of another name leaves the image as it is: INVALID_ARGUMENT."""
    bed.need("DefineManagedSaveImage", "GetManagedSaveImage")
    uuid = await bed.started()
    await bed.run(ops.ManagedSave(uuid=uuid))
    image = await bed.driver.managed_save_image(uuid)
    other = image.xml.replace(f"<name>{image.name}</name>", "<name>another</name>")
    assert await bed.refused(ops.DefineManagedSaveImage(uuid=uuid, xml=other)) is Reason.INVALID_ARGUMENT
    assert (await bed.driver.managed_save_image(uuid)).xml == image.xml


async def test_no_managed_save_image(bed: Bed) -> None:
    """A domain without an image tells of none, and none is changed: WRONG_STATE."""
    bed.need("DefineManagedSaveImage", "GetManagedSaveImage")
    uuid = await bed.defined()
    assert await bed.refused(ops.DefineManagedSaveImage(uuid=uuid, xml=(await bed.config(uuid)).config.xml)) is Reason.WRONG_STATE
    with pytest.raises(DriverError) as caught:
        await bed.driver.managed_save_image(uuid)
    assert caught.value.reason is Reason.WRONG_STATE


async def test_the_agent_of_a_guest_that_is_off(bed: Bed) -> None:
    """It is neither asked nor told anything: WRONG_STATE."""
    bed.need("SetGuestVcpus", "SetAuthorizedSshKeys", "GetGuestVcpus", "GetAuthorizedSshKeys")
    uuid = await bed.defined()
    for operation in (ops.SetGuestVcpus(uuid=uuid, vcpus=(0,), online=True), ops.SetAuthorizedSshKeys(uuid=uuid, user="root", keys=(KEY,))):
        assert await bed.refused(operation) is Reason.WRONG_STATE
    for read in (lambda: bed.driver.guest_vcpus(uuid), lambda: bed.driver.authorized_ssh_keys(uuid, "root")):
        with pytest.raises(DriverError) as caught:
            await read()
        assert caught.value.reason is Reason.WRONG_STATE


async def test_guest_vcpus(bed: Bed) -> None:
    """The one virtual CPU of a guest is online, and cannot be switched off."""
    bed.need("SetGuestVcpus", "GetGuestVcpus")
    uuid = await with_agent(bed)
    assert [(vcpu.number, vcpu.online, vcpu.offlinable) for vcpu in await bed.driver.guest_vcpus(uuid)] == [(0, True, False)]
    await bed.run(ops.SetGuestVcpus(uuid=uuid, vcpus=(0,), online=True))
    assert await bed.refused(ops.SetGuestVcpus(uuid=uuid, vcpus=(0,), online=False)) is Reason.INVALID_ARGUMENT
    assert await bed.refused(ops.SetGuestVcpus(uuid=uuid, vcpus=(7,), online=True)) is Reason.INVALID_ARGUMENT


async def test_authorized_ssh_keys(bed: Bed) -> None:
    """A user's keys are added, removed and replaced, and told as they are."""
    bed.need("SetAuthorizedSshKeys", "GetAuthorizedSshKeys")
    uuid, other = await with_agent(bed), KEY.replace("one", "two")
    for change, keys, left in (
        ("replace", (KEY,), (KEY,)),
        ("add", (KEY, other), (KEY, other)),
        ("remove", (KEY,), (other,)),
        ("replace", (), ()),
    ):
        await bed.run(ops.SetAuthorizedSshKeys(uuid=uuid, user="root", keys=keys, change=change))
        assert sorted(await bed.driver.authorized_ssh_keys(uuid, "root")) == list(left)


async def with_agent(bed: Bed) -> str:
    """The uuid of a new domain whose guest's agent answers."""
    uuid = await bed.booted()
    while True:
        try:
            await bed.driver.guest_vcpus(uuid)
        except DriverError as error:
            if error.reason is not Reason.AGENT_UNRESPONSIVE:
                raise
        else:
            return uuid
