"""A disk that stops its guest, and an address that the host knows, on real QEMU guests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import libvirt
import pytest

from tests.beds.domain import Disk
from tests.e2e.server import QemuHost, eventually
from virtrpc import AsyncClient
from virtrpc.v1 import query_pb2 as q

pytestmark = pytest.mark.hypervisor


@pytest.fixture
def small_storage(qemu_host: QemuHost) -> Iterator[Path]:
    """A file system in which an image of 64 MiB cannot grow to its size, where the daemon sees it."""
    path = qemu_host.daemon.path / "small"
    path.mkdir()
    qemu_host.daemon.inside("mount", "-t", "tmpfs", "-o", "size=256k,mode=755", "none", str(path))
    yield path
    qemu_host.daemon.inside("umount", "-l", str(path))


async def test_no_space(client: AsyncClient, qemu_host: QemuHost, small_storage: Path) -> None:
    """A guest that is paused because its disk's image cannot grow is told with the disk and the reason, and sampling goes on."""
    image = small_storage / "thin.raw"
    qemu_host.daemon.inside("truncate", "--size=64M", str(image))
    with qemu_host.guest(name="full", disks=[Disk(image, format="raw")], mount_disk=True, ready=False) as guest:
        await eventually(lambda: guest.domain.state(0) == [libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_IOERROR], "the guest to be stopped")

        async def told() -> bool:
            disks = (await client.get_block_stats(guest.name)).stats.devices
            return [disk.disk_error for disk in disks] == [q.DISK_ERROR_NO_SPACE]

        await eventually(told, "the disk's error to be sampled")
        assert guest.domain.diskErrors(0) == {"vda": libvirt.VIR_DOMAIN_DISK_ERROR_NO_SPACE}
