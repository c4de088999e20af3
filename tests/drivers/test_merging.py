"""Merging one XML description into another."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from virtrpc_drivers.merging import ANY_DEVICE, applied, device, followed, meaning, merged, merged_text, plain

M = 'xmlns:m="urn:virtrpc:merge:1"'
DOMAIN = """<domain type='kvm'><name>a</name><memory unit='KiB'>1024</memory>
<os firmware='efi'><type>hvm</type><boot dev='hd'/><boot dev='network'/></os>
<cpu mode='custom'><model>Nehalem</model><topology cores='2'/></cpu><devices>
<disk type='file' device='disk'><driver name='qemu' type='raw' queues='4'/><source file='/a'><seclabel model='dac'/></source>
<backingStore type='file'><source file='/base'/></backingStore><target dev='vda' bus='virtio'/>
<alias name='virtio-disk0'/><address type='pci'/></disk>
<disk type='file' device='cdrom'><source file='/cd'/><target dev='sda' bus='sata'/><readonly/></disk>
<interface type='network'><mac address='52:54:00:00:00:01'/><source network='n'/><filterref filter='f'/></interface>
<interface type='bridge'><mac address='52:54:00:00:00:02'/><source bridge='b'/></interface>
<graphics type='vnc' port='5900' passwd='p'/><rng model='virtio'/></devices></domain>"""


def root() -> ElementTree.Element:
    """The domain, parsed."""
    return ElementTree.fromstring(DOMAIN)


def after(patch: str) -> ElementTree.Element:
    """The domain with this in its devices; what was merged is there afterwards, and merging it once more changes nothing."""
    wanted = ElementTree.fromstring(f"<domain {M}><devices>{patch}</devices></domain>")
    result = merged(root(), wanted)
    assert applied(result, wanted) or "append" in patch or "m:action='replace'" in patch
    if "append" not in patch:
        assert ElementTree.tostring(merged(result, wanted)) == ElementTree.tostring(result)
    return result


def test_what_is_not_said_stays() -> None:
    """One attribute of one disk is changed, found by its target; all else is as it was."""
    result = after("<disk><target dev='vda'/><driver cache='none'/></disk>")
    disk = result.find("devices/disk")
    assert disk is not None
    driver = disk.find("driver")
    assert driver is not None
    assert driver.attrib == {"name": "qemu", "type": "raw", "queues": "4", "cache": "none"}
    driver.attrib.pop("cache")
    assert ElementTree.tostring(result) == ElementTree.tostring(root())


def test_another_source_replaces_the_old_one() -> None:
    """With what was known of its backing chain and its labels; the same source stays as it is."""
    disk = after("<disk type='block'><target dev='vda'/><source dev='/dev/b'/></disk>").find("devices/disk")
    assert disk is not None
    assert (disk.get("type"), disk.find("backingStore"), disk.find("source/seclabel"), disk.find("source[@file]")) == ("block", None, None, None)
    assert disk.find("source[@dev='/dev/b']") is not None
    same = after("<disk type='file'><target dev='vda'/><source file='/a'/></disk>").find("devices/disk")
    assert same is not None
    assert same.find("source/seclabel") is not None
    assert same.find("backingStore") is not None


@pytest.mark.parametrize(
    ("patch", "path", "count"),
    [
        ("<interface><mac address='52:54:00:00:00:02'/><link state='down'/></interface>", "interface[2]/link", 1),
        ("<interface><link state='down'/></interface>", "interface[1]/link", 1),
        ("<interface/><interface/><interface type='user'/>", "interface[3][@type='user']", 1),
        ("<interface type='user' m:action='append'/>", "interface[3][@type='user']", 1),
        ("<disk><target dev='vdb'/></disk>", "disk", 3),
        ("<disk m:action='remove'><target dev='vda'/></disk>", "disk", 1),
        ("<disk><target dev='sda'/><source m:action='remove'/></disk>", "disk[2]/source", 0),
        ("<disk><target dev='sda'/><readonly m:action='remove'/></disk>", "disk[2]/readonly", 0),
        ("<graphics type='vnc' m:without='passwd'/>", "graphics[@passwd]", 0),
        ("<graphics type='spice'/>", "graphics", 2),
        ("<rng><rate bytes='5'/></rng>", "rng[@model='virtio']/rate", 1),
        ("<rng m:action='replace'><rate bytes='5'/></rng>", "rng[@model='virtio']", 0),
        ("<hostdev><source><address bus='1'/></source></hostdev><hostdev><source><address bus='2'/></source></hostdev>", "hostdev", 2),
    ],
)
def test_which_one_is_meant(patch: str, path: str, count: int) -> None:
    """By what it is known by, else by its place; what matches nothing is added; marks remove, replace and append."""
    assert len(after(patch).findall(f"devices/{path}")) == count


def test_lists_and_modes_are_said_anew() -> None:
    """Boot devices are a list; a CPU of another mode loses its model and keeps its topology."""
    patch = ElementTree.fromstring("<domain><os><boot dev='cdrom'/></os><cpu mode='host-passthrough'/></domain>")
    result = merged(root(), patch)
    assert [boot.get("dev") for boot in result.iterfind("os/boot")] == ["cdrom"]
    assert result.find("cpu/model") is None
    assert result.find("cpu/topology") is not None
    assert applied(result, patch)
    assert not applied(root(), patch)


def test_marks_do_not_stay() -> None:
    """A patch on its own has neither marks nor what it would remove."""
    alone = plain(ElementTree.fromstring(f"<disk {M} m:without='x'><source m:action='remove'/><target m:action='append' dev='a'/></disk>"))
    assert ElementTree.tostring(alone) == b'<disk><target dev="a" /></disk>'


def test_metadata_stays_to_the_letter() -> None:
    """What applications wrote keeps its comments and prefixes, unless the patch speaks of it or a prefix is the whole document's."""
    inside = "<metadata><app:x xmlns:app='urn:a' t='app:T'><!-- kept --><y>a &gt; b</y></app:x></metadata>"
    base = f"<domain xmlns:out='urn:o'><title>a</title>{inside}</domain>"
    patch = ElementTree.fromstring("<domain><title>b</title></domain>")
    assert merged_text(base, patch).endswith(f"<title>b</title>{inside}</domain>")
    outer = base.replace("<y>", "<out:y/><y>")
    said = ElementTree.fromstring("<domain><metadata><z/></metadata></domain>")
    for text, change in ((outer, patch), (base, said), ("<domain><metadata/></domain>", patch)):
        assert ElementTree.canonicalize(merged_text(text, change)) == ElementTree.canonicalize(
            ElementTree.tostring(merged(ElementTree.fromstring(text), change), encoding="unicode")
        )


def test_one_patch_after_another() -> None:
    """The later one is about what there is once the earlier one was merged; both are seen to be applied, and alone they make one description."""
    first = ElementTree.fromstring("<domain><title>t</title><devices><disk><target dev='vda'/><driver cache='none'/></disk></devices></domain>")
    later = f"<domain {M}><devices><rng m:action='remove'/><disk><target dev='vda'/><driver cache='unsafe'/></disk><new/></devices></domain>"
    both = ElementTree.fromstring(ElementTree.tostring(followed(first, ElementTree.fromstring(later))))
    result = merged(root(), both)
    assert (result.findtext("title"), result.find("devices/rng"), len(result.findall("devices/new"))) == ("t", None, 1)
    assert [driver.get("cache") for driver in result.iterfind("devices/disk/driver")] == ["unsafe"]
    assert applied(result, both)
    assert not applied(merged(root(), first), both)
    assert ElementTree.tostring(plain(both)) == ElementTree.tostring(merged(first, ElementTree.fromstring(later)))


def test_what_is_meant_is_told_without_secrets() -> None:
    """The words for people name the device, and nothing else."""
    words = [meaning(ElementTree.fromstring(f"<{patch}/>")) for patch in ("graphics type='vnc' passwd='p4ss'", "interface")]
    assert words == ["vnc graphics, or several, and none is named", "interface, or several, and none is named"]
    assert meaning(ElementTree.fromstring("<disk><target dev='vdb'/></disk>")) == "disk vdb"


@pytest.mark.parametrize(
    ("patch", "found"),
    [
        ("<disk><target dev='sda'/></disk>", "cdrom"),
        ("<disk><alias name='virtio-disk0'/></disk>", "disk"),
        ("<disk><alias name='gone'/><target dev='sda'/></disk>", "cdrom"),
        ("<interface><mac address='52:54:00:00:00:0A'/></interface>", None),
        ("<interface/>", None),
        ("<rng/>", None),
        (f"<{ANY_DEVICE}><alias name='virtio-disk0'/></{ANY_DEVICE}>", "disk"),
    ],
)
def test_one_device(patch: str, found: str | None) -> None:
    """By alias, target or MAC; one of several that says nothing is none."""
    devices = root().find("devices")
    assert devices is not None
    meant = device(devices, ElementTree.fromstring(patch))
    assert (None if meant is None else meant.get("device")) == found
