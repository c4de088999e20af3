"""Typed devices and definitions on real QEMU guests: what was said is read back through libvirt, past virtrpc."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from xml.etree.ElementTree import Element

import libvirt
import pytest

from tests.beds.domain import KERNEL_WORDS, make_disk
from tests.beds.guest import image
from tests.beds.wait import wait_for_console
from tests.e2e.server import GUARD, Guest, QemuHost, ended, running, xml_of
from virtrpc import AsyncClient, InvalidArgument, NotFound
from virtrpc.v1 import devices_pb2 as d
from virtrpc.v1 import spec_pb2 as s
from virtrpc.v1 import types_pb2 as t
from virtrpc_drivers.device_xml import attribute

pytestmark = pytest.mark.hypervisor

MAC = "52:54:00:00:00:01"
SECRET = "hush-42"  # a test's own
CDROM = "<disk type='file' device='cdrom'><driver name='qemu' type='raw'/><target dev='sda' bus='scsi'/><readonly/></disk>"
SCREEN = f"<graphics type='vnc' autoport='yes' passwd='{SECRET}'/>"


@pytest.fixture(scope="module")
def shared_guest(qemu_host: QemuHost) -> Iterator[Guest]:
    """A guest with a disk, an interface, an empty CD drive and a screen with a password."""
    more = f"<controller type='scsi' model='virtio-scsi'/>{CDROM}{SCREEN}"
    with qemu_host.guest(name="typed", disk_mib=16, interface=True, more_devices=more) as guest:
        yield guest


@pytest.fixture
def guest(shared_guest: Guest, qemu_host: QemuHost) -> Guest:
    """The same, running."""
    return running(shared_guest, qemu_host)


def iso(path: Path) -> Path:
    """A file that can be put into a CD drive."""
    path.write_bytes(b"\0" * (1 << 20))
    return path


def device(guest: Guest, path: str, flags: int = 0) -> Element | None:
    """A device of the guest as libvirt shows it now."""
    return xml_of(guest.domain, flags).find(f"devices/{path}")


async def full(client: AsyncClient, name: str) -> t.Domain:
    """The domain in the full view."""
    return await client.get_domain(name, view=t.DOMAIN_VIEW_FULL)


async def test_the_full_view(client: AsyncClient, guest: Guest) -> None:
    """Disks, interfaces and screens are those that libvirt shows; no password is told."""
    told = await full(client, guest.name)
    shown = xml_of(guest.domain)
    assert [(disk.target, disk.alias) for disk in told.disks] == [
        (disk.find("target").get("dev"), disk.find("alias").get("name"))  # type: ignore[union-attr] # libvirt always writes them
        for disk in shown.iterfind("devices/disk")
    ]
    assert guest.disk is not None
    by_target = {disk.target: disk for disk in told.disks}
    assert (by_target["vda"].source.file, by_target["vda"].format, by_target["vda"].bus) == (str(guest.disk.path), "qcow2", "virtio")
    assert (by_target["sda"].device, by_target["sda"].source.WhichOneof("source")) == (d.DISK_DEVICE_CDROM, "empty")
    assert [(link.mac, link.model, link.WhichOneof("source")) for link in told.interfaces] == [(MAC, "virtio", "user")]
    (screen,) = told.graphics
    port = shown.find("devices/graphics")
    assert port is not None
    assert (screen.type, screen.port, screen.password) == (d.GRAPHICS_TYPE_VNC, int(port.get("port", "")), "")
    assert SECRET not in str(told)


async def test_attach_and_detach_a_typed_disk(client: AsyncClient, guest: Guest, qemu_host: QemuHost) -> None:
    """A disk is plugged into the running guest under the first free name, told in full, and unplugged by that name."""
    image = make_disk(qemu_host.daemon.path / "second.qcow2").path
    disk = d.Disk(source=d.DiskSource(file=str(image)), format="qcow2", serial="S2", limits=d.DiskLimits(total_bytes_per_second=1 << 20))
    await ended(client.attach_device(guest.name, disk=disk))
    shown = device(guest, "disk[serial='S2']")
    assert shown is not None
    target = shown.find("target")
    assert target is not None
    assert (target.get("dev"), shown.findtext("iotune/total_bytes_sec")) == ("vdb", str(1 << 20))
    (told,) = [disk for disk in (await full(client, guest.name)).disks if disk.target == "vdb"]
    assert (told.serial, told.source.file, told.limits.total_bytes_per_second) == ("S2", str(image), 1 << 20)
    await ended(client.detach_device(guest.name, disk_target="vdb"))
    assert device(guest, "disk[serial='S2']") is None
    with pytest.raises(NotFound):
        await ended(client.detach_device(guest.name, disk_target="vdb"))


async def test_attach_change_and_detach_a_typed_interface(client: AsyncClient, guest: Guest) -> None:
    """An interface is plugged in, its cable pulled, and it is unplugged by its hardware address; the other one stays as it was."""
    mac = "52:54:00:00:00:77"
    await ended(client.attach_device(guest.name, interface=d.Interface(user=d.UserInterface(), mac=mac, model="virtio")))
    before = device(guest, f"interface/mac[@address='{mac}']/..")
    assert before is not None
    await ended(client.update_device(guest.name, interface=d.Interface(mac=mac, link_state=d.LINK_STATE_DOWN)))
    after = device(guest, f"interface/mac[@address='{mac}']/..")
    assert after is not None
    link = after.find("link")
    assert link is not None
    assert link.get("state") == "down"
    after.remove(link)
    assert sorted((child.tag, *sorted(child.attrib.items())) for child in after) == sorted(
        (child.tag, *sorted(child.attrib.items())) for child in before
    )
    await ended(client.detach_device(guest.name, interface_mac=mac))
    assert [link.mac for link in (await full(client, guest.name)).interfaces] == [MAC]


async def test_running_and_stored_are_changed_each_as_it_is(client: AsyncClient, guest: Guest) -> None:
    """An interface whose running and stored forms have different addresses is changed and taken out of both by one job; both addresses stay."""
    mac, only = "52:54:00:00:00:78", d.Interface(user=d.UserInterface(), mac="52:54:00:00:00:79", model="virtio")
    forms = (0, libvirt.VIR_DOMAIN_XML_INACTIVE)

    def shown() -> list[Element]:
        found = [device(guest, f"interface/mac[@address='{mac}']/..", form) for form in forms]
        return [one for one in found if one is not None]

    def addresses() -> list[str]:
        return ["".join(address.attrib.values()) for one in shown() for address in one.iterfind("address")]

    await ended(client.attach_device(guest.name, interface=only, scope=t.CHANGE_SCOPE_CONFIG))
    both = d.Interface(user=d.UserInterface(), mac=mac, model="virtio")
    await ended(client.attach_device(guest.name, interface=both, scope=t.CHANGE_SCOPE_BOTH))
    before = addresses()
    assert len(set(before)) == 2
    await ended(client.update_device(guest.name, interface=d.Interface(mac=mac, link_state=d.LINK_STATE_DOWN), scope=t.CHANGE_SCOPE_BOTH))
    assert [one.find("link[@state='down']") is not None for one in shown()] == [True, True]
    assert addresses() == before
    alias = attribute(shown()[0], "alias", "name") or ""
    await ended(client.detach_device(guest.name, alias=alias, scope=t.CHANGE_SCOPE_BOTH))
    assert shown() == []
    await ended(client.detach_device(guest.name, interface_mac=only.mac, scope=t.CHANGE_SCOPE_CONFIG))


async def test_a_medium_comes_and_goes(client: AsyncClient, guest: Guest, qemu_host: QemuHost) -> None:
    """A CD is put in by its drive's name alone, and taken out; the drive keeps its bus and address."""
    path = iso(qemu_host.daemon.path / "cd.iso")
    await ended(client.update_device(guest.name, disk=d.Disk(target="sda", source=d.DiskSource(file=str(path)))))
    assert device(guest, f"disk[@device='cdrom']/source[@file='{path}']") is not None
    empty = d.Disk(target="sda", source=d.DiskSource(empty=d.EmptyDisk()))
    await ended(client.update_device(guest.name, disk=empty, force=True))
    source = device(guest, "disk[@device='cdrom']/source")
    assert source is None or source.get("file") is None
    assert device(guest, "disk[@device='cdrom']/target[@bus='scsi']") is not None


async def test_a_stored_change_keeps_what_has_no_typed_form(client: AsyncClient, guest: Guest) -> None:
    """The full view's disk, changed and sent back for the stored definition: the rest of it, and the screen's password, are as they were."""
    secure = libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE
    driver = xml_of(guest.domain, secure).find("devices/disk/driver")
    assert driver is not None
    (disk,) = [disk for disk in (await full(client, guest.name)).disks if disk.target == "vda"]
    disk.cache = "writethrough"
    await ended(client.update_device(guest.name, disk=disk, scope=t.CHANGE_SCOPE_CONFIG))
    after = xml_of(guest.domain, secure)
    changed = after.find("devices/disk/driver")
    assert changed is not None
    assert changed.attrib == {**driver.attrib, "cache": "writethrough"}
    screen = after.find("devices/graphics")
    assert screen is not None
    assert screen.get("passwd") == SECRET


async def test_a_screen_gets_another_password(client: AsyncClient, guest: Guest, qemu_host: QemuHost) -> None:
    """A typed screen says only the password; it is set, told nobody, and stands in no log."""
    await ended(client.update_device(guest.name, graphics=d.Graphics(type=d.GRAPHICS_TYPE_VNC, password="fresh-1")))
    screen = device(guest, "graphics", libvirt.VIR_DOMAIN_XML_SECURE)
    assert screen is not None
    assert screen.get("passwd") == "fresh-1"
    assert "fresh-1" not in qemu_host.server.log
    assert "fresh-1" not in str(await full(client, guest.name))


MIB = 1 << 20
NAME = "by-spec"


@pytest.fixture
def forgotten(qemu_host: QemuHost) -> Iterator[QemuHost]:
    """The host without the domain that a test makes, before and after."""
    yield qemu_host
    try:
        domain = qemu_host.direct.lookupByName(NAME)
    except libvirt.libvirtError:
        return
    persistent = domain.isPersistent()
    if domain.isActive():
        domain.destroy()
    if persistent:
        domain.undefine()


def small(host: QemuHost) -> s.DomainSpec:
    """The test guest in typed form."""
    guest = image()
    return s.DomainSpec(
        name=NAME,
        memory_bytes=128 * MIB,
        machine="pc",
        # The device may be there and run no guests all the same.
        virtualization_type="qemu",
        kernel=s.KernelBoot(kernel=str(guest.kernel), initrd=str(guest.initrd), cmdline=KERNEL_WORDS),
        disks=[d.Disk(source=d.DiskSource(file=str(make_disk(host.daemon.path / "spec.qcow2").path)), format="qcow2")],
        interfaces=[d.Interface(user=d.UserInterface(), model="virtio")],
        consoles=[s.Console(log_file=str(host.daemon.console_log(NAME)))],
        unconfined=True,
        xml_overlay="<domain><devices><controller type='usb' model='none'/><interface><rom enabled='no'/></interface></devices></domain>",
    )


async def test_a_domain_is_defined_by_a_spec_and_boots(client: AsyncClient, forgotten: QemuHost) -> None:
    """Without a word of XML but the overlay: it is stored with what the spec says, and its kernel comes up."""
    job = await ended(client.define_domain(spec=small(forgotten)))
    assert job.define_domain_result.created
    stored = xml_of(forgotten.direct.lookupByName(NAME))
    assert (stored.get("type"), stored.findtext("memory"), stored.findtext("vcpu")) == ("qemu", str(128 << 10), "1")
    for path in ("devices/rng", "devices/channel/target[@name='org.qemu.guest_agent.0']", "devices/controller[@model='none']", "features/acpi"):
        assert stored.find(path) is not None
    await ended(client.start_domain(NAME))
    await asyncio.to_thread(wait_for_console, forgotten.daemon.console_log(NAME), "READY", GUARD)
    told = await full(client, NAME)
    assert [(disk.target, disk.bus, disk.format) for disk in told.disks] == [("vda", "virtio", "qcow2")]


async def test_a_spec_is_merged_into_what_is_stored(client: AsyncClient, forgotten: QemuHost) -> None:
    """Said again it changes nothing; a change keeps what has no typed form and the screen's password; replace throws that away."""
    spec = small(forgotten)
    await ended(client.define_domain(spec=spec))
    domain = forgotten.direct.lookupByName(NAME)
    forgotten.direct.defineXML(domain.XMLDesc().replace("</devices>", f"{SCREEN}<watchdog model='i6300esb'/></devices>"))
    secure = libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE
    before = domain.XMLDesc(secure)
    await ended(client.define_domain(spec=spec))
    assert domain.XMLDesc(secure) == before
    await ended(client.define_domain(spec=s.DomainSpec(name=NAME, memory_bytes=64 * MIB, vcpus=2)))
    after = xml_of(domain, secure)
    assert (after.findtext("currentMemory"), after.findtext("vcpu"), after.findtext("os/kernel")) == (str(64 << 10), "2", str(image().kernel))
    screen = after.find("devices/graphics")
    assert screen is not None
    assert screen.get("passwd") == SECRET
    assert after.find("devices/watchdog[@model='i6300esb']") is not None
    await ended(client.define_domain(spec=spec, replace=True))
    assert xml_of(domain, secure).find("devices/graphics") is None
    assert domain.UUIDString() == before.partition("<uuid>")[2].partition("</uuid>")[0]


async def test_what_was_changed_while_a_spec_waited_stays(client: AsyncClient, forgotten: QemuHost) -> None:
    """The merge is made when the job runs: a change by libvirt itself that no reading has shown yet is kept."""
    await ended(client.define_domain(spec=small(forgotten)))
    domain = forgotten.direct.lookupByName(NAME)
    forgotten.direct.defineXML(domain.XMLDesc().replace("</devices>", "<watchdog model='i6300esb'/></devices>"))
    await ended(client.define_domain(spec=s.DomainSpec(name=NAME, title="Another")))
    stored = xml_of(domain)
    assert stored.findtext("title") == "Another"
    assert stored.find("devices/watchdog[@model='i6300esb']") is not None


async def test_a_transient_domain_is_made_of_a_spec(client: AsyncClient, forgotten: QemuHost) -> None:
    """It runs at once, and is not stored."""
    await ended(client.create_domain(spec=small(forgotten), paused=True))
    domain = forgotten.direct.lookupByName(NAME)
    assert (domain.isActive(), domain.isPersistent()) == (1, 0)


async def test_bad_specs_are_refused(client: AsyncClient, forgotten: QemuHost) -> None:
    """A new domain needs memory; a machine that QEMU lacks is libvirt's to refuse."""
    with pytest.raises(InvalidArgument) as caught:
        await ended(client.define_domain(spec=s.DomainSpec(name="never-there")))
    assert caught.value.metadata["field"] == "spec.memory_bytes"
    spec = small(forgotten)
    spec.machine = "no-such-machine"
    with pytest.raises(InvalidArgument) as refused:
        await ended(client.define_domain(spec=spec))
    assert refused.value.reason == "XML_INVALID"
