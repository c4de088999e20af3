"""TLS, certificates, tokens and reasons of the Python client and the command line, against real servers."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from tests.beds.certificates import SPIFFE_ID, Authority, Certificates, make
from tests.clients.fake import Fake, draining, serving, serving_apart
from tests.server.who import Who
from tests.server.who import serving as serving_who
from virtrpc import AsyncClient, Client, ServerUnavailable, Tls, Unauthenticated
from virtrpc.advice import connection_advice
from virtrpc.credentials import Credentials
from virtrpc.v1 import query_pb2

TCP = "127.0.0.1:1"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """The usual certificates."""
    return make(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable of the shell that runs the tests."""
    for name in [name for name in os.environ if name.startswith("VIRTRPC_")]:
        monkeypatch.delenv(name)


@pytest.fixture
async def who(made: Certificates, tmp_path: Path) -> AsyncIterator[Who]:
    """A server that wants certificates."""
    table = {"certificate": made.server.certificate, "key": made.server.key, "client_ca": made.ca}
    async with serving_who(tmp_path, listen="127.0.0.1:0", tls=table) as server:
        yield server


def tls(made: Certificates, **more: Any) -> Tls:
    """The client's certificate."""
    return Tls(**{"ca": made.ca, "certificate": made.client.certificate, "key": made.client.key, **more})


async def ask(client: AsyncClient) -> None:
    """One call, by a client that is closed afterwards."""
    async with client:
        await client.get_domain("web")


def ask_blocking(client: Client) -> None:
    """The same."""
    with client:
        client.get_domain("web")


async def test_both_clients_show_their_certificate(made: Certificates, who: Who) -> None:
    """The server knows them by it."""
    await ask(AsyncClient(who.address, tls=tls(made)))
    await asyncio.to_thread(ask_blocking, Client(who.address, tls=tls(made)))
    assert [caller.name for caller in who.callers] == [SPIFFE_ID] * 2


async def test_the_environment_stands_for_the_arguments(made: Certificates, who: Who, monkeypatch: pytest.MonkeyPatch) -> None:
    """VIRTRPC_CA, VIRTRPC_CERTIFICATE and VIRTRPC_KEY are enough, and are for TCP only."""
    for name, path in (("CA", made.ca), ("CERTIFICATE", made.client.certificate), ("KEY", made.client.key)):
        monkeypatch.setenv(f"VIRTRPC_{name}", str(path))
    await ask(AsyncClient(who.address))
    await ask(AsyncClient(who.unix))
    assert [caller.name for caller in who.callers] == [SPIFFE_ID, "unix"]


async def test_another_name_in_the_certificate_can_be_said(made: Certificates, who: Who) -> None:
    """server_name stands for the address's name, and without it a wrong name has advice."""
    await ask(AsyncClient(who.address, tls=tls(made, server_name="virtrpc.test")))
    with pytest.raises(ServerUnavailable) as caught:
        await ask(AsyncClient(who.address, tls=tls(made, server_name="elsewhere.test"), timeout=5))
    assert "--server-name" in connection_advice(caught.value.message)


async def test_a_failed_handshake_has_advice(made: Certificates, who: Who) -> None:
    """gRPC's words for a server that is not trusted, and for one that does not trust us, have words for people beside them."""
    cases: list[tuple[Tls | bool, str]] = [
        (tls(made, ca=made.other_ca), "--ca"),
        (Tls(ca=made.ca), "--client-certificate"),
        (tls(made, certificate=made.expired.certificate, key=made.expired.key), "is valid"),
        (False, "may want TLS"),
    ]
    for given, expected in cases:
        with pytest.raises(ServerUnavailable) as caught:
            await ask(AsyncClient(who.address, tls=given, timeout=5))
        assert expected in connection_advice(caught.value.message), caught.value.message
    assert who.callers == []


async def test_tls_to_a_server_in_the_clear_has_advice(made: Certificates, tmp_path: Path) -> None:
    """Whoever speaks TLS to a plaintext port is told so."""
    async with serving_who(tmp_path, listen="127.0.0.1:0", insecure=True) as server:
        with pytest.raises(ServerUnavailable) as caught:
            await ask(AsyncClient(server.address, tls=tls(made), timeout=5))
    assert "does not speak TLS" in connection_advice(caught.value.message)


async def test_a_renewed_certificate_is_taken(tmp_path: Path) -> None:
    """A client that lives long shows the new certificate at its next call, and streams that are open go on with the old one."""
    ca = Authority(tmp_path)
    server, first, second = ca.server(), ca.issue("first", dns=["first"]), ca.issue("second", dns=["second"])
    shutil.copy(first.certificate, tmp_path / "own.pem")
    shutil.copy(first.key, tmp_path / "own.key")
    table = {"certificate": server.certificate, "key": server.key, "client_ca": ca.path}
    own = Tls(ca.path, tmp_path / "own.pem", tmp_path / "own.key")
    async with serving_who(tmp_path, listen="127.0.0.1:0", tls=table) as who, AsyncClient(who.address, tls=own) as client:
        watch = aiter(client.watch_domains())
        await anext(watch)
        shutil.copy(second.certificate, tmp_path / "own.pem")
        shutil.copy(second.key, tmp_path / "own.key")
        await client.get_domain("web")
        await anext(watch)
    assert [caller.name for caller in who.callers] == ["dns:first", "dns:second"]


@pytest.mark.parametrize(
    ("address", "given", "expected"),
    [
        ("unix:///s", {"tls": True}, "TLS is for HOST:PORT"),
        (TCP, {"tls": Tls(certificate="/c")}, "a certificate needs its key"),
        (TCP, {"tls": Tls(ca="/nowhere.pem")}, "/nowhere.pem cannot be read: No such file or directory"),
        (TCP, {"token": "abc"}, "in the clear could be read by others"),
        (TCP, {"token": "abc", "tls": False}, "in the clear could be read by others"),
    ],
)
def test_what_cannot_be_used_is_refused(address: str, given: dict[str, Any], expected: str) -> None:
    """Before anything is sent: a token never goes over TCP in the clear."""
    for made in (AsyncClient, Client):
        with pytest.raises(ValueError, match=expected):
            made(address, **given)


def tokens(tmp_path: Path) -> Iterator[tuple[Any, str]]:
    """Each way to give a token, and the text that must arrive."""
    (tmp_path / "token").write_text("from-a-file\n")
    yield "as-a-text", "as-a-text"
    yield tmp_path / "token", "from-a-file"
    yield lambda: "by-a-function", "by-a-function"


async def test_a_token_goes_with_each_call(tmp_path: Path) -> None:
    """A text, a file and a function; a file is read again for each call."""
    seen: list[str] = []
    async with serving() as fake:
        fake.on["GetDomain"] = noting(seen, "authorization", query_pb2.GetDomainResponse)
        for token, text in tokens(tmp_path):
            await ask(AsyncClient(fake.address, token=token))
            assert seen.pop() == f"Bearer {text}"
        async with AsyncClient(fake.address, token=tmp_path / "token") as client:
            (tmp_path / "token").write_text("renewed")
            await client.get_domain("web")
            assert seen.pop() == "Bearer renewed"


def noting(seen: list[str], header: str, answer: Callable[[], Any]) -> Callable[[Any, Any], Any]:
    """An RPC that notes a header."""

    def note(_request: Any, context: Any) -> Any:
        seen.extend(value for key, value in context.invocation_metadata() if key == header)
        return answer()

    return note


def test_the_blocking_client_sends_its_token_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """VIRTRPC_TOKEN is one."""
    monkeypatch.setenv("VIRTRPC_TOKEN", "from-the-environment")
    seen: list[str] = []
    with serving_apart() as fake:
        fake.on["GetDomain"] = noting(seen, "authorization", query_pb2.GetDomainResponse)
        ask_blocking(Client(fake.address))
    assert seen == ["Bearer from-the-environment"]


def test_what_is_no_token_is_not_sent(tmp_path: Path) -> None:
    """A text that could be something else, such as a key, is not sent to anybody."""
    (tmp_path / "key").write_text("-----BEGIN PRIVATE KEY-----\nMIIB")
    with pytest.raises(ValueError, match="is none"):
        Credentials("unix:///s", token=tmp_path / "key").metadata()


async def test_a_stream_whose_token_ends_comes_back(fake: Fake, tmp_path: Path) -> None:
    """UNAUTHENTICATED with a time to retry, as when a token ended, is no end of a watch: it goes on with what the file says by then."""
    (tmp_path / "token").write_text("old")
    seen: list[str] = []

    async def watch(_request: Any, context: Any) -> AsyncIterator[query_pb2.WatchDomainsResponse]:
        (token,) = [value for key, value in context.invocation_metadata() if key == "authorization"]
        seen.append(token)
        yield query_pb2.WatchDomainsResponse(resume_token=token)
        if token == "Bearer old":
            (tmp_path / "token").write_text("new")
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "your token has ended", draining(0.01, "UNAUTHENTICATED"))

    fake.on["WatchDomains"] = watch
    async with AsyncClient(fake.address, token=tmp_path / "token") as client:
        batches = aiter(client.watch_domains())
        assert [(await anext(batches)).resume_token for _ in range(2)] == ["Bearer old", "Bearer new"]


async def test_refused_for_good_ends_a_watch(fake: Fake) -> None:
    """UNAUTHENTICATED without a time to retry is the end."""

    async def watch(_request: Any, context: Any) -> AsyncIterator[query_pb2.WatchDomainsResponse]:
        yield query_pb2.WatchDomainsResponse(resume_token="x")
        await context.abort(grpc.StatusCode.UNAUTHENTICATED, "who are you?")

    fake.on["WatchDomains"] = watch
    async with AsyncClient(fake.address) as client:
        with pytest.raises(Unauthenticated):
            async for _ in client.watch_domains():
                pass


async def test_a_reason_goes_with_the_calls_of_one_client(fake: Fake) -> None:
    """`because` says why, for its own calls only, in whatever letters."""
    seen: list[str] = []
    fake.on["GetDomain"] = noting(seen, "virtrpc-reason", query_pb2.GetDomainResponse)
    async with AsyncClient(fake.address) as client:
        await client.because("ticket 7: 100 % für Ä").get_domain("web")
        await client.get_domain("web")
    assert seen == ["ticket 7: 100 %25 f%C3%BCr %C3%84"]


async def run(*words: str) -> tuple[int | None, str, str]:
    """The program's exit code, stdout and stderr."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "virtrpc.cli", *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    printed, complaints = await process.communicate()
    return process.returncode, printed.decode().strip(), complaints.decode().strip()


async def test_the_program_takes_them_as_options(made: Certificates, who: Who) -> None:
    """Before or after the command; the quick way of `health` too."""
    words = (
        "--address",
        who.address,
        "--ca",
        str(made.ca),
        "--client-certificate",
        str(made.client.certificate),
        "--client-key",
        str(made.client.key),
    )
    assert (await run(*words, "show", "web"))[0] == 0
    assert (await run("show", "web", *words))[0] == 0
    assert [caller.name for caller in who.callers] == [SPIFFE_ID] * 2
    assert await run("health", *words) == (0, "SERVING", "")
    assert await run(*words, "health") == (0, "SERVING", "")


async def test_the_program_says_what_to_do(made: Certificates, who: Who) -> None:
    """Without a certificate, and with a file that is not there."""
    code, _, complaint = await run("show", "web", "--address", who.address, "--ca", str(made.ca), "--timeout", "5s")
    assert (code, "--client-certificate" in complaint) == (3, True)
    code, _, complaint = await run("show", "web", "--address", who.address, "--ca", "/nowhere")
    assert (code, "/nowhere cannot be read" in complaint) == (2, True)
