"""Fixtures of the fault tests: each file has a daemon and a server of its own, so that what one breaks is not what the next one finds."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.beds.daemon import Libvirtd
from tests.e2e import server as harness
from tests.e2e.server import QemuHost
from virtrpc import AsyncClient

AUDIT_SECONDS = 5.0


@pytest.fixture(scope="module")
def daemon() -> Iterator[Libvirtd]:
    """A private libvirtd with the limits that libvirt ships."""
    with Libvirtd("faulty") as daemon:
        yield daemon


@pytest.fixture(scope="module")
def host(daemon: Libvirtd) -> Iterator[QemuHost]:
    """A server with one host, `kvm`, on `daemon`, audited often; whatever befalls it, the server has no fault of its own to tell of."""
    with harness.qemu_host(daemon, table={"audit_seconds": AUDIT_SECONDS}) as host:
        yield host
        host.server.assert_no_fault_of_its_own()


@pytest.fixture
async def client(host: QemuHost) -> AsyncIterator[AsyncClient]:
    """A client of `host`'s server."""
    async with host.server.client() as client:
        yield client
