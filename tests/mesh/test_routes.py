"""The shipped configuration of Envoy is in step with the contract: looked at as data, without Envoy."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool

from tests.beds.envoy import ROOT, SHIPPED, Configuration
from virtrpc_server.contract import METHODS, SERVICES, waits_for
from virtrpc_server.sending import ANSWER_SECONDS as SENDING_SECONDS
from virtrpc_server.slow import ANSWER_SECONDS, WAIT_SECONDS

READS_AT_MOST = 3
"""How often a slow read asks a hypervisor, one time after the other: PlanMigration both ends, of a snapshot's XML its list too."""
NEVER = 0.0


def seconds(duration: str) -> float:
    """Envoy's notation of a length of time."""
    return float(duration.removesuffix("s"))


@pytest.fixture(scope="module")
def routes() -> dict[str, Any]:
    """What is done with calls, by path."""
    return {route["match"]["path"]: route["route"] for route in Configuration().virtual_host["routes"]}


@pytest.fixture(params=METHODS, ids=lambda method: str(method.name))
def method(request: pytest.FixtureRequest) -> MethodDescriptor:
    """Each RPC."""
    found: MethodDescriptor = request.param
    return found


def test_it_is_what_the_generator_writes() -> None:
    """Routes, descriptors and the table of docs/mesh.md follow from the contract as it is."""
    run = subprocess.run([sys.executable, ROOT / "server/envoy/generate.py", "--check"], capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (0, "")


def test_every_rpc_has_a_route_of_its_own(routes: dict[str, Any]) -> None:
    """And nothing else has, but for health and reflection."""
    assert {path for path in routes if path.startswith("/virtrpc")} == {f"/{method.containing_service.full_name}/{method.name}" for method in METHODS}
    assert [path for path in routes if not path.startswith(("/virtrpc.v1.", "/grpc.health.v1.", "/grpc.reflection."))] == []


def test_time_outs_follow_from_what_an_rpc_waits_for(method: MethodDescriptor, routes: dict[str, Any]) -> None:
    """A query's is short, a hypervisor's longer than the server's own patience and no time-out of the server; streams and jobs have none."""
    route = routes[f"/{method.containing_service.full_name}/{method.name}"]
    time_out, whole = seconds(route["timeout"]), seconds(route.get("max_stream_duration", {}).get("max_stream_duration", "0s"))
    match waits_for(method):
        case _ if method.server_streaming:
            assert (time_out, whole) == (NEVER, NEVER)
        case "NOTHING":
            # Envoy would not look at the time-out where there is the other.
            assert 0 < time_out <= 15
            assert "max_stream_duration" not in route
        case "CONTROL":
            assert (time_out, seconds(route["idle_timeout"])) == (NEVER, NEVER)
            assert SENDING_SECONDS < whole <= 60
        case _:
            assert (time_out, seconds(route["idle_timeout"])) == (NEVER, NEVER)
            assert whole > READS_AT_MOST * (WAIT_SECONDS + ANSWER_SECONDS)


def test_streams_may_be_silent_for_longer_than_their_heartbeats(method: MethodDescriptor, routes: dict[str, Any]) -> None:
    """Three heartbeats may be lost; a download has none, and may be silent for as long as the server waits."""
    if method.server_streaming:
        idle = seconds(routes[f"/{method.containing_service.full_name}/{method.name}"]["idle_timeout"])
        silent = WAIT_SECONDS + ANSWER_SECONDS if waits_for(method) == "HYPERVISOR" else 15 * 3
        assert idle > silent


def test_only_what_changes_nothing_is_tried_again(method: MethodDescriptor, routes: dict[str, Any]) -> None:
    """A verb and what is sent to a job never, queries and slow reads where they did not arrive or this server is not there."""
    retries = routes[f"/{method.containing_service.full_name}/{method.name}"].get("retry_policy", {})
    if waits_for(method) in ("CONDITION", "CONTROL"):
        assert retries == {}
    elif method.name != "TakeScreenshot":
        assert {"connect-failure", "refused-stream", "unavailable"} <= set(retries["retry_on"].split(","))


def test_the_descriptors_are_whole() -> None:
    """Everything that the services refer to is there, and what errors carry: a transcoder finds nothing elsewhere."""
    pool = DescriptorPool()
    for file in FileDescriptorSet.FromString((SHIPPED / "virtrpc.binpb").read_bytes()).file:
        pool.Add(file)
    assert [pool.FindServiceByName(service.full_name).full_name for service in SERVICES] == [service.full_name for service in SERVICES]
    for name in ("google.rpc.ErrorInfo", "google.rpc.RetryInfo"):
        assert pool.FindMessageTypeByName(name).full_name == name
