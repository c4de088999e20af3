"""Definitions inside images of saved QEMU guests, and what their agents are told: each effect is read back past virtrpc."""

from __future__ import annotations

from collections.abc import Iterator

import libvirt
import pytest

from tests.e2e.server import Guest, QemuHost, ended, eventually, running
from tests.e2e.server import qemu_host as serve
from virtrpc import AgentUnresponsive, AsyncClient, HostReadOnly, InvalidArgument, OperationFailed, WrongState
from virtrpc.v1 import job_pb2 as j
from virtrpc.v1 import types_pb2 as t

pytestmark = pytest.mark.hypervisor

TITLE = "set in the image"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA one@test"
OTHER = KEY.replace("one", "two")
NOBODY = "00000000-0000-4000-8000-00000000dead"
SECRET = "<graphics type='vnc' port='-1' autoport='yes' passwd='hunter2'/>"


@pytest.fixture(scope="module")
def shared_guest(qemu_host: QemuHost) -> Iterator[Guest]:
    """A guest with two virtual CPUs and an agent."""
    with qemu_host.guest(name="imaged", vcpus=2) as guest:
        guest.wait_for_agent()
        yield guest


@pytest.fixture
def guest(shared_guest: Guest, qemu_host: QemuHost) -> Guest:
    """The same, running."""
    return running(shared_guest, qemu_host)


@pytest.fixture
async def saved(client: AsyncClient, guest: Guest, qemu_host: QemuHost) -> str:
    """A file that holds the guest's memory; the guest is off."""
    file = qemu_host.daemon.path / "imaged.save"
    file.unlink(missing_ok=True)
    await ended(client.save_domain(guest.name, path=str(file)))
    return str(file)


def titled(xml: str, name: str) -> str:
    """A definition with another title, which a guest cannot see."""
    return xml.replace(f"<name>{name}</name>", f"<name>{name}</name><title>{TITLE}</title>")


def title_of(guest: Guest) -> str:
    """The running guest's title."""
    return str(guest.domain.metadata(libvirt.VIR_DOMAIN_METADATA_TITLE, None, libvirt.VIR_DOMAIN_AFFECT_LIVE))


async def test_define_save_image(client: AsyncClient, guest: Guest, direct: libvirt.virConnect, saved: str) -> None:
    """A file's definition and state are replaced, and the domain comes back with them; the stored definition is left alone."""
    image = await client.get_save_image(path=saved)
    xml = titled(image.xml, guest.name)
    job = await ended(client.define_save_image(path=saved, xml=xml, resume_state=t.RESUME_STATE_PAUSED))
    assert (job.file_result.path, job.file_result.domain.uuid) == (saved, guest.uuid)
    assert TITLE in direct.saveImageGetXMLDesc(saved, 0)
    await ended(client.restore_domain(path=saved, uuid=guest.uuid, name=guest.name))
    assert (guest.state, title_of(guest)) == (libvirt.VIR_DOMAIN_PAUSED, TITLE)
    assert TITLE not in guest.domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)


async def test_define_the_image_of_a_domain_that_is_not_defined(client: AsyncClient, direct: libvirt.virConnect, qemu_host: QemuHost) -> None:
    """A file can be changed while the host knows no such domain, and that makes none."""
    path = qemu_host.daemon.path / "stray.save"
    with qemu_host.guest(name="stray") as guest:
        await ended(client.save_domain(guest.name, path=str(path)))
        guest.domain.undefine()
        await eventually(lambda: _gone(client, guest), "the domain to be gone")
        image = await client.get_save_image(path=str(path))
        job = await ended(client.define_save_image(path=str(path), xml=titled(image.xml, guest.name)))
        assert (job.domain.uuid, job.file_result.HasField("domain")) == (guest.uuid, False)
        assert TITLE in direct.saveImageGetXMLDesc(str(path), 0)
        assert guest.uuid not in [domain.UUIDString() for domain in direct.listAllDomains()]
    path.unlink()


async def _gone(client: AsyncClient, guest: Guest) -> bool:
    return guest.uuid not in [domain.uuid async for domain in client.list_domains()]


async def test_definitions_that_an_image_does_not_take(client: AsyncClient, guest: Guest, direct: libvirt.virConnect, saved: str) -> None:
    """Another domain's definition, one without a uuid, one that the guest would see, no image, a file outside the roots: each is refused."""
    before = direct.saveImageGetXMLDesc(saved, 0)
    for path, xml, error, reason in (
        (saved, before.replace(guest.uuid, NOBODY), InvalidArgument, "INVALID_ARGUMENT"),
        (saved, before.replace(f"<uuid>{guest.uuid}</uuid>", ""), InvalidArgument, "INVALID_ARGUMENT"),
        (saved, "", InvalidArgument, "INVALID_ARGUMENT"),
        (saved, "<domain>", InvalidArgument, "XML_INVALID"),
        (saved, before.replace(">2</vcpu>", ">3</vcpu>"), InvalidArgument, "INVALID_ARGUMENT"),
        (f"{saved}.none", before, OperationFailed, "OPERATION_FAILED"),
        ("/etc/hostname", before, InvalidArgument, "PATH_NOT_ALLOWED"),
    ):
        with pytest.raises(error) as caught:
            await ended(client.define_save_image(path=path, xml=xml))
        assert caught.value.reason == reason
    assert direct.saveImageGetXMLDesc(saved, 0) == before
    await ended(client.restore_domain(path=saved, uuid=guest.uuid, name=guest.name))


async def test_get_managed_save_image(client: AsyncClient, qemu_host: QemuHost) -> None:
    """The definition in the image is told without its password; a domain that has no image is refused."""
    with qemu_host.guest(more_devices=SECRET, ready=False) as guest:
        with pytest.raises(WrongState):
            await client.get_managed_save_image(guest.name)
        await ended(client.managed_save_domain(guest.name))
        image = await client.get_managed_save_image(guest.name)
        assert (image.domain.uuid, f"<name>{guest.name}</name>" in image.xml) == (guest.uuid, True)
        assert "hunter2" in guest.domain.managedSaveGetXMLDesc(libvirt.VIR_DOMAIN_SAVE_IMAGE_XML_SECURE)
        assert "hunter2" not in image.xml


async def test_define_managed_save_image(client: AsyncClient, guest: Guest, qemu_host: QemuHost) -> None:
    """The definition in the image is replaced, and the next start brings the domain back with it; another's, and a running one's, is refused."""
    stored = guest.domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
    with pytest.raises(WrongState):
        await ended(client.define_managed_save_image(guest.name, xml=stored))
    await ended(client.managed_save_domain(guest.name))
    with pytest.raises(InvalidArgument):
        await ended(client.define_managed_save_image(guest.name, xml=stored.replace(guest.uuid, NOBODY)))
    image = await client.get_managed_save_image(guest.name)
    await ended(client.define_managed_save_image(guest.name, xml=titled(image.xml, guest.name)))
    assert TITLE in guest.domain.managedSaveGetXMLDesc(0)
    await ended(client.start_domain(guest.name))
    assert title_of(guest) == TITLE
    guest.domain.destroy()
    qemu_host.wait_known(guest)


async def test_guest_vcpus(client: AsyncClient, guest: Guest) -> None:
    """A guest's second virtual CPU is switched off and on inside the guest; the domain keeps both; the first cannot be switched off."""
    guest.wait_for_agent()
    for online in (False, True):
        await ended(client.set_guest_vcpus(guest.name, vcpus=[1], online=online))
        told = (await client.get_guest_vcpus(guest.name)).vcpus
        assert [(vcpu.number, vcpu.online, vcpu.offlinable) for vcpu in told] == [(0, True, False), (1, online, True)]
        assert {vcpu["logical-id"]: vcpu["online"] for vcpu in guest.agent("guest-get-vcpus")} == {0: True, 1: online}
        assert guest.domain.vcpusFlags(libvirt.VIR_DOMAIN_AFFECT_LIVE) == 2
    for numbers in ([0], [5]):
        with pytest.raises(InvalidArgument):
            await ended(client.set_guest_vcpus(guest.name, vcpus=numbers, online=False))
    for numbers in ([], [-1], [5000]):
        with pytest.raises(InvalidArgument) as caught:
            await ended(client.set_guest_vcpus(guest.name, vcpus=numbers, online=True))
        assert caught.value.metadata["field"] == "vcpus"


async def test_authorized_ssh_keys(client: AsyncClient, guest: Guest) -> None:
    """Keys are added, removed and replaced in the guest's own file, and told as they are."""
    guest.wait_for_agent()
    for change, keys, left in (
        (j.SSH_KEYS_CHANGE_REPLACE, [KEY], [KEY]),
        (j.SSH_KEYS_CHANGE_UNSPECIFIED, [KEY, OTHER], [KEY, OTHER]),
        (j.SSH_KEYS_CHANGE_REMOVE, [KEY], [OTHER]),
        (j.SSH_KEYS_CHANGE_REPLACE, [], []),
    ):
        await ended(client.set_authorized_ssh_keys(guest.name, user="root", keys=keys, change=change))
        assert sorted((await client.get_authorized_ssh_keys(guest.name, user="root")).keys) == left
        assert sorted(guest.read_file("/.ssh/authorized_keys").splitlines()) == left
    with pytest.raises(OperationFailed):
        await client.get_authorized_ssh_keys(guest.name, user="nobody-here")
    for user, keys in (("", [KEY]), ("root", []), ("root", ["two\nlines"]), ("root", [" "])):
        with pytest.raises(InvalidArgument):
            await ended(client.set_authorized_ssh_keys(guest.name, user=user, keys=keys))


async def test_a_guest_without_an_agent(client: AsyncClient, qemu_host: QemuHost) -> None:
    """It is AGENT_UNRESPONSIVE to each of them; off it is WRONG_STATE."""
    with qemu_host.guest(agent=False, ready=False) as guest:
        for error in (AgentUnresponsive, WrongState):
            with pytest.raises(error):
                await client.get_guest_vcpus(guest.name)
            with pytest.raises(error):
                await client.get_authorized_ssh_keys(guest.name, user="root")
            with pytest.raises(error):
                await ended(client.set_guest_vcpus(guest.name, vcpus=[0], online=True))
            with pytest.raises(error):
                await ended(client.set_authorized_ssh_keys(guest.name, user="root", keys=[KEY]))
            if guest.state == libvirt.VIR_DOMAIN_RUNNING:
                guest.domain.destroy()
                qemu_host.wait_known(guest)


async def test_a_read_only_host_changes_no_image(qemu_host: QemuHost, client: AsyncClient, guest: Guest) -> None:
    """The definition is not touched where the host is configured read-only."""
    stored = guest.domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
    with serve(qemu_host.daemon, table={"read_only": True}) as host:
        async with host.server.client() as reader:
            for verb in (
                reader.define_save_image(path=str(host.daemon.path / "x.save"), xml=stored),
                reader.set_guest_vcpus(guest.name, vcpus=[1], online=False),
                reader.set_authorized_ssh_keys(guest.name, user="root", keys=[KEY]),
            ):
                with pytest.raises(HostReadOnly):
                    await ended(verb)
