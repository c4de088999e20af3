"""The shipped configuration with certificates on both sides: who calls Envoy is who calls the server, and nobody can pass for another."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from grpc import StatusCode

from tests.beds.certificates import COMMON_NAME, DNS_NAME, SPIFFE_ID, Authority, Certificates
from tests.beds.envoy import Configuration, Envoy, servers
from tests.beds.wait import wait_until
from tests.e2e.server import Server
from tests.mesh.json_calls import JsonCall
from tests.mesh.secured import ENVOY, HOST, before, channel, context, envoys, owner, tls_server
from virtrpc.v1 import query_pb2, query_pb2_grpc

pytestmark = pytest.mark.mesh
SOMEBODY_ELSE = "spiffe://example.org/ns/lab/sa/admin"


@pytest.fixture(scope="module")
def tls_envoy(authority: Authority, both: Path) -> Iterator[Envoy]:
    """The shipped configuration: of its settings only the server's port is changed."""
    with tls_server(authority, "virtrpcd") as server:
        server.wait_live()
        with before(server, authority, both) as envoy:
            yield envoy


# Who it is


@pytest.mark.parametrize(("who", "name"), [("client", SPIFFE_ID), ("dns", f"dns:{DNS_NAME}"), ("cn", f"cn:{COMMON_NAME}")])
def test_the_server_knows_who_called_envoy(tls_envoy: Envoy, authority: Authority, certificates: Certificates, who: str, name: str) -> None:
    """A job is its caller's and not Envoy's: by the SPIFFE id, the DNS name or the CN of the certificate that Envoy has seen."""
    assert owner(tls_envoy, authority, getattr(certificates, who)) == name


def test_json_has_an_identity_too(tls_envoy: Envoy, authority: Authority, certificates: Certificates) -> None:
    """A script's certificate is looked at as any other, and stands in the access log."""
    call = JsonCall(tls_envoy.address, "JobService/SuspendDomain", {"domain": {"name": "guest-2"}}, context(authority, certificates.client))
    assert [line["job"]["owner"] for line in call.lines()][-1] == SPIFFE_ID
    wait_until(lambda: SPIFFE_ID in {entry["caller"] for entry in tls_envoy.calls}, "the access log to have the call")


def test_nobody_passes_for_another(tls_envoy: Envoy, authority: Authority, certificates: Certificates) -> None:
    """What a caller writes into x-forwarded-client-cert is thrown away."""
    forged = f"By={ENVOY};Hash={'0' * 64};URI={SOMEBODY_ELSE}"
    assert owner(tls_envoy, authority, certificates.client, x_forwarded_client_cert=forged) == SPIFFE_ID


def test_behind_another_proxy_the_last_stranger_counts(authority: Authority, certificates: Certificates, both: Path) -> None:
    """An Envoy that appends: what a caller forges stands before its own element, and what a trusted proxy says before that proxy's."""

    def appending(configuration: Configuration) -> None:
        configuration.manager["forward_client_cert_details"] = "APPEND_FORWARD"

    with tls_server(authority, "virtrpcd") as server:
        server.wait_live()
        with before(server, authority, both, appending) as envoy:
            outer = f'By={ENVOY};Hash={"0" * 64};Subject="CN=a\\,b,O=x;y";URI={SOMEBODY_ELSE}'
            for forged in (outer, f"{outer},{outer}", f"URI={ENVOY}", f'{outer},Subject="CN=z";URI={ENVOY}'):
                assert owner(envoy, authority, certificates.client, x_forwarded_client_cert=forged) == SPIFFE_ID
                assert owner(envoy, authority, certificates.cn, x_forwarded_client_cert=forged) == f"cn:{COMMON_NAME}"
            # The outer proxy has the same name as the inner one here.
            assert owner(envoy, authority, envoys(authority), x_forwarded_client_cert=outer) == SOMEBODY_ELSE


@pytest.mark.parametrize("who", ["none", "expired", "other"])
def test_without_a_certificate_nobody_gets_through(tls_envoy: Envoy, authority: Authority, certificates: Certificates, who: str) -> None:
    """Without one, with one that has ended or one of another authority the handshake fails: neither Envoy's filters nor the server see a call."""
    before = tls_envoy.stats("http.callers.")["downstream_rq_total"]
    own = None if who == "none" else getattr(certificates, who)
    with channel(tls_envoy, authority, own) as connection, pytest.raises(grpc.RpcError) as raised:
        query_pb2_grpc.QueryServiceStub(connection).ListHosts(query_pb2.ListHostsRequest())
    assert raised.value.code() is StatusCode.UNAVAILABLE
    assert tls_envoy.stats("http.callers.")["downstream_rq_total"] == before


# Whom Envoy believes, and who believes Envoy


def test_envoy_calls_no_impostor(authority: Authority, certificates: Certificates, both: Path) -> None:
    """A server whose certificate is not virtrpcd's gets no calls, whoever has signed it."""
    with (
        tls_server(authority, "somebody") as server,
        before(server, authority, both) as envoy,
        channel(envoy, authority, certificates.client) as connection,
    ):
        with pytest.raises(grpc.RpcError) as raised:
            query_pb2_grpc.QueryServiceStub(connection).ListHosts(query_pb2.ListHostsRequest())
        assert raised.value.code() is StatusCode.UNAVAILABLE
        assert envoy.stats("cluster.virtrpcd.ssl.")["fail_verify_san"] > 0


def test_envoy_on_the_servers_machine_comes_by_its_socket(authority: Authority, certificates: Certificates, both: Path) -> None:
    """With `trusted_proxies = ["unix"]` and no certificate on that side callers are known all the same."""

    def by_socket(configuration: Configuration) -> None:
        del configuration.cluster["transport_socket"]

    with Server(HOST, trusted_proxies=["unix"]) as server:
        envoy = Envoy(servers(server.socket), by_socket)
        envoy.put_certificates(envoys(authority), both)
        with envoy:

            def known() -> bool:
                call = JsonCall(envoy.address, "QueryService/GetDomain", {"domain": {"name": "guest-1"}}, context(authority, certificates.client))
                call.leave()
                return call.status == 200

            wait_until(known, "the host to be listed")
            assert owner(envoy, authority, certificates.client) == SPIFFE_ID


def test_a_new_certificate_needs_no_restart(tls_envoy: Envoy, authority: Authority, certificates: Certificates, both: Path) -> None:
    """Moved into its directory, it is what the next connection sees; connections that are open go on."""

    def seen() -> int:
        own = context(authority, certificates.client)
        with (
            socket.create_connection(("127.0.0.1", tls_envoy.port), 60) as plain,
            own.wrap_socket(plain, server_hostname="localhost") as secured,
        ):
            der: Any = secured.getpeercert(binary_form=True)
        return x509.load_der_x509_certificate(der).serial_number

    with channel(tls_envoy, authority, certificates.client) as connection:
        query = query_pb2_grpc.QueryServiceStub(connection)
        assert query.ListHosts(query_pb2.ListHostsRequest()).hosts
        renewed = envoys(authority)
        serial = x509.load_pem_x509_certificate(renewed.certificate.read_bytes()).serial_number
        assert seen() != serial
        tls_envoy.put_certificates(renewed, both)
        wait_until(lambda: seen() == serial, "Envoy to show its new certificate")
        assert query.ListHosts(query_pb2.ListHostsRequest()).hosts


# The files as they are shipped


def test_envoy_accepts_the_shipped_files(tls_envoy: Envoy) -> None:
    """Envoy's own validation has nothing to say against them, not even a warning."""
    found = tls_envoy.validate()
    assert (found.returncode, found.stderr) == (0, "")
