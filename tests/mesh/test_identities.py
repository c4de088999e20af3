"""The shipped configuration with certificates on both sides: who calls Envoy is who calls the server, and nobody can pass for another."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from grpc import StatusCode

from tests.beds.certificates import COMMON_NAME, DNS_NAME, SPIFFE_ID, Authority, Certificates, Pair, make
from tests.beds.envoy import Configuration, Envoy, servers
from tests.beds.wait import wait_until
from tests.e2e.server import Server
from tests.mesh.json_calls import JsonCall
from tests.mesh.stage import tcp_address
from virtrpc.v1 import job_pb2, job_pb2_grpc, query_pb2, query_pb2_grpc
from virtrpc.v1 import types_pb2 as t

pytestmark = pytest.mark.mesh
ENVOY = "spiffe://example.org/ns/mesh/sa/envoy"
SOMEBODY_ELSE = "spiffe://example.org/ns/lab/sa/admin"
HOST = {"try": "sim://try/?domains=2&running=2"}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where certificates lie."""
    return tmp_path_factory.mktemp("certificates")


@pytest.fixture(scope="module")
def certificates(directory: Path) -> Certificates:
    """The usual ones, of clients."""
    return make(directory / "clients")


@pytest.fixture(scope="module")
def authority(directory: Path) -> Authority:
    """Who signs Envoy's certificate and the server's."""
    (directory / "mesh").mkdir()
    return Authority(directory / "mesh", "mesh-ca")


@pytest.fixture(scope="module")
def both(directory: Path, certificates: Certificates, authority: Authority) -> Path:
    """What Envoy believes: the authorities of clients and of the mesh."""
    bundle = directory / "both.pem"
    bundle.write_bytes(certificates.ca.read_bytes() + authority.path.read_bytes())
    return bundle


def envoys(authority: Authority) -> Pair:
    """A certificate for Envoy, as a server and as a client."""
    return authority.issue("envoy", uris=[ENVOY], dns=["localhost"], ips=["127.0.0.1"], server=True, client=True)


def tls_server(authority: Authority, name: str, *options: str) -> Server:
    """A server with a certificate of this name, which only the mesh may reach, and which believes Envoy."""
    own = authority.issue(name, dns=[name], server=True)
    flags = ["--tls-certificate", own.certificate, "--tls-key", own.key, "--tls-client-ca", authority.path, "--trusted-proxy", ENVOY]
    return Server(HOST, *map(str, flags), *options, listen="127.0.0.1:0")


def port_of(server: Server) -> int:
    """Where it listens."""
    return int(tcp_address(server).rpartition(":")[2])


@pytest.fixture(scope="module")
def tls_envoy(authority: Authority, both: Path) -> Iterator[Envoy]:
    """The shipped configuration: of its settings only the server's port is changed."""
    with tls_server(authority, "virtrpcd") as server:
        server.wait_live()
        envoy = Envoy(servers(port_of(server)))
        envoy.put_certificates(envoys(authority), both)
        with envoy:
            yield envoy


def channel(envoy: Envoy, authority: Authority, own: Pair | None) -> grpc.Channel:
    """A client's connection, with its certificate."""
    certificate, key = own.pem if own else (None, None)
    return grpc.secure_channel(envoy.address, grpc.ssl_channel_credentials(authority.path.read_bytes(), key, certificate))


def owner(envoy: Envoy, authority: Authority, own: Pair, **headers: str) -> str:
    """Whose job a verb makes that is called with this certificate and these headers."""
    with channel(envoy, authority, own) as connection:
        request = job_pb2.SetMemoryRequest(domain=t.DomainRef(name="guest-1"), memory_bytes=1 << 29)
        metadata = tuple((name.replace("_", "-"), text) for name, text in headers.items())
        updates = list(job_pb2_grpc.JobServiceStub(connection).SetMemory(request, metadata=metadata))
        return updates[-1].job.owner


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


def context(authority: Authority, own: Pair) -> ssl.SSLContext:
    """How a script connects."""
    made = ssl.create_default_context(cafile=str(authority.path))
    made.load_cert_chain(own.certificate, own.key)
    return made


def test_nobody_passes_for_another(tls_envoy: Envoy, authority: Authority, certificates: Certificates) -> None:
    """What a caller writes into x-forwarded-client-cert is thrown away."""
    forged = f"By={ENVOY};Hash={'0' * 64};URI={SOMEBODY_ELSE}"
    assert owner(tls_envoy, authority, certificates.client, x_forwarded_client_cert=forged) == SPIFFE_ID


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
    with tls_server(authority, "somebody") as server:
        envoy = Envoy(servers(port_of(server)))
        envoy.put_certificates(envoys(authority), both)
        with envoy, channel(envoy, authority, certificates.client) as connection:
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
