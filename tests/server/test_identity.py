"""Who a caller is: real servers with TLS, and real clients that have a right to be there or have not."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from pathlib import Path
from typing import Any

import pytest
from google.rpc import error_details_pb2  # type: ignore[import-untyped] # googleapis-common-protos has no py.typed
from grpc import StatusCode, aio
from grpc_status import rpc_status

from tests.beds.certificates import COMMON_NAME, DNS_NAME, SPIFFE_ID, Authority, Certificates, make
from tests.server.who import CHANNEL_OPTIONS, GUARD_SECONDS, GetDomain, Watch, ask, channel, reason_of, serving, sessions, stub
from virtrpc_server.caller import BY_SOCKET, Way
from virtrpc_server.certificates import subject_of


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """The usual certificates."""
    return make(tmp_path_factory.mktemp("certificates"))


def tls(made: Certificates, **more: Any) -> dict[str, Any]:
    """Settings of a server with TLS that wants clients' certificates."""
    table = {"certificate": made.server.certificate, "key": made.server.key, "client_ca": made.ca, **more}
    return {"listen": "127.0.0.1:0", "tls": {key: value for key, value in table.items() if value is not None}}


@pytest.mark.parametrize(
    ("which", "names"),
    [("client", (SPIFFE_ID,)), ("dns", (f"dns:{DNS_NAME}",)), ("cn", (f"cn:{COMMON_NAME}",))],
)
async def test_a_certificate_says_who_calls(made: Certificates, tmp_path: Path, which: str, names: tuple[str, ...]) -> None:
    """SPIFFE id, DNS name and CN name a caller, each under its own kind."""
    async with serving(tmp_path, **tls(made)) as who:
        await ask(channel(who.address, made.ca, getattr(made, which)))
    (caller,) = who.callers
    assert (caller.name, caller.way, caller.names) == (names[0], Way.TLS, names)


@pytest.mark.parametrize("which", [None, "expired", "other"])
async def test_without_a_right_to_be_there_nobody_gets_in(made: Certificates, tmp_path: Path, which: str | None) -> None:
    """A client without a certificate, with an expired one or with one of another CA has no connection: no handler and no gate hears of it."""
    async with serving(tmp_path, **tls(made)) as who:
        with pytest.raises(aio.AioRpcError) as caught:
            await ask(channel(who.address, made.ca, None if which is None else getattr(made, which)))
        assert (caught.value.code(), reason_of(caught.value)) == (StatusCode.UNAVAILABLE, "")
        # Nor does a connection that skips gRPC's own client: the handshake itself fails.
        assert not await asyncio.to_thread(handshake, who.address, made, which)
        assert await asyncio.to_thread(handshake, who.address, made, "client")
    assert who.callers == []


def handshake(address: str, made: Certificates, which: str | None) -> bool:
    """Whether a server goes on with a connection of who has this certificate, or none."""
    context = ssl.create_default_context(cafile=made.ca)
    context.set_alpn_protocols(["h2"])
    if which is not None:
        context.load_cert_chain(getattr(made, which).certificate, getattr(made, which).key)
    return answered(address, context)


def answered(address: str, context: ssl.SSLContext) -> bool:
    """Whether a server goes on with a connection: with TLS 1.3 a client learns that when it reads."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), 30) as plain:
        try:
            with context.wrap_socket(plain, server_hostname=host) as wrapped:
                return bool(wrapped.recv(1))
        except (ssl.SSLError, ConnectionError):
            return False


async def test_who_speaks_in_the_clear_gets_nowhere(made: Certificates, tmp_path: Path) -> None:
    """A plaintext client has no connection to a TLS address."""
    async with serving(tmp_path, **tls(made)) as who:
        with pytest.raises(aio.AioRpcError) as caught:
            await ask(aio.insecure_channel(who.address, CHANNEL_OPTIONS))
        assert caught.value.code() is StatusCode.UNAVAILABLE
    assert who.callers == []


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1:DeprecationWarning", "ignore:ssl.OP_NO:DeprecationWarning")
async def test_old_tls_gets_nowhere(made: Certificates, tmp_path: Path) -> None:
    """TLS 1.1 is refused, TLS 1.2 is not."""
    async with serving(tmp_path, **tls(made)) as who:
        for version, expected in ((ssl.TLSVersion.TLSv1_1, False), (ssl.TLSVersion.TLSv1_2, True)):
            assert await asyncio.to_thread(speaks, who.address, made, version) is expected


def speaks(address: str, made: Certificates, version: ssl.TLSVersion) -> bool:
    """Whether a handshake with this version, and none later, is answered."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(made.ca)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.set_alpn_protocols(["h2"])
    context.load_cert_chain(made.client.certificate, made.client.key)
    context.options &= ~ssl.OP_NO_TLSv1_1
    context.maximum_version = version
    return answered(address, context)


async def test_a_certificate_for_servers_is_no_clients(made: Certificates, tmp_path: Path) -> None:
    """The CA's certificates for servers let nobody in as a client."""
    async with serving(tmp_path, **tls(made)) as who:
        with pytest.raises(aio.AioRpcError):
            await ask(channel(who.address, made.ca, made.server))
    assert who.callers == []


async def test_an_intermediate_authority_is_followed(tmp_path: Path) -> None:
    """A client may send the certificates between its own and the CA's."""
    root = Authority(tmp_path)
    between = Authority(tmp_path, "between", root)
    server, client = between.server(), between.issue("client", uris=[SPIFFE_ID])
    table = {"certificate": server.certificate, "key": server.key, "client_ca": root.path}
    async with serving(tmp_path, listen="127.0.0.1:0", tls=table) as who:
        await ask(channel(who.address, root.path, client))
    assert [caller.name for caller in who.callers] == [SPIFFE_ID]


async def test_a_certificate_of_nobody_is_unauthenticated(tmp_path: Path) -> None:
    """A certificate without any name, or whose CN does not count, has its RPCs refused with a reason."""
    ca = Authority(tmp_path)
    server, nameless, cn = ca.server(), ca.issue("nameless"), ca.issue("cn", common_name="root")
    table = {"certificate": server.certificate, "key": server.key, "client_ca": ca.path, "common_names": False}
    async with serving(tmp_path, listen="127.0.0.1:0", tls=table) as who:
        for pair in (nameless, cn):
            with pytest.raises(aio.AioRpcError) as caught:
                await ask(channel(who.address, ca.path, pair))
            assert (caught.value.code(), reason_of(caught.value)) == (StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED")
    assert who.callers == []


async def test_a_session_does_not_outlive_its_certificate(made: Certificates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A TLS session that is taken up again, which has nobody look at the certificate, ends with it all the same."""
    kept = sessions()
    async with serving(tmp_path, **tls(made)) as who:
        for _ in range(2):
            await ask(channel(who.address, made.ca, made.client, *kept))
        later = time.time() + 7 * 86400
        monkeypatch.setattr(time, "time", lambda: later)
        with pytest.raises(aio.AioRpcError) as caught:
            await ask(channel(who.address, made.ca, made.client, *kept))
    assert (reason_of(caught.value), caught.value.details()) == ("UNAUTHENTICATED", ENDED)
    assert len(who.callers) == 2


async def drained(stream: Any) -> None:
    """Read a stream to its end."""
    async for _ in stream:
        pass


ENDED = "your certificate has ended: make another connection, with a new one"


@pytest.mark.parametrize("header", [(), (("x-forwarded-client-cert", "URI=spiffe://example.org/behind"),)])
async def test_a_connection_does_not_outlive_its_certificate(
    made: Certificates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, header: tuple[tuple[str, str], ...]
) -> None:
    """Streams end with it, with a time to retry, and calls are refused from then on; so are those that come through a proxy with the proxy's."""
    end = subject_of(made.client.certificate.read_bytes(), common_names=True).expires
    async with (
        serving(tmp_path, **tls(made), trusted_proxies=[SPIFFE_ID] if header else []) as who,
        channel(who.address, made.ca, made.client) as opened,
    ):
        await stub(opened).GetDomain(GetDomain(), metadata=header, timeout=GUARD_SECONDS)
        monkeypatch.setattr(time, "time", lambda: end - 0.2)
        stream = stub(opened).WatchDomains(Watch(), metadata=header, timeout=GUARD_SECONDS)
        with pytest.raises(aio.AioRpcError) as caught:
            # gRPC reckons deadlines by time.time(), which stands.
            await asyncio.wait_for(drained(stream), GUARD_SECONDS)
        status: Any = rpc_status.from_call(caught.value)  # type: ignore[arg-type] # an error of a call is one
        assert reason_of(caught.value) == "UNAUTHENTICATED"
        assert any(detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR) for detail in status.details)
        monkeypatch.setattr(time, "time", lambda: end + 0.1)
        with pytest.raises(aio.AioRpcError) as caught:
            await stub(opened).GetDomain(GetDomain(), metadata=header, timeout=GUARD_SECONDS)
        assert (reason_of(caught.value), caught.value.details()) == ("UNAUTHENTICATED", ENDED)
    assert len(who.callers) == 2


async def test_the_socket_is_beside_tls(made: Certificates, tmp_path: Path) -> None:
    """Whoever may open the Unix socket calls as "unix", whatever TLS wants of others."""
    async with serving(tmp_path, **tls(made)) as who:
        await ask(aio.insecure_channel(who.unix, CHANNEL_OPTIONS))
    assert who.callers == [BY_SOCKET]
