"""Envoy at its limits refuses what is new instead of being killed."""

from __future__ import annotations

import socket
from contextlib import closing

import pytest

from tests.beds.envoy import Configuration, Envoy, plain, servers
from tests.beds.wait import wait_until
from tests.e2e.server import Server
from tests.mesh.json_calls import JsonCall

pytestmark = pytest.mark.mesh
GUARD = 60.0


def small(configuration: Configuration) -> None:
    """Less memory than it has used up, and two connections."""
    heap, connections = (monitor["typed_config"] for monitor in configuration.whole["overload_manager"]["resource_monitors"])
    heap["max_heap_size_bytes"], connections["max_active_downstream_connections"] = 1 << 20, 2


def test_at_its_limits_it_refuses(server: Server) -> None:
    """Without memory calls are 503 (UNAVAILABLE by gRPC, which may be tried again), and one connection too many is closed at once."""
    with Envoy(plain, servers(server.socket), small) as envoy:
        wait_until(lambda: status(envoy) == 503, "calls to be refused", GUARD)
        first, second, third = (socket.create_connection(("127.0.0.1", envoy.port), GUARD) for _ in range(3))
        with closing(first), closing(second), closing(third):
            assert third.recv(1) == b""


def status(envoy: Envoy) -> int:
    """What a call is answered with, by a connection of its own; 0 where Envoy still counts those before it."""
    try:
        call = JsonCall(envoy.address, "QueryService/ListHosts", {})
    except ConnectionError:
        return 0
    call.leave()
    return call.status
