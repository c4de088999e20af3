"""Typed definitions: to XML that libvirt's own schema takes, and merged into what is stored."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree

import libvirt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from virtrpc.v1 import devices_pb2 as d
from virtrpc.v1 import job_pb2 as j
from virtrpc.v1 import spec_pb2 as s
from virtrpc_drivers import merging
from virtrpc_drivers.device_xml import of_domain
from virtrpc_drivers.operations import AttachDevice, Define
from virtrpc_drivers.values import HostInfo, Stamp
from virtrpc_server import verbs
from virtrpc_server.domains import Entry
from virtrpc_server.errors import Refusal
from virtrpc_server.messages.devices import disk_message, graphics_message, interface_message
from virtrpc_server.orders import definition
from virtrpc_server.specs.build import Site, finished
from virtrpc_server.specs.domain import domain_patch
from virtrpc_server.specs.site import Place, site_of_host, site_of_xml

UUID = "00000000-0000-4000-8000-000000000001"
GIB = 1 << 30
KVM = Site("kvm")
RICH = s.DomainSpec(
    name="web",
    title="A title",
    description="What it is",
    memory_bytes=GIB,
    max_memory_bytes=2 * GIB,
    vcpus=2,
    max_vcpus=4,
    cpu=s.CpuSpec(mode="host-passthrough"),
    arch="x86_64",
    machine="q35",
    firmware=s.FirmwareBoot(uefi=True, secure_boot=False),
    boot_devices=[s.BOOT_DEVICE_CDROM, s.BOOT_DEVICE_HARD_DISK],
    disks=[
        d.Disk(source=d.DiskSource(file="/a.qcow2"), format="qcow2", cache="none", discard="unmap", serial="S"),
        d.Disk(source=d.DiskSource(network=d.NetworkDisk(protocol="rbd", name="p/i", hosts=[d.NetworkDiskHost(name="h", port=6789)]))),
        d.Disk(source=d.DiskSource(volume=d.VolumeDisk(pool="p", volume="v")), limits=d.DiskLimits(total_operations_per_second=5)),
        d.Disk(device=d.DISK_DEVICE_CDROM, readonly=True),
    ],
    interfaces=[
        d.Interface(network="default", model="virtio", vlan_id=5, link_state=d.LINK_STATE_UP),
        d.Interface(direct=d.DirectInterface(device="eth0", mode="bridge"), mac="52:54:00:00:00:01", mtu_bytes=9000),
        d.Interface(user=d.UserInterface()),
        d.Interface(ethernet=d.EthernetInterface(), target="tap7"),
    ],
    consoles=[s.Console(log_file="/log")],
    graphics=[d.Graphics(type=d.GRAPHICS_TYPE_VNC, listen_address="127.0.0.1", password="p"), d.Graphics(type=d.GRAPHICS_TYPE_SPICE, port=5901)],
    tpm=True,
    memory_balloon=False,
    unconfined=True,
    on_poweroff=s.LIFECYCLE_ACTION_DESTROY,
    on_reboot=s.LIFECYCLE_ACTION_RESTART,
    on_crash=s.LIFECYCLE_ACTION_COREDUMP_DESTROY,
    xml_overlay="<domain><devices><watchdog model='i6300esb' action='reset'/></devices></domain>",
)
SPECS = {
    "rich": (RICH, KVM),
    "least": (s.DomainSpec(name="a", memory_bytes=GIB), Site("qemu")),
    "kernel": (s.DomainSpec(name="a", memory_bytes=GIB, kernel=s.KernelBoot(kernel="/k", initrd="/i", cmdline="a=b <c>")), KVM),
    "container": (s.DomainSpec(name="a", memory_bytes=GIB, container=s.ContainerBoot(init="/bin/sh", arguments=["-c", "true"])), Site("lxc")),
    "test": (s.DomainSpec(name="a", memory_bytes=GIB, vcpus=3), Site("test")),
    "xen": (s.DomainSpec(name="a", memory_bytes=GIB, os_type="xen", kernel=s.KernelBoot(kernel="/k")), Site("xen")),
}


def made(spec: s.DomainSpec, site: Site = KVM) -> ElementTree.Element:
    """The definition of a new domain, as it is sent."""
    return ElementTree.fromstring(finished(domain_patch(spec, UUID, site, new=True), "spec", patch=False))


@pytest.fixture(scope="module")
def mock() -> Iterator[libvirt.virConnect]:
    """libvirt's own mock, which checks a definition by the schema before it looks at what it is."""
    connection = libvirt.open("test:///default")
    yield connection
    connection.close()


def schema_says(mock: libvirt.virConnect, xml: str) -> str:
    """What the schema has against a definition; the mock's own objections to a domain of another hypervisor do not count."""
    try:
        mock.defineXMLFlags(xml, libvirt.VIR_DOMAIN_DEFINE_VALIDATE).undefine()
    except libvirt.libvirtError as error:
        return str(error) if error.get_error_code() == libvirt.VIR_ERR_XML_INVALID_SCHEMA else ""
    return ""


@pytest.mark.parametrize("name", SPECS)
def test_libvirt_s_schema_takes_it(name: str, mock: libvirt.virConnect) -> None:
    """What is made of a spec is valid by the schema that libvirt ships."""
    spec, site = SPECS[name]
    assert schema_says(mock, merging.text(made(spec, site))) == ""
    assert schema_says(mock, merging.text(made(spec, site)).replace("<devices>", "<devices><nonsense/>")) != ""


def test_the_mock_takes_it(mock: libvirt.virConnect) -> None:
    """A domain of libvirt's test driver is made of a spec, and has what was said."""
    domain = mock.defineXMLFlags(merging.text(made(*SPECS["test"])), libvirt.VIR_DOMAIN_DEFINE_VALIDATE)
    assert (domain.name(), domain.maxMemory() << 10, domain.UUIDString()) == ("a", GIB, UUID)
    domain.undefine()


def test_devices_there_and_back() -> None:
    """The devices of a spec are told as they were said, with the targets and buses that they were given."""
    told = of_domain(made(RICH))
    for said, disk in zip(RICH.disks, map(disk_message, told.disks), strict=True):
        assert disk.target
        for field, value in said.ListFields():
            if field.name != "device":
                assert getattr(disk, field.name) == value
    assert [interface_message(interface) for interface in told.interfaces] == list(RICH.interfaces)
    assert [graphics_message(graphics).port for graphics in told.graphics] == [0, 5901]
    assert [disk.target for disk in told.disks] == ["vda", "vdb", "vdc", "sda"]


def test_sizes_and_firmware() -> None:
    """Memory in KiB, rounded up; virtual CPUs now and at most; the firmware and what it may do."""
    root = made(RICH)
    assert (root.findtext("memory"), root.findtext("currentMemory"), root.findtext("vcpu")) == (str(2 * GIB >> 10), str(GIB >> 10), "4")
    assert made(s.DomainSpec(name="a", memory_bytes=1025)).findtext("memory") == "2"
    assert [boot.get("dev") for boot in root.iterfind("os/boot")] == ["cdrom", "hd"]
    assert {feature.get("name"): feature.get("enabled") for feature in root.iterfind("os/firmware/feature")} == {
        "secure-boot": "no",
        "enrolled-keys": "no",
    }


def test_an_overlay_changes_and_adds() -> None:
    """What the typed form cannot say is merged over it, devices found by what they are known by."""
    spec = s.DomainSpec(name="a", memory_bytes=GIB, disks=[d.Disk(source=d.DiskSource(file="/a"))])
    spec.xml_overlay = (
        "<domain xmlns:m='urn:virtrpc:merge:1'><devices><disk><target dev='vda'/><driver queues='4'/></disk>"
        "<hostdev mode='subsystem' type='pci'><source><address bus='1'/></source></hostdev><rng m:action='remove'/></devices></domain>"
    )
    root = made(spec)
    assert root.find("devices/disk/driver[@queues='4']") is not None
    assert root.find("devices/disk/source[@file='/a']") is not None
    assert root.find("devices/hostdev") is not None
    assert root.find("devices/rng") is None
    assert b"urn:virtrpc" not in ElementTree.tostring(root)


def test_merged_into_what_is_stored() -> None:
    """A spec that says little changes little; what has no typed form stays, and saying it twice changes nothing more."""
    stored = made(RICH)
    devices = stored.find("devices")
    assert devices is not None
    ElementTree.SubElement(devices, "hostdev", mode="subsystem")
    ElementTree.SubElement(stored, "metadata")
    spec = s.DomainSpec(name="web", memory_bytes=3 * GIB, disks=[d.Disk(target="vda", source=d.DiskSource(file="/b"))])
    spec.interfaces.add(link_state=d.LINK_STATE_DOWN)
    patch = ElementTree.fromstring(finished(domain_patch(spec, UUID, KVM, new=False), "spec", patch=True))
    after = merging.merged(stored, patch)
    assert merging.applied(after, patch)
    assert ElementTree.tostring(merging.merged(after, patch)) == ElementTree.tostring(after)
    before, told = of_domain(stored), of_domain(after)
    assert (told.disks[0].source, told.disks[0].format, told.disks[0].serial) == ("/b", "qcow2", "S")
    assert told.disks[1:] == before.disks[1:]
    assert (told.interfaces[0].link, told.interfaces[0].source) == ("down", "default")
    assert told.interfaces[1:] == before.interfaces[1:]
    for path in ("metadata", "devices/hostdev", "devices/watchdog", "devices/tpm", "os/boot", "cpu", "seclabel"):
        assert after.find(path) is not None
    assert (after.findtext("memory"), after.findtext("vcpu")) == (str(3 * GIB >> 10), "4")


@pytest.mark.parametrize(
    ("change", "gone", "there"),
    [
        ({"firmware": s.FirmwareBoot()}, "os/kernel", "os/type"),
        ({"rng": False}, "devices/rng", "devices/serial"),
        ({"agent_channel": False}, "devices/channel", "devices/serial"),
        ({"tpm": False}, "devices/tpm", "devices/serial"),
        ({"kernel": s.KernelBoot(kernel="/new")}, "os/cmdline", "os/kernel"),
    ],
)
def test_what_is_taken_away(change: dict[str, Any], gone: str, there: str) -> None:
    """A no takes a device away; another way to boot takes the old one's place."""
    stored = made(s.DomainSpec(name="a", memory_bytes=GIB, tpm=True, kernel=s.KernelBoot(kernel="/k", cmdline="c")))
    assert stored.find(gone) is not None
    after = merging.merged(stored, domain_patch(s.DomainSpec(name="a", **change), UUID, KVM, new=False))
    assert after.find(gone) is None
    assert after.find(there) is not None


@settings(deadline=None)
@given(st.integers(1, 1 << 50), st.integers(1, 500), st.booleans())
def test_a_spec_said_again_changes_nothing(memory: int, vcpus: int, kernel: bool) -> None:
    """Merging a spec into the definition that was made of it leaves that as it is."""
    spec = s.DomainSpec(name="a", memory_bytes=memory, vcpus=vcpus, disks=[d.Disk(source=d.DiskSource(file="/a"))])
    spec.interfaces.add(network="default")
    if kernel:
        spec.kernel.kernel = "/k"
    first = made(spec)
    assert ElementTree.tostring(changed(first, spec)) == ElementTree.tostring(first)


def changed(stored: ElementTree.Element, spec: s.DomainSpec) -> ElementTree.Element:
    """A stored definition after a spec was merged into it, by what was read of it."""
    patch = domain_patch(spec, UUID, KVM, new=False, present=of_domain(stored))
    return merging.merged(stored, ElementTree.fromstring(finished(patch, "spec", patch=True)))


def test_an_overlay_takes_away_what_is_stored() -> None:
    """Marks of an overlay are about the domain as it is, not about what the rest of the spec says; removed and appended are both done."""
    stored = made(RICH)
    overlay = (
        "<domain xmlns:m='urn:virtrpc:merge:1'><devices><rng m:action='remove'/><watchdog m:action='replace' model='ib700'/>"
        "<serial type='pty' m:action='append'/><disk m:without='device'><target dev='vda'/></disk></devices></domain>"
    )
    spec = s.DomainSpec(name="web", title="T", xml_overlay=overlay)
    after = changed(stored, spec)
    assert after.findtext("title") == "T"
    assert [after.find(f"devices/{tag}") for tag in ("rng", "disk[@device='disk']/target[@dev='vda']/..")] == [None, None]
    assert [element.attrib for element in after.iterfind("devices/watchdog")] == [{"model": "ib700"}]
    assert len(after.findall("devices/serial")) == len(stored.findall("devices/serial")) + 1
    assert b"urn:virtrpc" not in ElementTree.tostring(after)


def test_disks_of_a_domain_that_exists() -> None:
    """Known by target they keep what is not said; without a target it is the one of that source, an open drive, or a further one: never another's."""
    stored = made(RICH)
    disks = {disk.target: disk for disk in of_domain(stored).disks}
    spec = s.DomainSpec(name="web")
    spec.disks.add(target="sda", source=d.DiskSource(file="/other.iso"))
    spec.disks.add(target="vda", cache="none")
    spec.disks.add(source=d.DiskSource(file="/data"))
    spec.disks.add(source=disk_message(disks["vdb"]).source, serial="B")
    after = {disk.target: disk for disk in of_domain(changed(stored, spec)).disks}
    assert (after["sda"].device, after["sda"].source, after["sda"].bus) == ("cdrom", "/other.iso", "sata")
    assert after["vda"] == replace(disks["vda"], cache="none")
    assert after["vdb"] == replace(disks["vdb"], serial="B")
    assert after.keys() - disks.keys() == {"vdd"}
    assert (after["vdd"].source, after["vdd"].bus) == ("/data", "virtio")
    drive = s.DomainSpec(name="web", disks=[d.Disk(device=d.DISK_DEVICE_CDROM)])
    assert of_domain(changed(stored, drive)).disks == tuple(disks.values())


def test_disks_that_nobody_has_read() -> None:
    """Where the disks of a domain that exists are not known, one without a target is refused: it could replace another."""
    entry = Entry(host="h", uuid=UUID, name="a", generation=1, seen=Stamp(0, 0.0, 0.0))
    spec = s.DomainSpec(name="a", disks=[d.Disk(source=d.DiskSource(file="/a"))])
    with pytest.raises(Refusal) as caught:
        definition.define(j.DefineDomainRequest(spec=spec), Place(KVM, entry))
    assert caught.value.problem.metadata["field"] == "spec.disks"
    spec.disks[0].target = "vda"
    assert definition.define(j.DefineDomainRequest(spec=spec), Place(KVM, entry)).merge


def test_a_screen_that_exists_keeps_its_port() -> None:
    """A word about its password is none about its port."""
    spec = s.DomainSpec(name="web", graphics=[d.Graphics(type=d.GRAPHICS_TYPE_SPICE, password="q")])
    stored = made(RICH)
    (before, after) = (root.find("devices/graphics[@type='spice']") for root in (stored, changed(stored, spec)))
    assert before is not None
    assert after is not None
    assert after.attrib == {**before.attrib, "passwd": "q"}


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"name": ""}, "spec.name"),
        ({"name": "a/b"}, "spec.name"),
        ({"memory_bytes": 0}, "spec.memory_bytes"),
        ({"memory_bytes": -1}, "spec.memory_bytes"),
        ({"vcpus": 0}, "spec.vcpus"),
        ({"vcpus": 4, "max_vcpus": 2}, "spec.max_vcpus"),
        ({"max_memory_bytes": 1}, "spec.max_memory_bytes"),
        ({"title": "a\nb"}, "spec.title"),
        ({"xml_overlay": "<domain><name>b</name></domain>"}, "spec.xml_overlay"),
        ({"xml_overlay": "<disk/>"}, "spec.xml_overlay"),
        ({"xml_overlay": f"<domain>{'<a/>' * 10_000}</domain>"}, "spec.xml_overlay"),
        ({"kernel": s.KernelBoot()}, "spec.kernel.kernel"),
        ({"firmware": s.FirmwareBoot(secure_boot=True)}, "spec.firmware.secure_boot"),
        ({"boot_devices": [0]}, "spec.boot_devices"),
        ({"boot_devices": [1], "disks": [d.Disk(source=d.DiskSource(file="/a"), boot_order=1)]}, "spec.boot_devices"),
        ({"disks": [d.Disk(source=d.DiskSource(file="/a")), d.Disk()]}, "spec.disks[1].source"),
    ],
)
def test_what_is_refused(fields: dict[str, Any], field: str) -> None:
    """What can be seen to be wrong is refused with the field's name."""
    with pytest.raises(Refusal) as caught:
        made(s.DomainSpec(**{"name": "a", "memory_bytes": GIB, **fields}))
    assert caught.value.problem.metadata["field"] == field


def test_replace_is_said_of_specs() -> None:
    """XML always replaces; a spec replaces on request, else it is merged."""
    at = Place(KVM)
    spec = s.DomainSpec(name="a", memory_bytes=GIB)
    assert definition.define(j.DefineDomainRequest(spec=spec), at).merge
    assert not definition.define(j.DefineDomainRequest(spec=spec, replace=True), at).merge
    with pytest.raises(Refusal):
        definition.define(j.DefineDomainRequest(xml="<domain><name>a</name></domain>", replace=True), at)


def test_passwords_are_not_kept() -> None:
    """What is stored of a job has no password of its XML."""
    kept = verbs.without_secrets(
        Define(uuid=UUID, name="a", xml="<domain><graphics type='vnc' passwd='a\"b' port='1'/><x passwd = \"c'd\"/></domain>")
    )
    assert isinstance(kept, Define)
    assert kept.xml == "<domain><graphics type='vnc' port='1'/><x/></domain>"
    cookies = "<cookies><cookie name='a'>{}</cookie><cookie name='b'>{}</cookie></cookies>"
    disk = verbs.without_secrets(AttachDevice(uuid=UUID, xml=cookies.format("sesame", "<![CDATA[sesame]]>")))
    assert isinstance(disk, AttachDevice)
    assert disk.xml == cookies.format("", "")


def test_what_a_host_has() -> None:
    """KVM where the host has it; a domain's own type and processor."""
    kvm = HostInfo(uri="qemu:///system", hypervisor="QEMU", capabilities_xml="<guest><arch><domain type='kvm'/></arch></guest>")
    assert site_of_host(kvm) == Site("kvm")
    assert site_of_host(HostInfo(uri="qemu:///system", hypervisor="qemu")) == Site("qemu")
    assert site_of_host(HostInfo(uri="esx://x", hypervisor="esx")) == Site("vmware")
    assert site_of_xml("<domain id='1' type='xen'><os><type arch='x86_64'>hvm</type></os></domain>") == Site("xen", "x86_64")
