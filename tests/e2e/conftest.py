"""Fixtures of the end-to-end tests. Daemons and servers last for a session, since they are slow to start; clients belong to a test's own loop."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import libvirt
import pytest

from tests.beds.daemon import Libvirtd
from tests.e2e import server as harness
from tests.e2e.server import Channel, Guest, HostTable, QemuHost, connected, running
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


@pytest.fixture(scope="module")
def pair(daemon: Libvirtd, second_daemon: Libvirtd) -> Iterator[tuple[QemuHost, QemuHost]]:
    """One server with two hosts, `first` and `second`, that reach each other over TCP."""
    hosts: dict[str, HostTable] = {
        name: {"uri": bed.uri, "migration_uri": bed.tcp_uri, "path_roots": [str(bed.path)]}
        for name, bed in (("first", daemon), ("second", second_daemon))
    }
    with harness.Server(hosts) as server, connected(daemon) as here, connected(second_daemon) as there:
        server.wait_live()
        yield QemuHost(server, daemon, here, "first"), QemuHost(server, second_daemon, there, "second")


@pytest.fixture
def first(pair: tuple[QemuHost, QemuHost]) -> QemuHost:
    """The host that guests are moved from."""
    return pair[0]


@pytest.fixture
def second(pair: tuple[QemuHost, QemuHost]) -> QemuHost:
    """The host that guests are moved to."""
    return pair[1]
