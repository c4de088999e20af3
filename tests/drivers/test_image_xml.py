"""Which files the XML of snapshots, copies and backups may name."""

from pathlib import Path

import pytest

from virtrpc_drivers import image_xml, paths
from virtrpc_drivers import operations as ops
from virtrpc_drivers.errors import DriverError, Reason

SOCKET = "<source protocol='nbd' name='x'><host transport='unix' socket='/s'/></source>"
DISKS = {
    "domainsnapshot": "<domainsnapshot><disks>{}</disks></domainsnapshot>",
    "domainbackup": "<domainbackup><disks>{}</disks></domainbackup>",
    "disk": "{}",
}


@pytest.mark.parametrize(
    ("root", "xml", "named"),
    [
        ("domainsnapshot", "<domainsnapshot/>", []),
        ("domainsnapshot", "<domainsnapshot><memory file='/a'/><memory snapshot='external' file='/b'/></domainsnapshot>", ["/a", "/b"]),
        (
            "domainsnapshot",
            "<domainsnapshot><disks><disk name='vda'><source file='/a' dev='/b' dir='/c'/></disk></disks></domainsnapshot>",
            ["/a", "/b", "/c"],
        ),
        ("domainsnapshot", "<domainsnapshot><disks/><disks><disk><x><source file='/n'/></x></disk></disks></domainsnapshot>", ["/n"]),
        ("domainsnapshot", "<domainsnapshot><evil><source file='relative'/></evil></domainsnapshot>", ["relative"]),
        (
            "domainsnapshot",
            "<domainsnapshot><domain><x file='/own' xmlns='u'/></domain><inactiveDomain><host/></inactiveDomain></domainsnapshot>",
            [],
        ),
        ("disk", "<disk type='block'><driver type='qcow2'/><source dev='/b'/><target dev='vda' bus='virtio'/></disk>", ["/b"]),
        ("disk", "<disk><source file='/a'><config file='/c'/><reservations><source path='/p'/></reservations></source></disk>", ["/a", "/c", "/p"]),
        ("disk", "<disk><source file='/a'/><backingStore type='file'><source file='/b'/></backingStore></disk>", ["/a", "/b"]),
        ("disk", "<disk><source><identity keyfile='/k' agentsock='/g'/></source></disk>", ["/k", "/g"]),
        ("disk", "<disk><source file=''><target dev='/t'/></source></disk>", ["", "/t"]),
        ("domainbackup", "<domainbackup mode='pull'><server transport='unix' socket='/s'/></domainbackup>", ["/s"]),
        ("domainbackup", "<domainbackup mode='pull'><server name='localhost' port='1'/></domainbackup>", []),
        (
            "domainbackup",
            "<domainbackup><disks><disk name='vda'><target dev='/t' file='/f'/><scratch file='/c'/></disk></disks></domainbackup>",
            ["/f", "/t", "/c"],
        ),
    ],
)
def test_files(root: str, xml: str, named: list[str]) -> None:
    """Every file, device and socket is named, wherever it stands; not what says where a disk is in the guest, nor what libvirt does not read."""
    assert list(image_xml.files(xml, root)) == named


@pytest.mark.parametrize("root", sorted(DISKS))
@pytest.mark.parametrize(
    "disk",
    [
        f"<disk type='network'>{SOCKET}</disk>",
        f"<disk type='file'>{SOCKET}</disk>",
        "<disk type='network'><source protocol='rbd' name='x'/></disk>",
        "<disk type='volume'><source pool='p' volume='v'/></disk>",
        "<disk type='vhostuser'><source type='unix' path='/images/s'/></disk>",
        "<disk type='nvme'><source type='pci' namespace='1'/></disk>",
        "<disk><source file='/images/a'/><backingStore type='network'/></disk>",
    ],
)
def test_what_is_no_file_of_the_host(root: str, disk: str) -> None:
    """Networks, pools and devices that are not block devices are PATH_NOT_ALLOWED, and the message says what to name instead."""
    with pytest.raises(DriverError, match="name a file or block device below") as caught:
        image_xml.files(DISKS[root].format(disk), root)
    assert caught.value.reason is Reason.PATH_NOT_ALLOWED


@pytest.mark.parametrize(
    ("root", "disk"),
    [
        ("domainsnapshot", "<evil name='vda' snapshot='external'><source file='/images/a'/></evil>"),
        ("domainbackup", "<evil name='vda'><target file='/images/a'/></evil>"),
        ("domainbackup", "<x:disk xmlns:x='u' name='vda'/>"),
        ("disk", "<disk><source xmlns:x='u' x:file='/etc/a' file='/images/a'/></disk>"),
        ("disk", "<disk><x:source xmlns:x='u' file='/images/a'/></disk>"),
        ("disk", "<wrong/>"),
    ],
)
def test_what_could_be_read_in_two_ways(root: str, disk: str) -> None:
    """A child of <disks> that is no <disk>, and names with a namespace, are XML_INVALID: libvirt takes for a disk what others do not."""
    with pytest.raises(DriverError) as caught:
        image_xml.files(DISKS[root].format(disk), root)
    assert caught.value.reason is Reason.XML_INVALID


def test_operations_name_all_their_files() -> None:
    """Snapshots, copies and backups are looked through."""
    disk, pull = "<disk><source file='/a'><config file='/b'/></source></disk>", "<domainbackup><server socket='/s'/></domainbackup>"
    assert ops.CreateSnapshot(uuid="u", name="s", xml=DISKS["domainsnapshot"].format(disk)).files == ("/a", "/b")
    assert ops.CopyBlock(uuid="u", disk="vda", xml=disk).files == ("/a", "/b")
    assert ops.Backup(uuid="u", xml=pull).files == ("/s",)


def test_files_stay_below_the_roots(tmp_path: Path) -> None:
    """On this machine links are resolved before a path is judged."""
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (root / "link").symlink_to(outside)
    paths.check([f"{root}/new.qcow2"], [str(root)], local=True)
    for path in (f"{root}/link/x", f"{root}/../outside/x", f"{outside}/x", "relative", "", str(root)):
        with pytest.raises(DriverError) as caught:
            paths.check([path], [str(root)], local=True)
        assert caught.value.reason is Reason.PATH_NOT_ALLOWED
    with pytest.raises(DriverError):
        paths.check([f"{root}/new.qcow2"], [], local=True)


def test_files_of_another_machine() -> None:
    """There only the text can be judged, and it must not climb."""
    paths.check(["/images/a/b"], ["/images"], local=False)
    for path in ("/images/../etc/x", "/imagesx/a", "/etc/x"):
        with pytest.raises(DriverError):
            paths.check([path], ["/images"], local=False)
