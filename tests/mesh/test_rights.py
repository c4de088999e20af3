"""What a caller may do behind Envoy is what its own certificate may do, and the audit log knows it by its own name."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc import StatusCode

from tests.beds.certificates import DNS_NAME, SPIFFE_ID, Authority, Certificates
from tests.beds.envoy import Envoy
from tests.beds.wait import wait_until
from tests.e2e.server import Server
from tests.mesh.json_calls import JsonCall
from tests.mesh.secured import before, context, owner, tls_server
from virtrpc.v1 import query_pb2, query_pb2_grpc

pytestmark = pytest.mark.mesh
RULES = f"""
@id("operators") permit(principal == Caller::"{SPIFFE_ID}", action in Action::"operator", resource);
@id("viewers") permit(principal == Caller::"dns:{DNS_NAME}", action in Action::"viewer", resource);
"""


@pytest.fixture(scope="module")
def ruled(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose rules know an operator and a viewer, and not Envoy."""
    rules = tmp_path_factory.mktemp("rules") / "policy.cedar"
    rules.write_text(RULES)
    with tls_server(authority, "virtrpcd", policy=str(rules)) as server:
        yield server


@pytest.fixture(scope="module")
def guarded(ruled: Server, authority: Authority, certificates: Certificates, both: Path) -> Iterator[Envoy]:
    """Envoy in front of it, once the host is listed."""
    with before(ruled, authority, both) as envoy:
        seen = {"domain": {"name": "guest-1"}}
        wait_until(lambda: asked(envoy, authority, certificates, "dns", "QueryService/GetDomain", seen)[0] == 200, "the host to be listed")
        yield envoy


def asked(envoy: Envoy, authority: Authority, certificates: Certificates, who: str, rpc: str, request: dict[str, Any]) -> tuple[int, Any]:
    """The HTTP status, and the last line of the answer."""
    call = JsonCall(envoy.address, rpc, request, context(authority, getattr(certificates, who)), virtrpc_reason="CHG-1042")
    return call.status, list(call.lines())[-1]


def test_an_operator_acts_and_a_viewer_looks(guarded: Envoy, authority: Authority, certificates: Certificates) -> None:
    """By the names in their certificates: what is beyond a role is 403 to a script, with the reason, and PERMISSION_DENIED to a client."""
    suspend = {"domain": {"name": "guest-2"}}
    status, told = asked(guarded, authority, certificates, "dns", "JobService/SuspendDomain", suspend)
    assert (status, told["details"][0]["reason"]) == (403, "PERMISSION_DENIED")
    with pytest.raises(grpc.RpcError) as raised:
        owner(guarded, authority, certificates.dns)
    assert raised.value.code() is StatusCode.PERMISSION_DENIED
    status, told = asked(guarded, authority, certificates, "client", "JobService/SuspendDomain", suspend)
    assert (status, told["job"]["state"], told["job"]["owner"]) == (200, "JOB_STATE_SUCCEEDED", SPIFFE_ID)


def test_the_audit_log_has_the_callers_own_names(ruled: Server, guarded: Envoy, authority: Authority, certificates: Certificates) -> None:
    """A line for what was done and one for what was denied: whose, and why the caller says."""
    resume = {"domain": {"name": "guest-2"}}
    asked(guarded, authority, certificates, "client", "JobService/ResumeDomain", resume)
    asked(guarded, authority, certificates, "dns", "JobService/ResumeDomain", resume)
    wanted = {(SPIFFE_ID, "job", "OK", "CHG-1042"), (f"dns:{DNS_NAME}", "denied", "PERMISSION_DENIED", "CHG-1042")}

    def lines() -> set[tuple[str, ...]]:
        found = map(json.loads, (ruled.path / "state" / "audit.log").read_text().splitlines())
        return {tuple(str(line.get(key)) for key in ("caller", "event", "outcome", "reason")) for line in found if line["rpc"] == "ResumeDomain"}

    wait_until(lambda: lines() == wanted, "the audit log to have both")


def test_envoy_itself_may_do_nothing(ruled: Server, guarded: Envoy, authority: Authority) -> None:
    """Whoever has its certificate and goes to the server past it, calling for nobody, is nobody."""
    own = (authority.directory / "envoy.key").read_bytes(), (authority.directory / "envoy.pem").read_bytes()
    credentials = grpc.ssl_channel_credentials(authority.path.read_bytes(), *own)
    options = [("grpc.ssl_target_name_override", "virtrpcd")]
    with grpc.secure_channel(ruled.tcp_address, credentials, options=options) as channel, pytest.raises(grpc.RpcError) as raised:
        query_pb2_grpc.QueryServiceStub(channel).ListHosts(query_pb2.ListHostsRequest())
    assert raised.value.code() is StatusCode.UNAUTHENTICATED
