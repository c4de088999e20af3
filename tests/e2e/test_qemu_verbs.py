"""Verbs on real QEMU guests: what each did is read back through libvirt, past virtrpc."""

from __future__ import annotations

import asyncio
import ctypes
from collections.abc import Iterator
from pathlib import Path

import libvirt
import pytest

from tests.beds.domain import domain_xml, interface_xml, make_disk
from tests.beds.steps import step_until
from tests.e2e.behaviour import save_held_midway
from tests.e2e.server import GUARD, Guest, QemuHost, contract_state, ended, eventually, running, writer_of, xml_of
from virtrpc import AgentUnresponsive, AlreadyExists, AsyncClient, AsyncJobHandle, Cancelled, InvalidArgument, NotFound, WrongState
from virtrpc.v1 import job_pb2 as j
from virtrpc.v1 import types_pb2 as t

pytestmark = pytest.mark.hypervisor

MIB = 1 << 20
MAC = "52:54:00:00:00:01"


@pytest.fixture(scope="module")
def shared_guest(qemu_host: QemuHost) -> Iterator[Guest]:
    """A guest that most tests here can share, since each leaves it in any state but gone."""
    with qemu_host.guest(name="shared", memory_mib=192, disk_mib=16, interface=True) as guest:
        guest.wait_for_agent()
        yield guest


@pytest.fixture
def guest(shared_guest: Guest, qemu_host: QemuHost) -> Guest:
    """The same, running."""
    return running(shared_guest, qemu_host)


@pytest.fixture
def idle(qemu_host: QemuHost) -> Iterator[Guest]:
    """A guest of a test's own, off."""
    with qemu_host.guest(start=False) as guest:
        yield guest


def state_of(guest: Guest) -> tuple[int, int]:
    """What libvirt says: state and reason."""
    state, reason = guest.domain.state()
    return state, reason


def targets(guest: Guest, flags: int = 0) -> set[str | None]:
    """The disks that a guest has, by their names in it."""
    return {target.get("dev") for target in xml_of(guest.domain, flags).iterfind("devices/disk/target")}


async def test_start_domain(client: AsyncClient, idle: Guest) -> None:
    """A domain that is off is started, paused where that is asked for; one that runs is refused."""
    job = await ended(client.start_domain(idle.name, paused=True))
    assert state_of(idle) == (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_USER)
    assert job.domain_result.domain.state == t.DOMAIN_STATE_PAUSED
    with pytest.raises(WrongState) as caught:
        await ended(client.start_domain(idle.name))
    assert caught.value.metadata["state"] == "paused"
    idle.domain.destroy()
    await ended(client.start_domain(idle.name, options=t.JobOptions()))
    assert state_of(idle) == (libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_BOOTED)


async def test_start_domain_from_its_image(client: AsyncClient, idle: Guest, qemu_host: QemuHost) -> None:
    """A managed-save image is restored by the next start, and thrown away by a forced boot."""
    idle.start(ready=False)
    for force_boot, reason in ((False, libvirt.VIR_DOMAIN_RUNNING_RESTORED), (True, libvirt.VIR_DOMAIN_RUNNING_BOOTED)):
        idle.domain.managedSave()
        qemu_host.wait_known(idle)
        await ended(client.start_domain(idle.name, force_boot=force_boot))
        assert state_of(idle) == (libvirt.VIR_DOMAIN_RUNNING, reason)
        assert not idle.domain.hasManagedSaveImage()


async def test_reboot_domain(client: AsyncClient, guest: Guest) -> None:
    """A guest is asked to reboot, and boots again in the same QEMU process."""
    number, boots = guest.domain.ID(), guest.console.read_text().count("READY")
    await ended(client.reboot_domain(guest.name, mode=j.SHUTDOWN_MODE_ACPI))
    await eventually(lambda: guest.console.read_text().count("READY") == boots + 1, "the guest to boot again")
    assert guest.domain.ID() == number


async def test_suspend_domain(client: AsyncClient, guest: Guest) -> None:
    """A running guest is paused."""
    job = await ended(client.suspend_domain(guest.name))
    assert state_of(guest) == (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_USER)
    assert job.domain_result.domain.state == t.DOMAIN_STATE_PAUSED
    assert job.domain_result.domain.state_reason == "user"


async def test_resume_domain(client: AsyncClient, guest: Guest, qemu_host: QemuHost) -> None:
    """A paused guest runs on; one that runs is refused."""
    guest.domain.suspend()
    qemu_host.wait_known(guest)
    job = await ended(client.resume_domain(guest.name))
    assert state_of(guest) == (libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_UNPAUSED)
    assert job.domain_result.domain.state == t.DOMAIN_STATE_RUNNING
    with pytest.raises(WrongState):
        await ended(client.resume_domain(guest.name))


@pytest.mark.parametrize("graceful", [False, True])
async def test_destroy_domain(client: AsyncClient, idle: Guest, qemu_host: QemuHost, graceful: bool) -> None:
    """A guest is ended at once, and its QEMU process with it."""
    idle.start(ready=False)
    qemu_host.wait_known(idle)
    job = await ended(client.destroy_domain(idle.name, graceful=graceful))
    assert state_of(idle) == (libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_DESTROYED)
    assert job.domain_result.domain.state == t.DOMAIN_STATE_SHUTOFF
    with pytest.raises(StopIteration):
        qemu_host.daemon.qemu_pid(idle.name)
    with pytest.raises(WrongState):
        await ended(client.destroy_domain(idle.name))


async def test_managed_save_domain(client: AsyncClient, big_guest: Guest) -> None:
    """A save reports progress that never runs backwards, leaves an image that libvirt knows, and the next start goes on from it."""
    async with save_held_midway(client, big_guest.name) as save:
        watching = asyncio.create_task(_all_of(client.watch_job(save.job_id)))
        readings = [(await client.get_job(job_id=save.job_id)).progress]
        for _ in range(2):
            await eventually(lambda: _is_beyond(client, save.job_id, readings[-1], writer_of(big_guest)), "the progress to be told")
            readings.append((await client.get_job(job_id=save.job_id)).progress)
        assert readings[-1].total_bytes == big_guest.domain.jobStats()["data_total"] > 512 * MIB
        assert (await client.get_job(job_id=save.job_id)).abortable
    async with asyncio.timeout(GUARD):
        seen = await watching
    assert seen[-1].state == t.JOB_STATE_SUCCEEDED, seen[-1].error
    shares = [job.progress.percent for job in seen if job.progress.HasField("percent")]
    assert len(set(shares)) >= 3
    assert shares == sorted(shares)
    assert state_of(big_guest) == (libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_SAVED)
    assert big_guest.domain.hasManagedSaveImage()
    assert seen[-1].domain_result.domain.has_managed_save
    assert (await client.get_domain(big_guest.name)).has_managed_save
    await ended(client.start_domain(big_guest.name))
    assert state_of(big_guest) == (libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_RESTORED)
    assert not (await client.get_domain(big_guest.name)).has_managed_save


async def test_managed_save_domain_to_come_back_paused(client: AsyncClient, idle: Guest) -> None:
    """A guest that was running comes back paused where that was asked for when it was saved."""
    idle.start(ready=False)
    await ended(client.managed_save_domain(idle.uuid, resume_state=t.RESUME_STATE_PAUSED, bypass_cache=True))
    assert idle.domain.hasManagedSaveImage()
    await ended(client.start_domain(idle.uuid))
    assert idle.state == libvirt.VIR_DOMAIN_PAUSED


async def _all_of(handle: AsyncJobHandle) -> list[t.Job]:
    return [job async for job in handle]


def _go_a_step(writer: int) -> None:
    """Let a save that is held write some more of its memory."""
    image = Path(f"/proc/{writer}/fd/1")
    begun = image.stat().st_size
    step_until(writer, lambda: image.stat().st_size > begun)


async def _is_beyond(client: AsyncClient, job_id: str, reading: t.JobProgress, writer: int) -> bool:
    # What QEMU has handed over counts, and after a step it may have nothing more to hand over yet.
    _go_a_step(writer)
    return (await client.get_job(job_id=job_id)).progress.processed_bytes > reading.processed_bytes


async def test_remove_managed_save(client: AsyncClient, idle: Guest) -> None:
    """A domain's image is removed; where there is none, that is said."""
    idle.start(ready=False)
    idle.domain.managedSave()
    await eventually(lambda: _knows_image(client, idle), "the server to know of the image")
    job = await ended(client.remove_managed_save(idle.name))
    assert not idle.domain.hasManagedSaveImage()
    assert not job.domain_result.domain.has_managed_save
    with pytest.raises(WrongState):
        await ended(client.remove_managed_save(idle.name))


async def _knows_image(client: AsyncClient, guest: Guest) -> bool:
    return (await client.get_domain(guest.name)).has_managed_save


async def test_define_domain(client: AsyncClient, direct: libvirt.virConnect, qemu_host: QemuHost) -> None:
    """A definition is stored, and replaced; one that libvirt's schema refuses, or whose name is taken, changes nothing."""
    xml = domain_xml("defined", console_log=qemu_host.daemon.console_log("defined"))
    job = await ended(client.define_domain(xml=xml))
    domain = direct.lookupByName("defined")
    try:
        assert job.define_domain_result.created
        assert job.domain.uuid == job.define_domain_result.domain.uuid == domain.UUIDString()
        assert domain.isPersistent()
        titled = domain.XMLDesc().replace("</name>", "</name><title>again</title>")
        again = await ended(client.define_domain(host="kvm", xml=titled))
        assert not again.define_domain_result.created
        assert xml_of(domain).findtext("title") == "again"
        with pytest.raises(AlreadyExists):
            await ended(client.define_domain(xml=xml))
        with pytest.raises(InvalidArgument) as caught:
            await ended(client.define_domain(xml=titled.replace("again</title>", "never</title><nonsense/>")))
        assert caught.value.reason == "XML_INVALID"
        assert xml_of(domain).findtext("title") == "again"
    finally:
        domain.undefine()


async def test_undefine_domain(client: AsyncClient, idle: Guest, qemu_host: QemuHost) -> None:
    """A definition is removed: from a running domain, which goes on as a transient one, and never with an image that was not named."""
    idle.start(ready=False)
    idle.domain.managedSave()
    await eventually(lambda: _knows_image(client, idle), "the server to know of the image")
    with pytest.raises(WrongState):
        await ended(client.undefine_domain(idle.name))
    assert idle.domain.isPersistent()
    idle.domain.create()
    qemu_host.wait_known(idle)
    await ended(client.undefine_domain(idle.name))
    assert (idle.domain.isActive(), idle.domain.isPersistent()) == (1, 0)
    assert (await client.get_domain(idle.name)).persistent is False


async def test_undefine_domain_with_its_image(client: AsyncClient, idle: Guest, direct: libvirt.virConnect) -> None:
    """A definition is removed together with what is named, and the domain is gone."""
    idle.start(ready=False)
    idle.domain.managedSave()
    await eventually(lambda: _knows_image(client, idle), "the server to know of the image")
    await ended(client.undefine_domain(idle.name, managed_save=True, snapshots_metadata=True))
    assert idle.name not in {domain.name() for domain in direct.listAllDomains()}
    with pytest.raises(NotFound):
        await client.get_domain(idle.name)


async def test_create_domain(client: AsyncClient, direct: libvirt.virConnect, qemu_host: QemuHost) -> None:
    """A transient domain is started, paused where that is asked for, and gone once it ends."""
    xml = domain_xml("created", console_log=qemu_host.daemon.console_log("created"))
    job = await ended(client.create_domain(host="kvm", xml=xml, paused=True))
    domain = direct.lookupByUUIDString(job.domain.uuid)
    assert (domain.name(), domain.isPersistent(), domain.state()[0]) == ("created", 0, libvirt.VIR_DOMAIN_PAUSED)
    assert job.domain_result.domain.persistent is False
    with pytest.raises(AlreadyExists):
        await ended(client.create_domain(xml=xml))
    await ended(client.destroy_domain(job.domain.uuid))
    assert "created" not in {domain.name() for domain in direct.listAllDomains()}
    with pytest.raises(NotFound):
        await client.get_domain(job.domain.uuid)


async def test_attach_device(client: AsyncClient, guest: Guest, qemu_host: QemuHost) -> None:
    """A disk is plugged into the running guest, its definition or both; a target that is taken is refused."""
    for scope, target, live, stored in (
        (t.CHANGE_SCOPE_LIVE, "vdb", True, False),
        (t.CHANGE_SCOPE_CONFIG, "vdc", False, True),
        (t.CHANGE_SCOPE_BOTH, "vdd", True, True),
    ):
        disk = make_disk(qemu_host.daemon.path / f"attached-{target}.qcow2", target=target)
        await ended(client.attach_device(guest.name, xml=disk.xml(), scope=scope))
        assert (target in targets(guest)) is live
        assert (target in targets(guest, libvirt.VIR_DOMAIN_XML_INACTIVE)) is stored
        with pytest.raises(AlreadyExists):
            await ended(client.attach_device(guest.name, xml=disk.xml(), scope=scope))
    assert 'dev="vdd"' in (await client.get_domain_xml(guest.name)).xml.replace("'", '"')


async def test_detach_device(client: AsyncClient, guest: Guest, qemu_host: QemuHost) -> None:
    """A disk is unplugged: the job ends when the guest has let it go; one that is not there is NOT_FOUND."""
    disk = make_disk(qemu_host.daemon.path / "detached.qcow2", target="vde")
    guest.domain.attachDeviceFlags(disk.xml(), libvirt.VIR_DOMAIN_AFFECT_LIVE | libvirt.VIR_DOMAIN_AFFECT_CONFIG)
    guest.wait_for()
    handle = await client.detach_device(guest.name, xml=disk.xml(), scope=t.CHANGE_SCOPE_BOTH)
    async with asyncio.timeout(GUARD):
        seen = [job async for job in handle]
    assert seen[-1].state == t.JOB_STATE_SUCCEEDED, seen[-1].error
    assert t.JOB_PHASE_WAITING_GUEST in {job.phase for job in seen}
    assert "vde" not in targets(guest) | targets(guest, libvirt.VIR_DOMAIN_XML_INACTIVE)
    with pytest.raises(NotFound) as caught:
        await ended(client.detach_device(guest.name, xml=disk.xml(), scope=t.CHANGE_SCOPE_LIVE))
    assert caught.value.reason == "DEVICE_NOT_FOUND"


async def test_update_device(client: AsyncClient, guest: Guest) -> None:
    """A device is changed in place: an interface's link is taken down."""
    plugged = interface_xml(MAC)
    down = plugged.replace("</interface>", '<link state="down"/></interface>')
    await ended(client.update_device(guest.name, xml=down, scope=t.CHANGE_SCOPE_LIVE))
    try:
        link = xml_of(guest.domain).find("devices/interface/link")
        assert link is not None
        assert link.get("state") == "down"
        assert xml_of(guest.domain, libvirt.VIR_DOMAIN_XML_INACTIVE).find("devices/interface/link") is None
    finally:
        guest.domain.updateDeviceFlags(plugged, libvirt.VIR_DOMAIN_AFFECT_LIVE)
    with pytest.raises(NotFound):
        await ended(client.update_device(guest.name, xml=down.replace(MAC, "52:54:00:00:00:99")))


async def test_set_memory(client: AsyncClient, guest: Guest) -> None:
    """Memory is set for the running guest, whose balloon follows, or its definition; the maximum bounds it."""
    await ended(client.set_memory(guest.name, memory_bytes=160 * MIB, scope=t.CHANGE_SCOPE_LIVE))
    await eventually(lambda: guest.domain.info()[2] == 160 * 1024, "the balloon to follow")
    await ended(client.set_memory(guest.name, memory_bytes=128 * MIB - 1, scope=t.CHANGE_SCOPE_CONFIG))
    stored = xml_of(guest.domain, libvirt.VIR_DOMAIN_XML_INACTIVE)
    assert stored.findtext("currentMemory") == str(128 * 1024)
    await ended(client.set_memory(guest.name, memory_bytes=256 * MIB, scope=t.CHANGE_SCOPE_CONFIG, maximum=True))
    assert xml_of(guest.domain, libvirt.VIR_DOMAIN_XML_INACTIVE).findtext("memory") == str(256 * 1024)
    with pytest.raises(InvalidArgument):
        await ended(client.set_memory(guest.name, memory_bytes=4096 * MIB, scope=t.CHANGE_SCOPE_LIVE))
    guest.domain.setMemoryFlags(192 * 1024, libvirt.VIR_DOMAIN_AFFECT_LIVE)
    assert (await client.get_domain(guest.name)).max_memory_bytes == 192 * MIB


async def test_set_user_password(client: AsyncClient, guest: Guest, qemu_host: QemuHost) -> None:
    """A user's password is really set in the guest, from plain text or a hash, and told to nobody."""
    guest.wait_for_agent()
    job = await ended(client.set_user_password(guest.name, user="root", password="correct horse"))
    kept = guest.read_file("/etc/shadow").splitlines()[0].split(":")[1]
    assert _crypt("correct horse", kept) == kept
    hashed = "$6$salt$" + "x" * 86
    await ended(client.set_user_password(guest.name, user="root", password=hashed, encrypted=True))
    assert guest.read_file("/etc/shadow").startswith(f"root:{hashed}:")
    assert "correct horse" not in str(await client.get_job(job_id=job.job_id)) + qemu_host.server.log


async def test_set_user_password_without_an_agent(client: AsyncClient, qemu_host: QemuHost) -> None:
    """A guest without an agent is told from one that refuses."""
    with qemu_host.guest(agent=False, ready=False) as guest, pytest.raises(AgentUnresponsive):
        await ended(client.set_user_password(guest.name, user="root", password="any"))


def _crypt(password: str, salt: str) -> str:
    crypt = ctypes.CDLL("libcrypt.so.1").crypt
    crypt.restype = ctypes.c_char_p
    hashed: bytes = crypt(password.encode(), salt.encode())
    return hashed.decode()


async def test_cancel_job(client: AsyncClient, big_guest: Guest) -> None:
    """A running save is aborted and the guest runs on without an image; a queued job is withdrawn; one that ended says so."""
    async with save_held_midway(client, big_guest.name) as save:
        queued = await client.suspend_domain(big_guest.name)
        assert (await client.cancel_job(job_id=queued.job_id)).outcome == j.CANCEL_OUTCOME_WITHDRAWN
        answer = await client.cancel_job(job_id=save.job_id)
        assert answer.outcome == j.CANCEL_OUTCOME_ABORTING, answer.message
        assert answer.job.cancel_requested
    with pytest.raises(Cancelled) as caught:
        await save.wait()
    assert caught.value.job is not None
    assert caught.value.job.state == t.JOB_STATE_CANCELLED
    assert big_guest.state == libvirt.VIR_DOMAIN_RUNNING
    assert not big_guest.domain.hasManagedSaveImage()
    assert (await client.cancel_job(job_id=save.job_id)).outcome == j.CANCEL_OUTCOME_ALREADY_FINISHED
    assert (await client.get_domain(big_guest.name)).state == contract_state(big_guest.state)


@pytest.mark.parametrize("mode", [j.SHUTDOWN_MODE_ACPI, j.SHUTDOWN_MODE_AGENT])
async def test_shutdown_domain(client: AsyncClient, guest: Guest, mode: j.ShutdownMode.ValueType) -> None:
    """A guest is asked to shut down, by power button or agent, and the job ends when it is off."""
    guest.wait_for_agent()
    before = len(guest.console.read_text())
    handle = await client.shutdown_domain(guest.name, mode=mode)
    async with asyncio.timeout(GUARD):
        seen = [job async for job in handle]
    if mode == j.SHUTDOWN_MODE_ACPI:  # the agent's guest may be off before anybody is told that it was asked
        assert t.JOB_PHASE_WAITING_GUEST in {job.phase for job in seen}
    assert seen[-1].state == t.JOB_STATE_SUCCEEDED
    assert state_of(guest) == (libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_SHUTDOWN)
    assert seen[-1].domain_result.domain.state == t.DOMAIN_STATE_SHUTOFF
    assert ("POWERING-OFF" in guest.console.read_text()[before:]) == (mode == j.SHUTDOWN_MODE_ACPI)
