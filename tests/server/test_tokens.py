"""Bearer tokens: whom they name, and what becomes of those that are not right. On real channels."""

from __future__ import annotations

import asyncio
import base64
import hmac
import http.server
import json
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from google.rpc import error_details_pb2  # type: ignore[import-untyped] # googleapis-common-protos has no py.typed
from grpc import StatusCode, aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from tests.beds.certificates import SPIFFE_ID, Certificates, make
from tests.server.who import CHANNEL_OPTIONS, Metadata, Watch, Who, ask, channel, reason_of, serving, stub
from tests.server.world import until
from virtrpc_server.caller import Way
from virtrpc_server.certificates import subject_of
from virtrpc_server.keys import KeyFile, KeyUrl
from virtrpc_server.settings import load
from virtrpc_server.settings.identity import ASYMMETRIC
from virtrpc_server.settings.schema import ConfigurationError

ISSUER, AUDIENCE = "https://idp.example.org", "virtrpc"
NAME = f"jwt:{ISSUER}#alice"


class Provider:
    """An identity provider with one key at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path / "jwks.json"
        self.number = 0
        self.key: EllipticCurvePrivateKey
        self.rotate()

    def rotate(self) -> None:
        """Another key, under another id."""
        self.number += 1
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.path.with_suffix(".new").write_text(json.dumps(self.jwks()))
        self.path.with_suffix(".new").rename(self.path)

    def jwks(self) -> dict[str, Any]:
        """The set, which has keys of other kinds too."""
        own = {**ECAlgorithm.to_jwk(self.key.public_key(), as_dict=True), "kid": str(self.number), "use": "sig"}
        return {"keys": [{"kty": "oct", "k": "c2VjcmV0", "kid": "shared"}, {"kty": "nonsense"}, "nonsense", {**own, "use": "enc", "kid": "enc"}, own]}

    def token(self, key: Any = None, algorithm: str = "ES256", headers: dict[str, Any] | None = None, **claims: Any) -> str:
        """A right one, but for what is said; a claim of None is left out."""
        now = int(time.time())
        right = {"iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "exp": now + 600, **claims}
        told = {name: value for name, value in right.items() if value is not None}
        return jwt.encode(told, key or self.key, algorithm, headers={"kid": str(self.number), **(headers or {})})


@pytest.fixture
def provider(tmp_path: Path) -> Provider:
    """Its keys are in a file."""
    return Provider(tmp_path)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """The usual certificates."""
    return make(tmp_path_factory.mktemp("certificates"))


def settings(provider: Provider, made: Certificates | None = None, *, certificates: bool = False, **more: Any) -> dict[str, Any]:
    """Tokens on the socket, and by TLS where there are certificates."""
    table = {"issuer": ISSUER, "audience": AUDIENCE, "leeway_seconds": 0, "jwks_file": provider.path, **more}
    given: dict[str, Any] = {"jwt": {key: value for key, value in table.items() if value is not None}}
    if made is not None:
        tls = {"certificate": made.server.certificate, "key": made.server.key, **({"client_ca": made.ca} if certificates else {})}
        given |= {"listen": "127.0.0.1:0", "tls": tls}
    return given


def bearing(token: str) -> Metadata:
    """The header's metadata."""
    return [("authorization", f"Bearer {token}")]


def unix(who: Who) -> aio.Channel:
    """A channel by the socket."""
    return aio.insecure_channel(who.unix, CHANNEL_OPTIONS)


async def refusal(call: Any) -> aio.AioRpcError:
    """What a call that is UNAUTHENTICATED ends with."""
    with pytest.raises(aio.AioRpcError) as caught:
        await call
    assert (caught.value.code(), reason_of(caught.value)) == (StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED")
    return caught.value


def retries(error: grpc.RpcError) -> bool:
    """Whether it says when to try again."""
    status: Any = rpc_status.from_call(error)  # type: ignore[arg-type] # an error of a call is one
    return any(detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR) for detail in status.details)


async def test_a_token_names_its_bearer(provider: Provider, made: Certificates, tmp_path: Path) -> None:
    """By TLS without certificates: the issuer and subject, and groups and roles under the issuer's name."""
    async with serving(tmp_path, **settings(provider, made)) as who:
        token = provider.token(groups=["ops", "lab"], roles="admin")
        await ask(channel(who.address, made.ca), bearing(token))
    names = (NAME, *(f"group:{ISSUER}#{group}" for group in ("ops", "lab", "admin")))
    (caller,) = who.callers
    assert (caller.name, caller.way, caller.names) == (NAME, Way.TOKEN, names)


async def test_the_token_is_the_user_and_the_certificate_the_program(provider: Provider, made: Certificates, tmp_path: Path) -> None:
    """With both, the token's name comes first; with client_ca a token alone has no connection."""
    async with serving(tmp_path, **settings(provider, made, certificates=True)) as who:
        await ask(channel(who.address, made.ca, made.client), bearing(provider.token()))
        await ask(channel(who.address, made.ca, made.client))
        with pytest.raises(aio.AioRpcError) as caught:
            await ask(channel(who.address, made.ca), bearing(provider.token()))
    assert caught.value.code() is StatusCode.UNAVAILABLE
    assert [caller.names for caller in who.callers] == [(NAME, SPIFFE_ID), (SPIFFE_ID,)]


async def test_a_token_does_not_outlive_the_certificate_that_it_came_with(provider: Provider, made: Certificates, tmp_path: Path) -> None:
    """Rights last until the first of both has ended."""
    end = subject_of(made.client.certificate.read_bytes(), common_names=True).expires
    async with serving(tmp_path, **settings(provider, made, certificates=True)) as who:
        for exp in (end - 60, end + 60):
            await ask(channel(who.address, made.ca, made.client), bearing(provider.token(exp=exp)))
    assert [caller.until for caller in who.callers] == [end - 60, end]


async def test_tokens_come_by_the_socket_and_through_proxies(provider: Provider, tmp_path: Path) -> None:
    """What the caller is without the token comes after its names; a trusted proxy's own name does not."""
    async with serving(tmp_path, **settings(provider)) as who:
        await ask(unix(who), bearing(provider.token()))
    assert [caller.names for caller in who.callers] == [(NAME, "unix")]
    async with serving(tmp_path, trusted_proxies=["unix"], **settings(provider)) as who:
        await ask(unix(who), bearing(provider.token()))
        await ask(unix(who), [*bearing(provider.token()), ("x-forwarded-client-cert", f"URI={SPIFFE_ID}")])
    assert [(caller.names, caller.via) for caller in who.callers] == [((NAME,), "unix"), ((NAME, SPIFFE_ID), "unix")]


async def test_without_a_token_there_is_health_only(provider: Provider, made: Certificates, tmp_path: Path) -> None:
    """Whoever could connect may ask for health, and is UNAUTHENTICATED elsewhere; with a bad token there too."""
    async with serving(tmp_path, **settings(provider, made)) as who, channel(who.address, made.ca) as opened:
        health: Any = health_pb2_grpc.HealthStub(opened)
        assert (await health.Check(health_pb2.HealthCheckRequest())).status == health_pb2.HealthCheckResponse.SERVING
        await refusal(health.Check(health_pb2.HealthCheckRequest(), metadata=bearing("nonsense")))
        assert "wants a bearer token" in ((await refusal(ask(channel(who.address, made.ca)))).details() or "")


PUBLIC = (Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def hs256(provider: Provider) -> str:
    """The old trick: the public key, which everybody has, as a shared secret. The library would not make it."""

    def packed(value: bytes) -> bytes:
        return base64.urlsafe_b64encode(value).rstrip(b"=")

    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "exp": int(time.time()) + 600}
    text = b".".join(packed(json.dumps(part).encode()) for part in ({"alg": "HS256", "kid": str(provider.number)}, claims))
    return (text + b"." + packed(hmac.digest(provider.key.public_key().public_bytes(*PUBLIC), text, "sha256"))).decode()


def forged(provider: Provider, **header: Any) -> str:
    """A right token's claims and signature under another header."""
    return f"{base64.urlsafe_b64encode(json.dumps(header).encode()).rstrip(b'=').decode()}.{provider.token().split('.', 1)[1]}"


def own_key(provider: Provider) -> str:
    """Signed with a key that the token itself brings along, and says where to find."""
    key = ec.generate_private_key(ec.SECP256R1())
    return provider.token(key, headers={"jwk": ECAlgorithm.to_jwk(key.public_key(), as_dict=True), "jku": "http://127.0.0.1:9/", "x5c": ["AA"]})


BAD: dict[str, tuple[str, Callable[[Provider], str]]] = {
    "ended": ("it has ended", lambda provider: provider.token(exp=int(time.time()) - 1)),
    "not yet": ("not valid yet", lambda provider: provider.token(nbf=int(time.time()) + 600)),
    "audience": ("aud", lambda provider: provider.token(aud="else")),
    "issuer": ("iss", lambda provider: provider.token(iss="https://evil.example.org")),
    "an end beyond all numbers": ("cannot be read", lambda provider: provider.token(exp=10**400)),
    "no exp": ("lacks", lambda provider: provider.token(exp=None)),
    "no sub": ("lacks", lambda provider: provider.token(sub=None)),
    "no aud": ("lacks", lambda provider: provider.token(aud=None)),
    "empty sub": ("subject", lambda provider: provider.token(sub="")),
    "long sub": ("subject", lambda provider: provider.token(sub="x" * 256)),
    "odd sub": ("subject", lambda provider: provider.token(sub="a\nb")),
    "odd group": ("group", lambda provider: provider.token(groups=[1])),
    "many groups": ("groups", lambda provider: provider.token(groups=[str(number) for number in range(257)])),
    "another key": ("signature", lambda provider: provider.token(ec.generate_private_key(ec.SECP256R1()))),
    "RSA under an EC key's id": ("cannot be read", lambda provider: provider.token(rsa.generate_private_key(65537, 2048), "RS256")),
    "changed": ("signature", lambda provider: provider.token()[:-8] + "AAAAAAAA"),
    "none": ("alg", lambda provider: jwt.encode({"sub": "alice"}, "", "none")),
    "HS256": ("alg", lambda provider: provider.token("x" * 32, "HS256")),
    "HS256 with the public key": ("alg", hs256),
    "the shared key's id": ("not known", lambda provider: provider.token(headers={"kid": "shared"})),
    "the encrypting key's id": ("not known", lambda provider: provider.token(headers={"kid": "enc"})),
    "exp in words": ("cannot be read", lambda provider: provider.token(exp="tomorrow")),
    "exp in a list": ("cannot be read", lambda provider: provider.token(exp=[1])),
    "made tomorrow": ("not valid yet", lambda provider: provider.token(iat=int(time.time()) + 600)),
    "audiences": ("aud", lambda provider: provider.token(aud=["else", f"{AUDIENCE}2"])),
    "audience in an object": ("aud", lambda provider: provider.token(aud={AUDIENCE: True})),
    "a subject that is no text": ("cannot be read", lambda provider: provider.token(sub=7)),
    "kid that is a list": ("no JWT", lambda provider: forged(provider, alg="ES256", kid=["1"])),
    "kid that is a path": ("not known", lambda provider: provider.token(headers={"kid": "../../dev/null"})),
    "a key of its own": ("signature", own_key),
    "alg that is a list": ("alg", lambda provider: forged(provider, alg=["ES256"])),
    "none in capitals": ("alg", lambda provider: forged(provider, alg="NoNe")),
    "what must be understood": ("no JWT", lambda provider: provider.token(headers={"crit": ["x"], "x": 1})),
    "not encoded": ("no JWT", lambda provider: forged(provider, alg="ES256", b64=False)),
    "nonsense": ("no JWT", lambda provider: "a.b.c"),
    "empty": ("of the form", lambda provider: ""),
    # Beyond 16 KiB of headers gRPC itself may refuse it.
    "long": ("of the form", lambda provider: "x" * 12_289),
}


async def test_a_bad_token_gets_nowhere(provider: Provider, made: Certificates, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Each is UNAUTHENTICATED with its reason, on a connection whose certificate would do; none is in the log."""
    caplog.set_level(logging.DEBUG, "virtrpc_server")
    async with serving(tmp_path, **settings(provider, made, certificates=True)) as who, channel(who.address, made.ca, made.client) as opened:
        for name, (expected, token_of) in BAD.items():
            token = token_of(provider)
            error = await refusal(stub(opened).GetDomain(Watch(), metadata=bearing(token)))
            assert expected in (error.details() or ""), name
            assert not token or token not in caplog.text + (error.details() or "")
        await refusal(stub(opened).GetDomain(Watch(), metadata=[("authorization", "Basic YTpi")]))
        await refusal(stub(opened).GetDomain(Watch(), metadata=[*bearing(provider.token()), *bearing(provider.token())]))
    assert who.callers == []


async def test_a_token_is_taken_until_it_ends(provider: Provider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was found of it once does not outlive it."""
    async with serving(tmp_path, **settings(provider)) as who, unix(who) as opened:
        token = provider.token(exp=int(time.time()) + 600)
        await stub(opened).GetDomain(Watch(), metadata=bearing(token))
        later = time.time() + 601
        monkeypatch.setattr(time, "time", lambda: later)
        assert "it has ended" in ((await refusal(stub(opened).GetDomain(Watch(), metadata=bearing(token)))).details() or "")


async def test_a_stream_ends_with_its_token(provider: Provider, tmp_path: Path) -> None:
    """UNAUTHENTICATED, with a time to retry: a new token may be there by then."""
    async with serving(tmp_path, **settings(provider)) as who, unix(who) as opened:
        stream = stub(opened).WatchDomains(Watch(), metadata=bearing(provider.token(exp=time.time() + 4)))

        async def to_its_end() -> None:
            async for _ in stream:
                pass

        assert retries(await refusal(asyncio.wait_for(to_its_end(), 30)))
    assert [caller.name for caller in who.callers] == [NAME]


async def test_keys_in_a_file_are_read_again(provider: Provider, tmp_path: Path) -> None:
    """A token of a new key is refused with a time to retry, and taken once the file was read; the old key's is refused then."""
    async with serving(tmp_path, **settings(provider)) as who, unix(who) as opened:
        old = provider.token()
        await stub(opened).GetDomain(Watch(), metadata=bearing(old))
        provider.rotate()
        assert retries(await refusal(stub(opened).GetDomain(Watch(), metadata=bearing(provider.token()))))
        await until(lambda: _generation(who) == 2)
        await stub(opened).GetDomain(Watch(), metadata=bearing(provider.token()))
        await refusal(stub(opened).GetDomain(Watch(), metadata=bearing(old)))
    assert [caller.name for caller in who.callers] == [NAME] * 2


def _generation(who: Who) -> int:
    assert who.identities.tokens is not None
    return who.identities.tokens.keys.generation


async def test_of_several_keys_the_one_that_signed_it_tells_what_is_wrong(provider: Provider, tmp_path: Path) -> None:
    """Keys of other kinds, which say neither what they are for nor their id, are in nobody's way, whatever is tried with them."""
    keys = [
        ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP384R1()).public_key(), as_dict=True),
        RSAAlgorithm.to_jwk(rsa.generate_private_key(65537, 2048).public_key(), as_dict=True),
        ECAlgorithm.to_jwk(provider.key.public_key(), as_dict=True),
        OKPAlgorithm.to_jwk(ed25519.Ed25519PrivateKey.generate().public_key(), as_dict=True),
    ]
    provider.path.write_text(json.dumps({"keys": keys}))

    def signed(**claims: Any) -> str:
        told = {"iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "exp": int(time.time()) + 600, **claims}
        return jwt.encode(told, provider.key, "ES256")

    bad = {
        "it has ended": signed(exp=1),
        "it is for somebody else": signed(aud="else"),
        "its subject": signed(sub="a\nb"),
        "its signature is wrong": signed()[:-8] + "AAAAAAAA",
    }
    async with serving(tmp_path, **settings(provider)) as who, unix(who) as opened:
        for expected, text in bad.items():
            assert expected in ((await refusal(stub(opened).GetDomain(Watch(), metadata=bearing(text)))).details() or "")
        for algorithm in ASYMMETRIC:
            header = base64.urlsafe_b64encode(json.dumps({"alg": algorithm}).encode()).rstrip(b"=").decode()
            await refusal(
                stub(opened).GetDomain(Watch(), metadata=bearing(f"{header}.{signed().split('.', 1)[1]}"))
            )  # its algorithm is in what was signed
        await stub(opened).GetDomain(Watch(), metadata=bearing(signed(aud=["else", AUDIENCE])))
    assert [caller.name for caller in who.callers] == [NAME]


async def test_keys_that_cannot_be_read_stay(provider: Provider, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A file that becomes nonsense changes nothing but the log, and a server does not begin with one."""
    async with serving(tmp_path, **settings(provider)) as who, unix(who) as opened:
        provider.path.write_text('{"keys": [')
        await refusal(stub(opened).GetDomain(Watch(), metadata=bearing(provider.token(headers={"kid": "unknown"}))))
        await until(lambda: "stay as they were" in caplog.text)
        await stub(opened).GetDomain(Watch(), metadata=bearing(provider.token()))
    for text in ("nonsense", "[]", '{"keys": []}', '{"keys": [{"kty": "oct", "k": "eA"}]}'):
        provider.path.write_text(text)
        with pytest.raises(ConfigurationError, match=r"jwks_file: .*jwks\.json: "):
            async with serving(tmp_path, **settings(provider)):
                pass


@contextmanager
def web(answer: Callable[[], tuple[int, bytes]]) -> Iterator[tuple[str, list[str]]]:
    """A web server on this machine, and what it was asked for."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # http.server's name
            asked.append(self.path)
            status, body = answer()
            self.send_response(status)
            if status == 302:
                self.send_header("location", "/elsewhere")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/keys", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


async def test_keys_come_from_a_url(provider: Provider, tmp_path: Path) -> None:
    """They are there soon after the start; tokens of a key that is not known have the URL asked once, not once each."""
    with web(lambda: (200, json.dumps(provider.jwks()).encode())) as (url, asked):
        async with serving(tmp_path, **settings(provider, jwks_file=None, jwks_url=url)) as who, unix(who) as opened:
            await until(lambda: _generation(who) == 1)
            await stub(opened).GetDomain(Watch(), metadata=bearing(provider.token()))
            for number in range(20):
                await refusal(stub(opened).GetDomain(Watch(), metadata=bearing(provider.token(headers={"kid": f"unknown-{number}"}))))
            assert asked == ["/keys"]
    assert [caller.name for caller in who.callers] == [NAME]


async def test_an_issuer_that_answers_nonsense_is_asked_again(
    provider: Provider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Half an answer, none that is HTTP, and one that is nested without end: the keys stay, and new ones are taken as soon as there are some."""
    monkeypatch.setattr(KeyUrl, "pause", 0.01)
    bodies = [
        raw(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"),
        raw(b"nonsense\r\n\r\n"),
        raw(b"HTTP/1.1 200 OK\r\n\r\n" + b"[" * 200_000),
        raw(b""),
    ]
    good = raw(b"HTTP/1.1 200 OK\r\n\r\n" + json.dumps(provider.jwks()).encode())
    left = [*bodies, good]

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await (left.pop(0) if len(left) > 1 else good)(reader, writer)

    server = await asyncio.start_server(serve, "127.0.0.1")
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    async with server, serving(tmp_path, **settings(provider, jwks_file=None, jwks_url=url)) as who, unix(who) as opened:

        async def asked() -> bool:
            await refusal(stub(opened).GetDomain(Watch(), metadata=bearing(provider.token(headers={"kid": "unknown"}))))
            return _generation(who) == 1

        async with asyncio.timeout(30):
            while not await asked():
                pass
        await stub(opened).GetDomain(Watch(), metadata=bearing(provider.token()))
    assert caplog.text.count("the keys of tokens stay as they were") == len(bodies)


def raw(answer: bytes) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    """A web server that says this."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    return serve


async def test_a_file_that_could_not_be_read_is_read_once_it_can_be(provider: Provider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where nothing of it changes but who may read it."""
    source = KeyFile(provider.path)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", lambda _path: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
        with pytest.raises(PermissionError):
            source.read()
    assert source.read() == provider.path.read_bytes()
    assert source.read() is None


@pytest.mark.parametrize("answer", [(302, b""), (500, b""), (200, b"nonsense"), (200, b" " * ((1 << 20) + 1))])
async def test_an_issuer_that_is_away_lets_nobody_in(
    provider: Provider, tmp_path: Path, caplog: pytest.LogCaptureFixture, answer: tuple[int, bytes]
) -> None:
    """A redirect, an error, nonsense or too much: the server serves, tokens are refused with a time to retry, and the log says why."""
    with web(lambda: answer) as (url, asked):
        async with serving(tmp_path, **settings(provider, jwks_file=None, jwks_url=url)) as who, unix(who) as opened:
            await until(lambda: "the keys of tokens stay as they were" in caplog.text)
            assert retries(await refusal(stub(opened).GetDomain(Watch(), metadata=bearing(provider.token()))))
            await ask(unix(who))
        assert asked == ["/keys"]
    assert [caller.name for caller in who.callers] == ["unix"]


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ({"algorithms": ["HS256"]}, "jwt.algorithms: expected some of RS256"),
        ({"algorithms": ["none"]}, "jwt.algorithms: expected some of"),
        ({"jwks_url": "http://idp.example.org/keys"}, "jwt.jwks_url: expected an https address"),
        ({"jwks_url": "file:///etc/passwd"}, "jwt.jwks_url: expected an https address"),
        ({"jwks_url": "https://idp.example.org/keys", "jwks_file": "/f"}, "jwt: expected one of jwks_file and jwks_url"),
        ({}, "jwt: expected one of jwks_file and jwks_url"),
        ({"issuer": "a#b", "jwks_file": "/f"}, "jwt.issuer: expected what iss says"),
    ],
)
def test_what_would_not_be_safe_cannot_be_set(table: dict[str, Any], expected: str) -> None:
    """Each is an error that names the key."""
    with pytest.raises(ConfigurationError) as caught:
        load({"jwt": {"issuer": ISSUER, "audience": AUDIENCE, **table}})
    assert expected in str(caught.value)


def test_tokens_do_not_come_in_the_clear(provider: Provider) -> None:
    """A TCP address without TLS is refused where there are tokens, insecure or not."""
    with pytest.raises(ConfigurationError, match=r"tokens sent to .* in the clear could be read by others: set tls"):
        load({"listen": "127.0.0.1:1", "insecure": True, **settings(provider)})
