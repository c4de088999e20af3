"""Each RPC has the time-out that goes with what it waits for, and nothing else: the shipped configuration as it is."""

from __future__ import annotations

import signal
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from tests.beds.envoy import Envoy, plain, servers
from tests.beds.wait import wait_until
from tests.e2e.server import Server
from tests.mesh.json_calls import JsonCall

pytestmark = pytest.mark.mesh
GUEST = {"domain": {"name": "guest-1"}}
UNCUT: dict[str, dict[str, Any]] = {
    "SnapshotService/ListSnapshots": GUEST,
    "JobService/SuspendDomain": GUEST,
    "QueryService/WatchDomains": {},
    "JobService/CancelJob": {"jobId": "unknown"},
}
"""A call of each kind that is not cut when a query is, with its request."""


def status(envoy: Envoy, rpc: str, request: dict[str, Any]) -> int:
    """How a call begins to be answered."""
    call = JsonCall(envoy.address, rpc, request)
    call.leave()
    return call.status


def test_a_query_is_cut_and_what_may_take_long_is_not() -> None:
    """A server stands still: a query ends after its 10 s; a slow read, a job, a watch and a cancel are out until the server goes on."""
    with (
        Server({"try": "sim://try/?domains=2&running=2"}) as server,
        Envoy(plain, servers(server.socket)) as envoy,
        ThreadPoolExecutor() as callers,
    ):
        server.wait_live()
        assert status(envoy, "QueryService/GetDomain", GUEST) == 200
        server.send(signal.SIGSTOP)
        try:
            out: dict[str, Future[int]] = {rpc: callers.submit(status, envoy, rpc, request) for rpc, request in UNCUT.items()}
            assert status(envoy, "QueryService/GetDomain", GUEST) == 504
            assert [rpc for rpc, call in out.items() if call.done()] == []
        finally:
            server.send(signal.SIGCONT)
        assert {rpc: call.result(60) for rpc, call in out.items()} == {**dict.fromkeys(UNCUT, 200), "JobService/CancelJob": 404}

        def cut() -> list[str]:
            return [entry["details"] for entry in envoy.calls if entry["http_status"] == 504]

        wait_until(cut, "the access log to have the query")
        assert cut() == ["response_timeout"]
