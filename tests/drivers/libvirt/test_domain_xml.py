"""Reading domain and snapshot XML."""

import pytest

from virtrpc_drivers.device_xml import devices
from virtrpc_drivers.errors import DriverError, Reason
from virtrpc_drivers.libvirt import domain_xml

LIVE = """
<domain type='qemu' id='3'>
  <name>a</name>
  <memory unit='KiB'>2097152</memory><currentMemory unit='KiB'>1048576</currentMemory>
  <vcpu placement='static' current='1'>4</vcpu>
  <os><type arch='x86_64'>hvm</type></os>
  <devices>
    <disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='/d/a.qcow2' index='1'/><target dev='vda' bus='virtio'/>
      <alias name='virtio-disk0'/></disk>
    <disk type='network' device='disk'><source protocol='rbd' name='pool/b'/><target dev='vdb' bus='virtio'/><alias name='ua-b'/></disk>
    <disk type='file' device='cdrom'><target dev='sda' bus='sata'/><alias name='sata0-0-0'/></disk>
    <interface type='network'><mac address='52:54:00:AA:00:01'/><source network='default'/><target dev='vnet0'/><alias name='net0'/></interface>
    <hostdev mode='subsystem' type='pci'><source><address domain='0x0000' bus='0x01' slot='0x00'/></source><alias name='hostdev0'/></hostdev>
    <hostdev mode='subsystem' type='pci'><source><address domain='0x0000' bus='0x02' slot='0x00'/></source><alias name='hostdev1'/></hostdev>
    <rng model='virtio'><backend model='random'>/dev/urandom</backend><alias name='rng0'/></rng>
  </devices>
</domain>"""


def test_sizes_are_bytes() -> None:
    """Memory in bytes, virtual CPUs now and at most."""
    assert domain_xml.sizes(LIVE) == domain_xml.Sizes(
        os_type="hvm", memory_bytes=1 << 30, max_memory_bytes=2 << 30, vcpus=1, vcpus_maximum=4, domain_type="qemu"
    )


def test_disks_and_interfaces() -> None:
    """Targets, sources and aliases as the running guest has them."""
    assert [(disk.target, disk.source, disk.device, disk.alias) for disk in devices(LIVE).disks] == [
        ("vda", "/d/a.qcow2", "disk", "virtio-disk0"),
        ("vdb", "pool/b", "disk", "ua-b"),
        ("sda", None, "cdrom", "sata0-0-0"),
    ]
    (nic,) = devices(LIVE).interfaces
    assert (nic.mac, nic.target, nic.source, nic.alias) == ("52:54:00:AA:00:01", "vnet0", "default", "net0")


@pytest.mark.parametrize(
    ("device", "alias"),
    [
        ("<disk type='file'><target dev='vda'/></disk>", "virtio-disk0"),
        ("<disk><alias name='ua-b'/><target dev='vdz'/></disk>", "ua-b"),
        ("<disk><target dev='vdz'/></disk>", None),
        ("<interface><mac address='52:54:00:aa:00:01'/></interface>", "net0"),
        ("<hostdev mode='subsystem'><source><address bus='0x02'/></source></hostdev>", "hostdev1"),
        ("<rng model='virtio'/>", "rng0"),
        ("<rng model='virtio-transitional'/>", None),
        ("<watchdog/>", None),
    ],
)
def test_the_device_that_is_meant(device: str, alias: str | None) -> None:
    """A device is found by what libvirt goes by, else by all that its XML says."""
    assert domain_xml.alias_of(LIVE, device) == alias


@pytest.mark.parametrize(
    ("part", "held"),
    [
        ("<domain><memory unit='GiB'>2</memory></domain>", True),
        ("<domain><memory unit='GiB'>3</memory></domain>", False),
        ("<domain><devices><disk><target dev='vdb'/></disk></devices></domain>", True),
        ("<domain><devices><disk><target dev='vdb' bus='sata'/></disk></devices></domain>", False),
        ("<domain><name>b</name></domain>", False),
    ],
)
def test_a_definition_that_shows_what_was_sent(part: str, held: bool) -> None:
    """Everything that was sent stands in what is stored; what libvirt added does not matter."""
    assert domain_xml.contains(domain_xml.element(LIVE), domain_xml.element(part)) is held


def test_secrets_are_hidden() -> None:
    """The migratable form carries passwords and cookies: neither stays, and nothing else changes."""
    text = "<graphics type='vnc' passwd='a&gt;b' port='-1'><listen/></graphics><cookies><cookie name='c'>d</cookie></cookies>"
    hidden = "<graphics type='vnc' passwd='*****' port='-1'><listen/></graphics><cookies><cookie name='c'>*****</cookie></cookies>"
    assert domain_xml.without_secrets(text) == hidden
    assert domain_xml.without_secrets(LIVE) == LIVE


def test_entities_are_refused() -> None:
    """What a caller wrote is parsed without entities."""
    with pytest.raises(DriverError) as caught:
        domain_xml.alias_of(LIVE, "<!DOCTYPE d [<!ENTITY e 'x'>]><disk>&e;</disk>")
    assert caught.value.reason is Reason.XML_INVALID
