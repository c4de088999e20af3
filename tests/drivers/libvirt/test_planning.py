"""What stands in the way of a migration, as a definition shows it."""

from __future__ import annotations

from pathlib import Path
from xml.etree.ElementTree import fromstring

import pytest

from virtrpc_drivers.libvirt.planning import _devices, _filesystem, _in_the_way, _storage
from virtrpc_drivers.operations import Migrate

DISK = "<disk type='{type}' device='{device}'><driver cache='{cache}'/><source file='/nowhere/disk'/><target dev='vda'/>{more}</disk>"


def domain(device: str) -> str:
    return f"<domain><devices>{device}</devices></domain>"


@pytest.mark.parametrize(
    ("device", "fatal"),
    [
        ("<hostdev mode='subsys' type='pci'/>", [True]),
        ("<hostdev mode='subsys' type='mdev'/>", [True]),
        ("<hostdev mode='capabilities'/>", [True]),
        ("<hostdev mode='subsys' type='usb'/>", [False]),
        ("<hostdev mode='subsys' type='pci'><teaming type='transient' persistent='x'/></hostdev>", [False]),
        ("<interface type='hostdev'/>", [True]),
        ("<interface type='network'/>", []),
        ("<filesystem><driver type='virtiofs'/></filesystem>", [True]),
        ("<filesystem/>", [False]),
        ("<shmem name='x' role='peer'/>", [True]),
        ("<shmem name='x' role='master'/>", []),
    ],
)
def test_devices(device: str, fatal: list[bool]) -> None:
    """What belongs to the host stays there, and libvirt refuses most of it."""
    assert [found.fatal for found in _devices(fromstring(domain(device)))] == fatal


@pytest.mark.parametrize(
    ("disk", "settings", "fatal"),
    [
        (DISK.format(type="file", device="disk", cache="none", more=""), {}, []),
        (DISK.format(type="file", device="disk", cache="writeback", more=""), {}, [True]),
        (DISK.format(type="file", device="disk", cache="writeback", more=""), {"unsafe": True}, [False]),
        (DISK.format(type="file", device="disk", cache="writeback", more=""), {"storage": "all"}, []),
        (DISK.format(type="file", device="disk", cache="writeback", more=""), {"storage": "all", "disks": ("vdb",)}, [True]),
        (DISK.format(type="file", device="disk", cache="writeback", more="<readonly/>"), {}, []),
        (DISK.format(type="file", device="cdrom", cache="writeback", more=""), {}, []),
        (DISK.format(type="network", device="disk", cache="writeback", more=""), {}, []),
    ],
)
def test_storage(disk: str, settings: dict[str, object], fatal: list[bool]) -> None:
    """A file that is not copied along must be cached in a way that two hosts can share; where the host is another machine, that is all one sees."""
    operation = Migrate(uuid="u", destination_uri="qemu+tls://b/system", **settings)  # type: ignore[arg-type]  # as each case gives them
    assert [found.fatal for found in _storage(fromstring(domain(disk)), operation, local=False)] == fatal


@pytest.mark.parametrize(("hypervisor", "fatal"), [("QEMU", [True]), ("Xen", [])])
def test_only_qemu_looks_at_storage(hypervisor: str, fatal: list[bool]) -> None:
    """Xen moves a domain whatever the cache mode of its disks: nothing is in the way there."""

    class Connection:
        def getType(self) -> str:  # noqa: N802 - libvirt's name
            return hypervisor

        def getURI(self) -> str:  # noqa: N802 - libvirt's name
            return "xen+tcp://elsewhere/system"

    root = fromstring(domain(DISK.format(type="file", device="disk", cache="writeback", more="")))
    operation = Migrate(uuid="u", destination_uri="xen+tcp://b/system")
    assert [found.fatal for found in _in_the_way(Connection(), root, operation)] == fatal


def test_filesystems(tmp_path: Path) -> None:
    """The file system below a path is the deepest one that is mounted on the way to it."""
    assert _filesystem("/proc/self/status") == "proc"
    assert _filesystem(str(tmp_path))
