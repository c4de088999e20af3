"""Devices out of XML, as values."""

from __future__ import annotations

from virtrpc_drivers.device_xml import devices
from virtrpc_drivers.values import DiskConfig, DiskPlace, GraphicsConfig, InterfaceConfig, NetworkHost

DOMAIN = """
<domain type='kvm' id='3'><devices>
  <disk type='file' device='disk'><driver name='qemu' type='qcow2' cache='none' io='native' discard='unmap'/>
    <source file='/d/a.qcow2' index='2'/>
    <backingStore type='file' index='3'><format type='raw'/><source file='/d/base.img'/><backingStore/></backingStore>
    <target dev='vda' bus='virtio'/><iotune><total_bytes_sec>1000</total_bytes_sec><total_iops_sec>5</total_iops_sec></iotune>
    <shareable/><serial>S1</serial><boot order='1'/><alias name='virtio-disk0'/></disk>
  <disk type='network' device='disk'><source protocol='nbd' name='x'><host name='h' port='10809'/></source><target dev='vdb' bus='virtio'/></disk>
  <disk type='volume' device='lun'><source pool='p' volume='v'/><target dev='sdb' bus='scsi'/></disk>
  <disk type='file' device='cdrom'><target dev='sda' bus='sata'/><readonly/></disk>
  <interface type='direct'><mac address='52:54:00:00:00:01'/><source dev='eth0' mode='bridge'/><target dev='macvtap0'/><model type='virtio'/>
    <mtu size='9000'/><link state='down'/><vlan><tag id='42'/></vlan><boot order='2'/><alias name='net0'/></interface>
  <interface type='bridge'><mac address='52:54:00:00:00:02'/><source bridge='br0'/><vlan trunk='yes'><tag id='1'/><tag id='2'/></vlan></interface>
  <graphics type='vnc' port='5900' autoport='yes' listen='127.0.0.1' passwd='secret'><listen type='address' address='127.0.0.1'/></graphics>
  <graphics type='spice' autoport='yes' port='-1'><listen type='socket' socket='/run/s'/></graphics>
</devices></domain>"""


def test_disks() -> None:
    """Where a disk's content is, how it is connected, what lies behind it."""
    export = DiskPlace(kind="network", name="x", protocol="nbd", hosts=(NetworkHost(name="h", port=10809),))
    base = DiskPlace(kind="file", name="/d/base.img", format="raw")
    assert devices(DOMAIN).disks == (
        DiskConfig(
            target="vda", source="/d/a.qcow2", alias="virtio-disk0", place=DiskPlace(kind="file", name="/d/a.qcow2"), format="qcow2", bus="virtio",
            shareable=True, serial="S1", cache="none", io="native", discard="unmap", boot_order=1,
            limits={"total_bytes_sec": 1000, "total_iops_sec": 5}, backing_chain=(base,),
        ),
        DiskConfig(target="vdb", source="x", bus="virtio", place=export),
        DiskConfig(target="sdb", source="v", device="lun", bus="scsi", place=DiskPlace(kind="volume", name="v", pool="p")),
        DiskConfig(target="sda", device="cdrom", bus="sata", readonly=True),
    )  # fmt: skip


def test_interfaces() -> None:
    """What an interface is connected to; several VLANs have no typed form."""
    assert devices(DOMAIN).interfaces == (
        InterfaceConfig(
            mac="52:54:00:00:00:01", target="macvtap0", source="eth0", alias="net0", kind="direct", mode="bridge", model="virtio",
            mtu_bytes=9000, link="down", vlan_id=42, boot_order=2,
        ),
        InterfaceConfig(mac="52:54:00:00:00:02", source="br0", kind="bridge"),
    )  # fmt: skip


def test_graphics() -> None:
    """Where a screen listens, never its password; a port that is chosen at the start is none yet."""
    assert devices(DOMAIN).graphics == (
        GraphicsConfig(kind="vnc", listen_address="127.0.0.1", port=5900),
        GraphicsConfig(kind="spice", socket="/run/s"),
    )


def test_a_long_chain_is_cut() -> None:
    """A backing chain that nests on and on is told in part."""
    link = "<backingStore type='file'><source file='/x'/>"
    deep = f"<domain><devices><disk><source file='/a'/><target dev='a'/>{link * 200}{'</backingStore>' * 200}</disk></devices></domain>"
    assert len(devices(deep).disks[0].backing_chain) == 64


def test_numbers_that_no_field_holds() -> None:
    """They are unset, and the rest is told."""
    huge = "9" * 30
    found = devices(DOMAIN.replace("5900", huge).replace("9000", huge).replace("order='1'", f"order='{huge}'").replace(">1000<", f">{huge}<"))
    assert (found.graphics[0].port, found.interfaces[0].mtu_bytes, found.disks[0].boot_order) == (None, None, None)
    assert found.disks[0].limits == {"total_iops_sec": 5}
