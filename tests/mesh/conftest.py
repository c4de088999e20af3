"""Fixtures of the tests that have a real Envoy in front of the real server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.beds.envoy import Envoy, plain, servers
from tests.e2e.server import Server
from tests.mesh.stage import local_pages

HOSTS = {
    "try": "sim://try/?domains=6&running=4&save_seconds=1.5&start_seconds=0.05",
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
