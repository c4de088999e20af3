"""Files of memory, the guest's agent, pictures and capabilities on real QEMU guests; what each did is read back past virtrpc."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import libvirt
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from tests.e2e.behaviour import has_progress, held_writer_of
from tests.e2e.server import Guest, QemuHost, ended, eventually, running
from virtrpc import AgentUnresponsive, AlreadyExists, AsyncClient, AsyncJobHandle, Cancelled, InvalidArgument, OperationFailed, WrongState
from virtrpc.v1 import job_pb2 as j
from virtrpc.v1 import snapshot_pb2 as s
from virtrpc.v1 import types_pb2 as t

pytestmark = pytest.mark.hypervisor

VIDEO = "<video><model type='vga'/></video><graphics type='vnc' port='-1' autoport='yes'/>"


@pytest.fixture(scope="module")
def shared_guest(qemu_host: QemuHost) -> Iterator[Guest]:
    """A guest that most tests here can share, with a mounted disk and a screen."""
    with qemu_host.guest(name="filed", disk_mib=32, mount_disk=True, more_devices=VIDEO) as guest:
        guest.wait_for_agent()
        yield guest


@pytest.fixture
def guest(shared_guest: Guest, qemu_host: QemuHost) -> Guest:
    """The same, running."""
    return running(shared_guest, qemu_host)


@pytest.fixture
def path(qemu_host: QemuHost, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A file that a test may have written, inside the server's path roots."""
    file = qemu_host.daemon.path / f"{request.node.name}.image"
    yield file
    file.unlink(missing_ok=True)


async def test_save_and_restore(client: AsyncClient, guest: Guest, path: Path) -> None:
    """A domain goes to a file and is off; the file tells whose it is; it comes back as it was, and goes on."""
    job = await ended(client.save_domain(guest.name, path=str(path)))
    assert (job.file_result.path, job.file_result.domain.state_reason) == (str(path), "saved")
    assert guest.state == libvirt.VIR_DOMAIN_SHUTOFF
    image = await client.get_save_image(path=str(path))
    assert (image.domain.uuid, image.domain.name) == (guest.uuid, guest.name)
    restored = await ended(client.restore_domain(path=str(path), uuid=image.domain.uuid, name=image.domain.name))
    assert restored.domain_result.domain.state_reason == "restored"
    assert guest.domain.state() == [libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_RESTORED]
    assert guest.agent("guest-ping") == {}


async def test_a_cancelled_save_leaves_no_file(client: AsyncClient, big_guest: Guest, path: Path) -> None:
    """A save to a file reports progress, and is cancelled: the guest runs on."""
    await cancelled_midway(client, await client.save_domain(big_guest.name, path=str(path)), path)
    assert big_guest.state == libvirt.VIR_DOMAIN_RUNNING
    assert not path.exists()


async def cancelled_midway(client: AsyncClient, handle: AsyncJobHandle, path: Path) -> None:
    """Cancel a job once it has said how far it is, while its file takes no more data; it must end CANCELLED."""
    with held_writer_of(str(path)):
        await eventually(lambda: has_progress(client, handle.job_id), "the job to report bytes")
        answer = await handle.cancel()
        assert answer.outcome == j.CANCEL_OUTCOME_ABORTING, answer.message
    with pytest.raises(Cancelled):
        await handle.wait()


async def test_files_that_may_not_be(client: AsyncClient, guest: Guest, path: Path) -> None:
    """A file outside the roots, one that exists, and one that is no image: each refusal names what is wrong, and the guest runs on."""
    with pytest.raises(InvalidArgument) as caught:
        await ended(client.save_domain(guest.name, path="/etc/virtrpc.save"))
    assert caught.value.reason == "PATH_NOT_ALLOWED"
    path.write_text("not an image")
    with pytest.raises(AlreadyExists):
        await ended(client.save_domain(guest.name, path=str(path)))
    with pytest.raises(OperationFailed):
        await client.get_save_image(path=str(path))
    assert path.read_text() == "not an image"
    with pytest.raises(InvalidArgument):
        await ended(client.save_domain(guest.name, path="relative.save"))
    with pytest.raises(WrongState):
        await ended(client.restore_domain(path=str(path), uuid=guest.uuid, name=guest.name))
    assert guest.state == libvirt.VIR_DOMAIN_RUNNING


async def test_dump_core(client: AsyncClient, guest: Guest, path: Path) -> None:
    """A guest's memory is written as ELF for a debugger, and the guest runs on; kdump without memory_only is refused."""
    job = await ended(client.dump_core(guest.name, path=str(path), memory_only=True))
    assert job.file_result.path == str(path)
    assert path.read_bytes()[:4] == b"\x7fELF"
    assert guest.state == libvirt.VIR_DOMAIN_RUNNING
    with pytest.raises(InvalidArgument):
        await ended(client.dump_core(guest.name, path=str(path), format=j.CORE_FORMAT_KDUMP_ZLIB))


async def test_a_core_file_is_cancelled(client: AsyncClient, big_guest: Guest, path: Path) -> None:
    """A dump reports progress and is cancelled: the guest runs on."""
    await cancelled_midway(client, await client.dump_core(big_guest.name, path=str(path)), path)
    assert big_guest.state == libvirt.VIR_DOMAIN_RUNNING


async def test_freeze_and_thaw(client: AsyncClient, guest: Guest) -> None:
    """The agent freezes what is mounted and thaws it, each counted; both take the agent's slot, so a save that waits holds up neither."""
    frozen = await ended(client.freeze_filesystems(guest.name))
    assert frozen.filesystems_result.filesystems == 1
    assert guest.agent("guest-fsfreeze-status") == "frozen"
    thawed = await ended(client.thaw_filesystems(guest.name))
    assert thawed.filesystems_result.filesystems == 1
    assert guest.agent("guest-fsfreeze-status") == "thawed"


async def test_trim(client: AsyncClient, guest: Guest) -> None:
    """The agent trims what is mounted; a negative size is refused."""
    await ended(client.trim_filesystems(guest.name, minimum_bytes=4096))
    with pytest.raises(InvalidArgument):
        await ended(client.trim_filesystems(guest.name, minimum_bytes=-1))


async def test_set_guest_time(client: AsyncClient, guest: Guest) -> None:
    """The guest's clock is what it was set to."""
    await ended(client.set_guest_time(guest.name, guest_time=Timestamp(seconds=1_900_000_000)))
    assert 0 <= guest.agent("guest-get-time") / 1e9 - 1_900_000_000 < 600
    with pytest.raises(InvalidArgument):
        await ended(client.set_guest_time(guest.name))


async def test_get_guest_info(client: AsyncClient, guest: Guest) -> None:
    """What the agent tells is what it tells libvirt: host name, file systems, clock; only the parts that are asked for."""
    info = await client.get_guest_info(guest.name)
    assert info.hostname == guest.agent("guest-get-host-name")["host-name"]
    assert [found.mountpoint for found in info.filesystems] == ["/mnt"]
    assert info.guest_time.seconds > 0
    assert "lo" in [card.name for card in info.interfaces]
    only = await client.get_guest_info(guest.name, parts=[s.GUEST_INFO_PART_HOSTNAME])
    assert (bool(only.hostname), len(only.filesystems), only.HasField("guest_time")) == (True, 0, False)


async def test_a_guest_without_an_agent(client: AsyncClient, qemu_host: QemuHost) -> None:
    """Asking it is AGENT_UNRESPONSIVE, and so is freezing."""
    with qemu_host.guest(agent=False, ready=False) as guest:
        with pytest.raises(AgentUnresponsive):
            await client.get_guest_info(guest.name)
        with pytest.raises(AgentUnresponsive):
            await ended(client.freeze_filesystems(guest.name))


async def test_take_screenshot(client: AsyncClient, guest: Guest) -> None:
    """A picture of the screen comes whole; a screen that is not there is refused."""
    picture = await client.take_screenshot(guest.name)
    assert picture.mime_type in ("image/png", "image/x-portable-pixmap")
    assert len(picture.data) == picture.total_bytes > 1000
    with pytest.raises((InvalidArgument, OperationFailed, WrongState)):
        await client.take_screenshot(guest.name, screen_number=5)


async def test_get_domain_capabilities(client: AsyncClient, direct: libvirt.virConnect) -> None:
    """What domains can have is libvirt's text; an architecture that there is not is refused."""
    answer = await client.get_domain_capabilities(arch="x86_64", virt_type="qemu", machine="pc")
    assert answer.xml == direct.getDomainCapabilities(None, "x86_64", "pc", "qemu", 0)
    with pytest.raises((InvalidArgument, OperationFailed)):
        await client.get_domain_capabilities(arch="pdp11")


async def test_an_image_is_restored_by_one(client: AsyncClient, guest: Guest, path: Path) -> None:
    """Two restores of one image: the uuid is reserved, so the second waits, and then finds that the domain runs."""
    await ended(client.save_domain(guest.name, path=str(path)))
    restores = [client.restore_domain(path=str(path), uuid=guest.uuid, name=guest.name) for _ in range(2)]
    ends = await asyncio.gather(*map(ended, restores), return_exceptions=True)
    assert [type(end) for end in sorted(ends, key=lambda end: isinstance(end, BaseException))] == [t.Job, WrongState]
    await eventually(lambda: guest.state == libvirt.VIR_DOMAIN_RUNNING, "the guest to run")
