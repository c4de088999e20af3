"""Fixtures of the end-to-end tests. Daemons and servers last for a session, since they are slow to start; clients belong to a test's own loop."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import libvirt
import pytest

from tests.beds.daemon import Libvirtd
from tests.e2e import server as harness
from tests.e2e.server import Channel, Guest, QemuHost, running
from virtrpc import AsyncClient


@pytest.fixture(scope="session")
def daemon() -> Iterator[Libvirtd]:
    """A private libvirtd with the limits that libvirt ships."""
    with Libvirtd("first") as daemon:
        yield daemon


@pytest.fixture(scope="session")
def second_daemon() -> Iterator[Libvirtd]:
    """Another private libvirtd, which guests of the first can be moved to."""
    with Libvirtd("second") as daemon:
        yield daemon


@pytest.fixture(scope="session")
def qemu_host(daemon: Libvirtd) -> Iterator[QemuHost]:
    """A server with one host, `kvm`, on `daemon`."""
    with harness.qemu_host(daemon) as host:
        yield host
        host.server.assert_no_fault_of_its_own()


@pytest.fixture(scope="session")
def shared_big_guest(qemu_host: QemuHost) -> Iterator[Guest]:
    """A guest whose saves have something to do: it has filled its memory with what no save can skip."""
    with qemu_host.guest(name="big", memory_mib=640, fill_mib=512) as guest:
        guest.wait_for("FILLED")
        yield guest


@pytest.fixture
def big_guest(shared_big_guest: Guest, qemu_host: QemuHost) -> Guest:
    """The same, running; a test may save it, and cancel that."""
    return running(shared_big_guest, qemu_host)


@pytest.fixture
def direct(qemu_host: QemuHost) -> libvirt.virConnect:
    """Our own connection to the daemon of `qemu_host`, to read effects back past virtrpc."""
    return qemu_host.direct


@pytest.fixture
async def client(qemu_host: QemuHost) -> AsyncIterator[AsyncClient]:
    """A client of `qemu_host`'s server."""
    async with qemu_host.server.client() as client:
        yield client


@pytest.fixture
async def channel(qemu_host: QemuHost) -> AsyncIterator[Channel]:
    """A bare channel to `qemu_host`'s server."""
    async with qemu_host.server.channel() as channel:
        yield channel
