"""Users by their tokens, through Envoy: beside a program's certificate, or instead of one, as pages in a browser come."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from grpc import StatusCode

from tests.beds.certificates import SPIFFE_ID, Authority, Certificates
from tests.beds.envoy import Configuration, Envoy
from tests.mesh.secured import before, owner, tls_server
from tests.server.test_tokens import AUDIENCE, ISSUER, NAME, Provider

pytestmark = pytest.mark.mesh


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Provider:
    """Who makes tokens."""
    return Provider(tmp_path_factory.mktemp("provider"))


def without_certificates(configuration: Configuration) -> None:
    """A caller may have one, and need not."""
    configuration.filter_chain["transport_socket"]["typed_config"]["require_client_certificate"] = False


@pytest.fixture(scope="module")
def open_envoy(authority: Authority, both: Path, provider: Provider) -> Iterator[Envoy]:
    """In front of a server that knows tokens, and that Envoy alone may reach."""
    tokens = {"jwt.issuer": ISSUER, "jwt.audience": AUDIENCE, "jwt.jwks_file": str(provider.path)}
    with tls_server(authority, "virtrpcd", **tokens) as server:
        server.wait_live()
        with before(server, authority, both, without_certificates) as envoy:
            yield envoy


def test_a_token_names_the_user(open_envoy: Envoy, authority: Authority, certificates: Certificates, provider: Provider) -> None:
    """A page's user has no certificate, and a program's user is not the program: the token says who owns a job."""
    bearer = f"Bearer {provider.token()}"
    assert owner(open_envoy, authority, None, authorization=bearer) == NAME
    assert owner(open_envoy, authority, certificates.client, authorization=bearer) == NAME
    assert owner(open_envoy, authority, certificates.client) == SPIFFE_ID


@pytest.mark.parametrize("header", ["", f"URI={SPIFFE_ID}"], ids=["nothing", "a header of its own"])
def test_who_has_neither_is_nobody(open_envoy: Envoy, authority: Authority, header: str) -> None:
    """Neither certificate nor token: the server refuses, and what the caller claims to be does not reach it. Envoy lends nobody its rights."""
    with pytest.raises(grpc.RpcError) as raised:
        owner(open_envoy, authority, None, **({"x_forwarded_client_cert": header} if header else {}))
    assert raised.value.code() is StatusCode.UNAUTHENTICATED


def test_a_bad_certificate_gets_nowhere_all_the_same(open_envoy: Envoy, authority: Authority, certificates: Certificates, provider: Provider) -> None:
    """One of another authority ends in the handshake, whatever token comes with it."""
    with pytest.raises(grpc.RpcError) as raised:
        owner(open_envoy, authority, certificates.other, authorization=f"Bearer {provider.token()}")
    assert raised.value.code() is StatusCode.UNAVAILABLE
