"""Typed devices: to XML, and back out of it."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from virtrpc.v1 import devices_pb2 as d
from virtrpc_drivers import device_xml, merging
from virtrpc_server.errors import Refusal
from virtrpc_server.messages.devices import disk_message, graphics_message, interface_message
from virtrpc_server.specs.build import Site, finished
from virtrpc_server.specs.disk import changed_disk, new_disk
from virtrpc_server.specs.graphics import changed_graphics, new_graphics
from virtrpc_server.specs.interface import changed_interface, new_interface

SITE = Site("kvm")
WORDS = st.text(st.characters(exclude_categories=["C"], exclude_characters="\ufffe\uffff"), min_size=1, max_size=12).filter(
    lambda word: word.strip() == word
)
NUMBERS = st.integers(1, 1 << 40)


def some(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Some of these fields."""
    return st.fixed_dictionaries({}, optional=fields)


HOSTS = some(name=WORDS, port=st.integers(1, 65535), transport=WORDS, socket=WORDS).map(lambda fields: d.NetworkDiskHost(**fields))
SOURCES = st.one_of(
    WORDS.map(lambda word: d.DiskSource(file=word)),
    WORDS.map(lambda word: d.DiskSource(block=word)),
    st.builds(lambda pool, volume: d.DiskSource(volume=d.VolumeDisk(pool=pool, volume=volume)), WORDS, WORDS),
    st.builds(lambda name, hosts: d.DiskSource(network=d.NetworkDisk(protocol="nbd", name=name, hosts=hosts)), WORDS, st.lists(HOSTS, max_size=3)),
    st.just(d.DiskSource(empty=d.EmptyDisk())),
)
LIMITS = some(total_bytes_per_second=NUMBERS, read_operations_per_second=NUMBERS).filter(bool).map(lambda fields: d.DiskLimits(**fields))
DISKS = st.builds(
    lambda source, device, target, rest: d.Disk(source=source, device=device, target=target, readonly=False, shareable=False, **rest)
    if "readonly" not in rest
    else d.Disk(source=source, device=device, target=target, shareable=False, **rest),
    SOURCES,
    st.sampled_from([d.DISK_DEVICE_DISK, d.DISK_DEVICE_CDROM, d.DISK_DEVICE_LUN]),
    WORDS,
    some(
        format=WORDS, bus=WORDS, readonly=st.booleans(), serial=WORDS, cache=WORDS, io=WORDS, discard=WORDS, boot_order=st.integers(1, 9),
        limits=LIMITS,
    ),
)  # fmt: skip
ENDS = st.one_of(
    WORDS.map(lambda word: {"network": word}),
    WORDS.map(lambda word: {"bridge": word}),
    st.builds(lambda device, mode: {"direct": d.DirectInterface(device=device, mode=mode)}, WORDS, WORDS),
    st.just({"user": d.UserInterface()}),
    st.just({"ethernet": d.EthernetInterface()}),
)
INTERFACES = st.builds(
    lambda end, rest: d.Interface(**end, **rest),
    ENDS,
    some(
        mac=WORDS, model=WORDS, target=WORDS, mtu_bytes=NUMBERS, link_state=st.sampled_from([d.LINK_STATE_UP, d.LINK_STATE_DOWN]),
        vlan_id=st.integers(1, 4094), boot_order=st.integers(1, 9),
    ),
)  # fmt: skip


def element(xml: str) -> ElementTree.Element:
    """The XML, parsed."""
    return ElementTree.fromstring(xml)


@settings(deadline=None)
@given(DISKS)
def test_a_disk_there_and_back(disk: d.Disk) -> None:
    """What is said of a disk stands in its XML, and is told of it."""
    told = disk_message(device_xml.disk(element(finished(new_disk(disk, SITE, set(), "disk"), "disk", patch=False))))
    assert told == disk


@settings(deadline=None)
@given(INTERFACES)
def test_an_interface_there_and_back(interface: d.Interface) -> None:
    """What is said of an interface stands in its XML, and is told of it."""
    told = interface_message(device_xml.interface(element(finished(new_interface(interface, "i"), "i", patch=False))))
    assert told == interface


@pytest.mark.parametrize(
    "graphics",
    [
        d.Graphics(type=d.GRAPHICS_TYPE_VNC, listen_address="0.0.0.0"),
        d.Graphics(type=d.GRAPHICS_TYPE_SPICE, port=5901, tls_port=5902),
        d.Graphics(type=d.GRAPHICS_TYPE_VNC, socket="/run/vnc"),
    ],
)
def test_a_screen_there_and_back(graphics: d.Graphics) -> None:
    """What is said of a screen stands in its XML, and is told of it."""
    assert graphics_message(device_xml.graphics(new_graphics(graphics, "g"))) == graphics


def test_a_password_is_sent_and_never_told() -> None:
    """It stands in the XML that goes to the hypervisor alone."""
    element = new_graphics(d.Graphics(type=d.GRAPHICS_TYPE_VNC, password='p"<'), "g")
    assert element.get("passwd") == 'p"<'
    assert graphics_message(device_xml.graphics(element)).password == ""


@settings(deadline=None)
@given(DISKS, DISKS)
def test_a_change_keeps_what_it_does_not_say(before: d.Disk, change: d.Disk) -> None:
    """A change is what is told afterwards, where it says something; what no typed form says is there as it was."""
    change.target, change.alias = before.target, "virtio-disk0"
    base = new_disk(before, SITE, set(), "disk")
    base.extend([ElementTree.Element("address", type="pci", slot="0x07"), ElementTree.Element("encryption", format="luks")])
    ElementTree.SubElement(base, "alias", name="virtio-disk0")
    patch = element(finished(changed_disk(change, "disk"), "disk", patch=True))
    after = merging.merged(merging.plain(base), patch)
    told = disk_message(device_xml.disk(after))
    wanted = d.Disk()
    wanted.CopyFrom(before)
    wanted.ClearField("source")
    wanted.MergeFrom(change)
    here, there = base.find("source"), patch.find("source")
    if here is not None and there is not None and base.get("type") == patch.get("type") and merging.applied(here, there):
        # It names the same place, and fewer of its hosts: those stay.
        wanted.source.CopyFrom(before.source)
    assert told == wanted
    assert [(child.tag, child.attrib) for child in after if child.tag in ("address", "encryption")] == [
        ("address", {"type": "pci", "slot": "0x07"}),
        ("encryption", {"format": "luks"}),
    ]


def test_targets_are_given_in_order() -> None:
    """The first free name of the bus, after z comes aa."""
    taken = {f"vd{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"} - {"vdc"}
    names = [new_disk(d.Disk(source=d.DiskSource(file="/a")), SITE, taken, "d").find("target[@bus='virtio']") for _ in range(3)]
    assert [name.get("dev") for name in names if name is not None] == ["vdc", "vdaa", "vdab"]


@pytest.mark.parametrize(
    ("site", "device", "target", "bus"),
    [
        (Site("kvm"), d.DISK_DEVICE_CDROM, "sda", "sata"),
        (Site("qemu", "aarch64"), d.DISK_DEVICE_CDROM, "sda", "scsi"),
        (Site("kvm"), d.DISK_DEVICE_FLOPPY, "fda", "fdc"),
        (Site("xen"), d.DISK_DEVICE_DISK, "xvda", "xen"),
        (Site("vmware"), d.DISK_DEVICE_CDROM, "sda", "scsi"),
    ],
)
def test_a_new_disk_is_connected_as_is_usual(site: Site, device: d.DiskDevice.ValueType, target: str, bus: str) -> None:
    """By the hypervisor and the kind of disk."""
    found = new_disk(d.Disk(device=device, source=d.DiskSource(file="/a")), site, set(), "d").find("target")
    assert found is not None
    assert found.attrib == {"dev": target, "bus": bus}


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: new_disk(d.Disk(), SITE, set(), "disk"), "disk.source"),
        (lambda: new_disk(d.Disk(source=d.DiskSource(other="nvme")), SITE, set(), "disk"), "disk.source.other"),
        (lambda: new_disk(d.Disk(source=d.DiskSource(file="")), SITE, set(), "disk"), "disk.source.file"),
        (lambda: new_disk(d.Disk(source=d.DiskSource(file="/a"), target="vda"), SITE, {"vda"}, "disk"), "disk.target"),
        (lambda: new_disk(d.Disk(source=d.DiskSource(file="/a"), boot_order=0), SITE, set(), "disk"), "disk.boot_order"),
        (lambda: changed_disk(d.Disk(readonly=True), "disk"), "disk.target"),
        (lambda: changed_disk(d.Disk(target="a", limits=d.DiskLimits(read_bytes_per_second=-1)), "disk"), "disk.limits.read_bytes_per_second"),
        (lambda: new_interface(d.Interface(), "i"), "i.source"),
        (lambda: new_interface(d.Interface(other="vdpa"), "i"), "i.other"),
        (lambda: changed_interface(d.Interface(vlan_id=4095), "i"), "i.vlan_id"),
        (lambda: changed_interface(d.Interface(bridge=""), "i"), "i.bridge"),
        (lambda: new_graphics(d.Graphics(), "g"), "g.type"),
        (lambda: changed_graphics(d.Graphics(type=d.GRAPHICS_TYPE_VNC, port=0), "g"), "g.port"),
        (lambda: finished(new_interface(d.Interface(network="\x01"), "i"), "i", patch=False), "i"),
    ],
)
def test_what_is_refused(make: Any, field: str) -> None:
    """What can be seen to be wrong is refused with the field's name."""
    with pytest.raises(Refusal) as caught:
        make()
    assert caught.value.problem.metadata["field"] == field
