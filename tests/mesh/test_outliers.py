"""Envoy throws out a server that is down, and none because of a hypervisor that is."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

from tests.beds.envoy import Change, Configuration, Envoy, plain, servers, unchecked
from tests.beds.processes import alive
from tests.beds.sim_daemon import SimDaemon
from tests.beds.wait import wait_until
from tests.e2e.server import Server
from tests.mesh.grpc_web import WebCall, WebError
from tests.mesh.json_calls import JsonCall, ask
from virtrpc.v1 import snapshot_pb2, snapshot_pb2_grpc
from virtrpc.v1 import types_pb2 as t
from virtrpc_drivers.sim.control import AddFault, ClearFaults
from virtrpc_drivers.sim.faults import Rule

pytestmark = pytest.mark.mesh
LIST_SNAPSHOTS = "/virtrpc.v1.SnapshotService/ListSnapshots"
OUTLIERS = "cluster.virtrpcd.outlier_detection."
CALLS = 40
"""Eight times what throws a server out."""


def merciless(configuration: Configuration) -> None:
    """One 5xx of whatever sort throws a server out, and all may be thrown out: stricter than any mesh would be."""
    at_once = {"interval": "0.5s", "consecutive_5xx": 1, "enforcing_consecutive_5xx": 100, "max_ejection_percent": 100}
    configuration.cluster["outlier_detection"] = at_once


def hasty(configuration: Configuration) -> None:
    """Slow reads have a second."""
    configuration.kind("ListSnapshots")["max_stream_duration"]["max_stream_duration"] = "1s"


@pytest.fixture
def sim() -> Iterator[SimDaemon]:
    """Simulated hosts that outlive their servers."""
    with SimDaemon() as sim:
        yield sim


@pytest.fixture
def pair(sim: SimDaemon) -> Iterator[tuple[Server, Server]]:
    """Two servers of the same hosts: one that is well, one that hangs, one that is not there."""
    hosts = {name: sim.uri(name, domains=2, running=2) for name in ("well", "hangs")} | {"down": "sim://down/?daemon=/nonexistent/sim"}
    with Server(hosts) as first, Server(hosts) as second:
        for server in (first, second):
            server.wait_live("well", "hangs")
        yield first, second


@pytest.fixture
async def hanging(sim: SimDaemon, pair: tuple[Server, Server]) -> AsyncIterator[None]:
    """The host `hangs` answers nothing about snapshots."""
    async with sim.connected("hangs") as direct:
        await direct.simulate(AddFault(rule=Rule(verb="snapshots", wedge=True)))
        yield
        await direct.simulate(ClearFaults())


def statuses(envoy: Envoy, rpc: str, request: dict[str, Any], times: int = CALLS) -> set[int]:
    """Call so often, a few at once; the HTTP statuses that came."""
    with ThreadPoolExecutor(8) as callers:
        return set(callers.map(lambda _: _status(envoy, rpc, request), range(times)))


def _status(envoy: Envoy, rpc: str, request: dict[str, Any]) -> int:
    call = JsonCall(envoy.address, rpc, request)
    call.leave()
    return call.status


def thrown_out(envoy: Envoy) -> dict[str, int]:
    """What Envoy has counted towards it and done, as far as there is anything."""
    return {name: value for name, value in envoy.stats(OUTLIERS).items() if value and "ejections" in name}


@pytest.mark.parametrize("change", [hasty, merciless], ids=["shipped", "merciless"])
def test_a_bad_host_throws_no_server_out(pair: tuple[Server, Server], hanging: None, change: Change) -> None:
    """However many calls meet a host that is not there or hangs: FAILED_PRECONDITION or the caller's own limit, never this server's fault."""
    first, second = pair
    with Envoy(plain, servers(first.socket, second.socket), hasty, change) as envoy:
        down = {"domain": {"name": "guest-1", "host": "down"}}
        assert statuses(envoy, "QueryService/GetDomain", down) == {400}
        assert statuses(envoy, "JobService/StartDomain", down) == {400}
        hangs = {"domain": {"name": "guest-1", "host": "hangs"}}
        cut = statuses(envoy, "SnapshotService/ListSnapshots", hangs, 16)
        assert cut == {504}, "cut by Envoy"
        assert thrown_out(envoy) == {}
        assert ask(envoy.address, "QueryService/GetDomain", domain={"name": "guest-1", "host": "well"})["domain"]["active"]
        assert envoy.stats("cluster.virtrpcd.")["membership_healthy"] == 2


def test_a_callers_deadline_is_no_fault_of_the_server(pair: tuple[Server, Server], hanging: None) -> None:
    """Callers that give a host which hangs a fraction of a second cost no server its place, even where one 5xx would."""
    first, second = pair
    with Envoy(plain, servers(first.socket, second.socket), merciless) as envoy, grpc.insecure_channel(envoy.address) as channel:
        stub = snapshot_pb2_grpc.SnapshotServiceStub(channel)
        request = snapshot_pb2.ListSnapshotsRequest(domain=t.DomainRef(host="hangs", name="guest-1"))
        for call in [stub.ListSnapshots.future(request, timeout=0.3) for _ in range(CALLS)]:
            error = call.exception()
            assert isinstance(error, grpc.RpcError)
            assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        # Of a page's script it is Envoy alone that knows when its deadline has passed.
        with pytest.raises(WebError) as raised:
            list(WebCall(envoy.address, LIST_SNAPSHOTS, request, grpc_timeout="300m").messages(snapshot_pb2.ListSnapshotsResponse))
        assert raised.value.message == "downstream duration timeout"
        assert thrown_out(envoy) == {}


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
def test_a_server_that_is_down_is_thrown_out(pair: tuple[Server, Server], number: signal.Signals) -> None:
    """The control: calls alone, without health checks, make Envoy go on to the next server."""
    first, second = pair

    def quick(configuration: Configuration) -> None:
        configuration.kind("GetDomain")["timeout"] = "0.5s"

    with Envoy(plain, servers(first.socket, second.socket), unchecked, quick) as envoy:
        well = {"domain": {"name": "guest-1", "host": "well"}}
        assert statuses(envoy, "QueryService/ListHosts", {}) == {200}
        assert thrown_out(envoy) == {}
        first.send(number)
        try:
            wait_until(lambda: _status(envoy, "QueryService/GetDomain", well) == 200 and thrown_out(envoy), "calls to go to the other server")
            assert envoy.stats(OUTLIERS)["ejections_active"] == 1
            wait_until(lambda: str(second.socket) in {entry["server"] for entry in envoy.calls if entry["http_status"] == 200}, "the log to say so")
        finally:
            if alive(first.pid) and number is signal.SIGSTOP:
                first.send(signal.SIGCONT)


def test_the_only_server_is_never_thrown_out(pair: tuple[Server, Server]) -> None:
    """Where there is no other, calls that fail change nothing: the next one is tried on it, and succeeds once it is back."""
    only, _ = pair
    with Envoy(plain, servers(only.socket), unchecked) as envoy:
        well = {"domain": {"name": "guest-1", "host": "well"}}
        assert statuses(envoy, "QueryService/GetDomain", well) == {200}
        only.kill()
        assert statuses(envoy, "QueryService/GetDomain", well) == {503}
        assert envoy.stats(OUTLIERS)["ejections_active"] == 0
        assert envoy.stats(OUTLIERS)["ejections_overflow"] > 0
        only.start()
        wait_until(lambda: _status(envoy, "QueryService/GetDomain", well) == 200, "the server to be called again")


def test_health_checks_find_a_server_that_hangs(pair: tuple[Server, Server]) -> None:
    """With the shipped checks nobody has to call it in vain: it is left alone, and taken back when it is well."""
    first, second = pair
    with Envoy(plain, servers(first.socket, second.socket)) as envoy:
        healthy = "membership_healthy"
        first.send(signal.SIGSTOP)
        try:
            wait_until(lambda: envoy.stats("cluster.virtrpcd.")[healthy] == 1, "Envoy to find that it does not answer")
            assert ask(envoy.address, "QueryService/ListHosts")["hosts"]
        finally:
            first.send(signal.SIGCONT)
        wait_until(lambda: envoy.stats("cluster.virtrpcd.")[healthy] == 2, "Envoy to take it back")
