"""Whom a proxy calls for: what x-forwarded-client-cert says, and from whom that is believed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID
from grpc import StatusCode, aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from hypothesis import given
from hypothesis import strategies as st

from tests.beds.certificates import Authority
from tests.server.who import CHANNEL_OPTIONS, Metadata, ask, channel, reason_of, serving
from virtrpc_server.caller import Caller, Way
from virtrpc_server.forwarded import HEADER, MAX_HEADER, caller_of, hops_of

ENVOY, GATEWAY, CLIENT, OTHER = (f"spiffe://example.org/{name}" for name in ("envoy", "gateway", "client", "other"))
HASH = "Hash=" + "4a" * 32


@pytest.mark.parametrize(
    ("header", "hops"),
    [
        (f'By={ENVOY};{HASH};Subject="";URI={CLIENT}', ((CLIENT,),)),
        (f'{HASH};Subject="CN=operator,O=a\\"b\\, c,C=DE";DNS=A.example.org;DNS=b;URI={CLIENT}',
         ((CLIENT, "dns:a.example.org", "dns:b", "cn:operator"),)),
        (f"By={GATEWAY};{HASH};URI={CLIENT},By={ENVOY};{HASH};URI={GATEWAY}", ((CLIENT,), (GATEWAY,))),
        (f'{HASH};Cert="-----BEGIN%20CERTIFICATE";Chain="x;URI={OTHER},URI={OTHER}";URI={CLIENT}', ((CLIENT,),)),
        (f'Subject="emailAddress=a@b,CN=operator";{HASH}', (("cn:operator",),)),
        (f'Subject="1.2.3.4=odd,CN=operator";URI={CLIENT}', ((CLIENT, "cn:operator"),)),
        ('Subject="title=odd,CN=operator"', ((),)),
        (f"by={ENVOY};uri={CLIENT}", ((CLIENT,),)),
        (f"{HASH};URI=", ((),)),
        (f"URI={CLIENT};URI={OTHER}", ((),)),
        ('Subject="CN=a+CN=b"', ((),)),
        ("URI=dns:a", ((),)),
        (f"URI={CLIENT} ", ((),)),
        ("URI=https://example.org/?a=b", (("https://example.org/?a=b",),)),
        (f"DNS={CLIENT}", ((),)),
        (f'Subject="CN={CLIENT}"', ((f"cn:{CLIENT}",),)),
    ],
)  # fmt: skip
def test_what_envoy_writes_is_read(header: str, hops: tuple[tuple[str, ...], ...]) -> None:
    """Names come in the order and the kinds of a certificate's; who cannot be told has none."""
    assert hops_of(header, True) == hops


@pytest.mark.parametrize(
    "header",
    ["", ",", ";", f"URI={CLIENT},", f"URI={CLIENT};", f",URI={CLIENT}", f'URI="{CLIENT}"x', f'URI="{CLIENT}', "URI", "=x",
     f"Name={CLIENT}", f"URI={CLIENT};Hash=1;Hash=2", 'Subject="CN=a";Subject="CN=b"', f" URI={CLIENT}",
     "URI=" + "x" * MAX_HEADER, ",".join(["Hash=1"] * 17)],
)  # fmt: skip
def test_what_envoy_does_not_write_is_malformed(header: str) -> None:
    """Whatever is not exactly of the form is refused as a whole: half of it could be somebody else's word."""
    with pytest.raises(ValueError, match=r"^(it|an element) "):
        hops_of(header, True)


@given(st.text(alphabet=st.characters(max_codepoint=255)) | st.text(alphabet='",;=\\ BURIbyuriDNS:/ab'))
def test_any_text_is_read_or_malformed(header: str) -> None:
    """No text raises anything but ValueError, and none gives a name of no kind."""
    try:
        hops = hops_of(header, True)
    except ValueError:
        return
    assert all(":" in name for names in hops for name in names)


@given(st.text(min_size=1, max_size=64).filter(lambda text: len(text.encode(errors="ignore")) > 0))
def test_no_subject_adds_to_the_header(common_name: str) -> None:
    """A CN, whatever stands in it, is one CN at most: it never makes an element or a key of its own."""
    try:
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)]).rfc4514_string()
    except (ValueError, UnicodeEncodeError):
        return  # no certificate can say so
    try:
        hops = hops_of(f'{HASH};Subject="{subject}"', True)
    except ValueError:
        return
    assert hops in (((f"cn:{common_name}",),), ((),))


@given(st.lists(st.sampled_from([ENVOY, GATEWAY, CLIENT, OTHER]), min_size=1, max_size=6))
def test_nobody_before_the_last_stranger_counts(path: list[str]) -> None:
    """The caller is the last one who is no trusted proxy; nobody where all are."""
    header = ",".join(f'{HASH};Subject="";URI={name}' for name in path)
    strangers = [name for name in path if name not in (ENVOY, GATEWAY)]
    assert caller_of(hops_of(header, True), frozenset({ENVOY, GATEWAY})) == tuple(strangers[-1:])


class Bed:
    """A server that trusts Envoy, and the certificates of Envoy and of a client."""

    def __init__(self, path: Path) -> None:
        ca = Authority(path)
        self.ca, server = ca.path, ca.server()
        self.envoy, self.client = ca.issue("envoy", uris=[ENVOY]), ca.issue("client", uris=[CLIENT])
        table = {"certificate": server.certificate, "key": server.key, "client_ca": ca.path}
        self.settings: dict[str, Any] = {"listen": "127.0.0.1:0", "tls": table, "trusted_proxies": [ENVOY]}


@pytest.fixture
def bed(tmp_path: Path) -> Bed:
    """Ready to serve."""
    return Bed(tmp_path)


async def refusal(call: Any) -> str:
    """Why a call is UNAUTHENTICATED."""
    with pytest.raises(aio.AioRpcError) as caught:
        await call
    assert (caught.value.code(), reason_of(caught.value)) == (StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED")
    return caught.value.details() or ""


def says(header: str) -> Metadata:
    """The header's metadata."""
    return [(HEADER, header)]


async def test_a_trusted_proxy_says_for_whom_it_calls(bed: Bed, tmp_path: Path) -> None:
    """The caller is the client whose certificate the proxy saw, and the proxy stands beside."""
    async with serving(tmp_path, **bed.settings) as who:
        await ask(channel(who.address, bed.ca, bed.envoy), says(f'By={ENVOY};{HASH};Subject="CN=x";URI={CLIENT}'))
    assert who.callers == [Caller(CLIENT, Way.PROXY, (CLIENT, "cn:x"), ENVOY)]


async def test_a_forged_header_gets_nowhere(bed: Bed, tmp_path: Path) -> None:
    """A client that is no proxy cannot call as somebody else, by TLS or by the socket; the refusal names it."""
    async with serving(tmp_path, **bed.settings) as who:
        assert f"{CLIENT} is none of them" in await refusal(ask(channel(who.address, bed.ca, bed.client), says(f"{HASH};URI={OTHER}")))
        assert "unix is none of them" in await refusal(ask(aio.insecure_channel(who.unix, CHANNEL_OPTIONS), says(f"{HASH};URI={OTHER}")))
    assert who.callers == []


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ([], "you have not said who you are"),
        (says("nonsense"), "malformed"),
        (says(""), "malformed"),
        (says(f"{HASH};URI="), f"does not say for whom {ENVOY} calls"),
        (says(f"{HASH};URI={ENVOY}"), "does not say for whom"),
        (says(f"URI={CLIENT}") + says(f"URI={OTHER}"), "several times"),  # type: ignore[operator] # both are lists
    ],
)
async def test_a_proxy_has_no_rights_of_its_own(bed: Bed, tmp_path: Path, metadata: Metadata, expected: str) -> None:
    """A trusted proxy that does not say, or not clearly, for whom it calls is refused."""
    async with serving(tmp_path, **bed.settings) as who:
        assert expected in await refusal(ask(channel(who.address, bed.ca, bed.envoy), metadata))
    assert who.callers == []


async def test_a_proxy_may_ask_for_health(bed: Bed, tmp_path: Path) -> None:
    """The health service answers a trusted proxy that calls for nobody, as health checks do."""
    async with serving(tmp_path, **bed.settings) as who, channel(who.address, bed.ca, bed.envoy) as opened:
        health: Any = health_pb2_grpc.HealthStub(opened)
        assert (await health.Check(health_pb2.HealthCheckRequest())).status == health_pb2.HealthCheckResponse.SERVING


async def test_a_sidecar_on_the_socket_may_be_trusted(tmp_path: Path) -> None:
    """With unix among trusted_proxies callers by the socket are those that the header names, and nobody without it."""
    async with serving(tmp_path, trusted_proxies=["unix"]) as who:
        await ask(aio.insecure_channel(who.unix, CHANNEL_OPTIONS), says(f"{HASH};DNS=a.example.org"))
        await refusal(ask(aio.insecure_channel(who.unix, CHANNEL_OPTIONS)))
    assert who.callers == [Caller("dns:a.example.org", Way.PROXY, ("dns:a.example.org",), "unix")]
