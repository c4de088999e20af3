"""Servers and Envoys with certificates on both sides, and callers that have some, or not."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from pathlib import Path

import grpc

from tests.beds.certificates import Authority, Pair
from tests.beds.envoy import Change, Envoy, servers
from tests.e2e.server import Server, Setting
from virtrpc.v1 import job_pb2, job_pb2_grpc
from virtrpc.v1 import types_pb2 as t

ENVOY = "spiffe://example.org/ns/mesh/sa/envoy"
HOST = {"try": "sim://try/?domains=2&running=2"}


def envoys(authority: Authority) -> Pair:
    """A certificate for Envoy, as a server and as a client."""
    return authority.issue("envoy", uris=[ENVOY], dns=["localhost"], ips=["127.0.0.1"], server=True, client=True)


def tls_server(authority: Authority, name: str, hosts: Mapping[str, str] = HOST, /, **settings: Setting | list[str]) -> Server:
    """A server with a certificate of this name, which only the mesh may reach, and which believes Envoy."""
    own = authority.issue(name, dns=[name], server=True)
    tls = {"tls.certificate": own.certificate, "tls.key": own.key, "tls.client_ca": authority.path}
    return Server(hosts, listen="127.0.0.1:0", trusted_proxies=[ENVOY], **{name: str(path) for name, path in tls.items()}, **settings)


def before(server: Server, authority: Authority, believed: Path, *changes: Change) -> Envoy:
    """The shipped configuration in front of such a server, with the changes that are made to it: none but the server's port, else."""
    envoy = Envoy(servers(int(server.tcp_address.rpartition(":")[2])), *changes)
    envoy.put_certificates(envoys(authority), believed)
    return envoy


def channel(envoy: Envoy, authority: Authority, own: Pair | None) -> grpc.Channel:
    """A client's connection, with its certificate."""
    certificate, key = own.pem if own else (None, None)
    return grpc.secure_channel(envoy.address, grpc.ssl_channel_credentials(authority.path.read_bytes(), key, certificate))


def owner(envoy: Envoy, authority: Authority, own: Pair | None, **headers: str) -> str:
    """Whose job a verb makes that is called with this certificate and these headers."""
    with channel(envoy, authority, own) as connection:
        request = job_pb2.SetMemoryRequest(domain=t.DomainRef(name="guest-1"), memory_bytes=1 << 29)
        metadata = tuple((name.replace("_", "-"), text) for name, text in headers.items())
        updates = list(job_pb2_grpc.JobServiceStub(connection).SetMemory(request, metadata=metadata))
        return updates[-1].job.owner


def context(authority: Authority, own: Pair) -> ssl.SSLContext:
    """How a script connects."""
    made = ssl.create_default_context(cafile=str(authority.path))
    made.load_cert_chain(own.certificate, own.key)
    return made
