"""What every driver does with files of memory, the agent's verbs and slow reads, whatever is behind it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.drivers.bed import KINDS, Bed
from tests.drivers.conftest import HYPERVISORS
from virtrpc_drivers import operations as ops
from virtrpc_drivers.errors import DriverError, Reason
from virtrpc_drivers.values import GuestPart, State

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(params=HYPERVISORS, scope="module", loop_scope="module")
async def shared_bed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bed]:
    """A driver of each kind that may write into one directory."""
    bed = await Bed.open(KINDS[request.param](), path_roots=(str(tmp_path_factory.mktemp("roots")),))
    yield bed
    await bed.close()


@pytest.fixture
def root(shared_bed: Bed, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That directory."""
    return max((path for path in tmp_path_factory.getbasetemp().iterdir() if path.name.startswith("roots")), key=lambda path: path.stat().st_mtime)


async def test_save_and_restore(bed: Bed, root: Path) -> None:
    """A domain is saved to a file and off; the file says whose it is; it comes back from there; another file's is refused."""
    bed.need("Save", "Restore", "GetSaveImage")
    uuid, path = await bed.started(), str(root / "one.save")
    name = (await bed.config(uuid)).name
    outcome = await bed.run(ops.Save(uuid=uuid, path=path))
    assert outcome.path == path
    state = await bed.state(uuid)
    assert (state.state, state.reason) == (State.SHUTOFF, "saved")
    image = await bed.driver.save_image(path)
    assert (image.uuid, image.name) == (uuid, name)
    other = await bed.defined()
    assert await bed.refused(ops.Restore(uuid=other, name="x", path=path)) is Reason.INVALID_ARGUMENT
    await bed.run(ops.Restore(uuid=uuid, name=name, path=path))
    state = await bed.state(uuid)
    assert (state.state, state.reason) == (State.RUNNING, "restored")
    assert await bed.refused(ops.Save(uuid=uuid, path=path)) is Reason.ALREADY_EXISTS
    assert (await bed.state(uuid)).state is State.RUNNING


async def test_dump_core(bed: Bed, root: Path) -> None:
    """A core file is written, and the domain runs on."""
    bed.need("DumpCore")
    uuid = await bed.started()
    await bed.run(ops.DumpCore(uuid=uuid, path=str(root / "one.core")))
    assert (await bed.state(uuid)).state is State.RUNNING


@pytest.mark.parametrize("path", ["/etc/one.save", "one.save", "/tmp/../etc/one.save"])
async def test_files_outside_the_roots(bed: Bed, root: Path, path: str) -> None:
    """A file outside the configured directories is neither written nor read, and the message names the directories and the setting."""
    bed.need("Save", "GetSaveImage")
    uuid = await bed.started()
    assert await bed.refused(ops.Save(uuid=uuid, path=path)) is Reason.PATH_NOT_ALLOWED
    assert await bed.refused(ops.Restore(uuid=uuid, name="x", path=path)) is Reason.PATH_NOT_ALLOWED
    with pytest.raises(DriverError) as caught:
        await bed.driver.save_image(path)
    assert caught.value.reason is Reason.PATH_NOT_ALLOWED
    assert f"(path_roots: {root.parent}/roots" in caught.value.fault.message


async def test_freeze_and_thaw(bed: Bed) -> None:
    """The agent's verbs are WRONG_STATE while the domain is off."""
    bed.need("FreezeFilesystems", "ThawFilesystems")
    uuid = await bed.defined()
    for operation in (ops.FreezeFilesystems(uuid=uuid), ops.ThawFilesystems(uuid=uuid), ops.TrimFilesystems(uuid=uuid)):
        assert await bed.refused(operation) is Reason.WRONG_STATE


async def test_guest_info(bed: Bed) -> None:
    """A guest that is off tells nothing: WRONG_STATE."""
    bed.need("GetGuestInfo")
    uuid = await bed.defined()
    with pytest.raises(DriverError) as caught:
        await bed.driver.guest_info(uuid, list(GuestPart))
    assert caught.value.reason is Reason.WRONG_STATE


async def test_screenshot(bed: Bed) -> None:
    """A running domain's picture has a kind and bytes, where it has a screen."""
    bed.need("TakeScreenshot")
    uuid = await bed.started()
    try:
        picture = await bed.driver.screenshot(uuid, 0)
    except DriverError as error:
        if bed.kind.name != "qemu":
            raise
        assert "video" in error.fault.message or "graphic" in error.fault.message or "screen" in error.fault.message  # noqa: PT017 # only there
    else:
        assert picture.mime_type.startswith("image/")
        assert sum(map(len, picture.pieces)) > 0


async def test_domain_capabilities(bed: Bed) -> None:
    """A host tells what domains can have."""
    bed.need("GetDomainCapabilities")
    assert "<domainCapabilities>" in await bed.driver.domain_capabilities("", "", "", "")


async def test_no_program_of_a_callers_is_run(bed: Bed, root: Path) -> None:
    """libvirt would start whatever file is said to be the emulator, to ask it what it can: only the host's own are asked about."""
    bed.need("GetDomainCapabilities")
    program, traces = root / "program", root / "traces"
    traces.mkdir(exist_ok=True)
    traces.chmod(0o777)
    program.write_text(f"#!/bin/sh\ntouch {traces}/run\n")
    program.chmod(0o755)
    root.chmod(0o755)
    with pytest.raises(DriverError) as caught:
        await bed.driver.domain_capabilities(str(program), "x86_64", "", "")
    assert caught.value.reason is Reason.INVALID_ARGUMENT
    assert list(traces.iterdir()) == []
