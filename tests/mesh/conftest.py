"""Fixtures of the tests that have a real Envoy in front of the real server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.beds.certificates import Authority, Certificates, make
from tests.beds.envoy import Envoy, plain, servers
from tests.e2e.server import Server
from tests.mesh.stage import local_pages

HOSTS = {
    "try": "sim://try/?domains=6&running=4&save_seconds=3&start_seconds=0.05",
    # Nobody is there.
    "down": "sim://down/?daemon=/nonexistent/sim",
}


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """A server with a simulated host, and one that cannot be reached."""
    with Server(HOSTS, "--tracing", "console") as server:
        server.wait_live("try")
        yield server
        server.assert_no_fault_of_its_own()


@pytest.fixture(scope="session")
def envoy(server: Server) -> Iterator[Envoy]:
    """The shipped configuration in front of it, without certificates; scripts of this machine's pages may call."""
    with Envoy(plain, servers(server.socket), local_pages) as envoy:
        yield envoy


@pytest.fixture(scope="session")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where certificates lie."""
    return tmp_path_factory.mktemp("certificates")


@pytest.fixture(scope="session")
def certificates(directory: Path) -> Certificates:
    """The usual ones, of clients."""
    return make(directory / "clients")


@pytest.fixture(scope="session")
def authority(directory: Path) -> Authority:
    """Who signs Envoy's certificate and the server's."""
    (directory / "mesh").mkdir()
    return Authority(directory / "mesh", "mesh-ca")


@pytest.fixture(scope="session")
def both(directory: Path, certificates: Certificates, authority: Authority) -> Path:
    """What Envoy believes: the authorities of clients and of the mesh."""
    bundle = directory / "both.pem"
    bundle.write_bytes(certificates.ca.read_bytes() + authority.path.read_bytes())
    return bundle
