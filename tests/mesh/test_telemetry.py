"""What a caller's trace shows, and what a scrape tells, where Envoy stands in between."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator

import pytest

from tests.beds.collector import Collector, collector
from tests.beds.envoy import Envoy, plain, servers
from tests.beds.wait import wait_until
from tests.beds.watched import Scrape
from tests.e2e.server import Server
from tests.mesh.json_calls import JsonCall
from tests.mesh.stage import local_pages

pytestmark = pytest.mark.mesh
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAVE = "virtrpc.v1.JobService/ManagedSaveDomain"
ADDRESS = "virtrpcd tells its metrics on "


@pytest.fixture(scope="module")
def kept() -> Iterator[Collector]:
    """What the server has sent."""
    with collector() as kept:
        yield kept


@pytest.fixture(scope="module")
def watched(kept: Collector) -> Iterator[Server]:
    """A server that tells all that it can."""
    options = ("--tracing", "otlp", "--tracing-ratio", "0", "--metrics", "otlp", "--metrics-seconds", "0.5", "--metrics-listen", "127.0.0.1:0")
    with Server({"try": "sim://try/?domains=2&running=2&save_seconds=0.2"}, *options, "--otlp-endpoint", kept.address) as server:
        server.wait_live()
        yield server
        server.assert_no_fault_of_its_own()


@pytest.fixture(scope="module")
def before(watched: Server) -> Iterator[Envoy]:
    """Envoy in front of it."""
    with Envoy(plain, servers(watched.socket), local_pages) as envoy:
        yield envoy


def test_a_traceparent_goes_through_to_the_hypervisor(before: Envoy, watched: Server, kept: Collector) -> None:
    """A JSON caller's trace has the RPC, the job, its waits and the driver's call, and the metrics have its RPC and its job."""
    call = JsonCall(before.address, "JobService/ManagedSaveDomain", {"domain": {"name": "guest-1"}}, traceparent=f"00-{TRACE}-{PARENT}-01")
    assert call.status == 200
    assert list(call.lines())[-1]["job"]["state"] == "JOB_STATE_SUCCEEDED"
    names = (SAVE, "job ManagedSave", "wait for condition", "wait for daemon_budget", "sim ManagedSave", "refresh")
    trace = {span.name: span for span in kept.trace(*names, of=lambda span: span.trace == TRACE)}
    assert trace["job ManagedSave"].parent == trace[SAVE].id
    assert {trace[name].parent for name in names[2:]} == {trace["job ManagedSave"].id}
    assert trace[SAVE].attributes["virtrpc.job.id"] == trace["sim ManagedSave"].attributes["virtrpc.job.id"] == call.headers["virtrpc-job-id"]
    wait_until(lambda: kept.value("virtrpc.job.duration", kind="ManagedSave", outcome="succeeded") is not None, "the job among the metrics sent")


def test_a_scrape_beside_envoy_has_what_went_through_it(before: Envoy, watched: Server) -> None:
    """Calls that came by Envoy are counted as any others, and the guests' statistics are there."""
    JsonCall(before.address, "QueryService/GetDomain", {"domain": {"name": "guest-2"}}).answer()
    url = next(line.removeprefix(ADDRESS) for line in watched.log.splitlines() if line.startswith(ADDRESS))

    def values(name: str, **labels: str) -> list[float]:
        with urllib.request.urlopen(url) as answer:
            return Scrape(answer.read().decode()).values(name, **labels)

    method = "virtrpc.v1.QueryService/GetDomain"
    assert values("rpc_server_call_duration_seconds_count", rpc_method=method, rpc_response_status_code="OK") == [1]
    wait_until(lambda: sum(values("libvirt_domain_info_cpu_time_seconds_total", domain="guest-2")) > 0, "the guest to be sampled")
