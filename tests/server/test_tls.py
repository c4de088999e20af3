"""The server's certificate while it is changed under its feet."""

from __future__ import annotations

import asyncio
import logging
import shutil
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat, load_pem_private_key
from grpc import StatusCode, aio

from tests.beds.certificates import DAY, SPIFFE_ID, Authority, Pair
from tests.server.who import GUARD_SECONDS, GetDomain, Watch, ask, channel, serving, sessions, stub
from virtrpc_server.settings.identity import TlsSettings
from virtrpc_server.settings.schema import ConfigurationError
from virtrpc_server.tls import Tls


@pytest.fixture
def ca(tmp_path: Path) -> Authority:
    """Signs what is asked."""
    return Authority(tmp_path)


def table(pair: Pair, ca: Path | None) -> TlsSettings:
    """Settings with these files."""
    return TlsSettings(certificate=pair.certificate, key=pair.key, client_ca=ca)


async def served(address: str) -> int:
    """The serial number of the certificate that a server shows."""
    host, _, port = address.rpartition(":")
    pem = await asyncio.to_thread(ssl.get_server_certificate, (host, int(port)))
    return x509.load_pem_x509_certificate(pem.encode()).serial_number


def serial(pair: Pair) -> int:
    """A certificate's serial number."""
    return x509.load_pem_x509_certificate(pair.certificate.read_bytes()).serial_number


async def test_a_new_certificate_holds_from_the_next_connection_on(ca: Authority, tmp_path: Path) -> None:
    """It is served without a restart, and streams that are open go on."""
    settings, client = table(ca.server(), ca.path), ca.issue("client", uris=[SPIFFE_ID])
    async with serving(tmp_path, listen="127.0.0.1:0", tls=settings) as who, channel(who.address, ca.path, client) as opened:
        stream = stub(opened).WatchDomains(Watch())
        await stream.read()
        before = await served(who.address)
        renewed = ca.server()
        assert await served(who.address) == serial(renewed) != before
        assert (await stream.read()).resume_token == "again"
        await ask(channel(who.address, ca.path, client))
        assert who.tls is not None
        assert who.tls.expires == x509.load_pem_x509_certificate(renewed.certificate.read_bytes()).not_valid_after_utc


async def test_another_authority_holds_from_the_next_connection_on(ca: Authority, tmp_path: Path) -> None:
    """A client CA that is replaced lets the new one's clients in, and the old one's no more, nor a TLS session of theirs."""
    trusted = tmp_path / "clients.pem"
    shutil.copy(ca.path, trusted)
    other = Authority(tmp_path, "other")
    old, new = ca.issue("old", uris=[SPIFFE_ID]), other.issue("new", uris=[SPIFFE_ID])
    async with serving(tmp_path, listen="127.0.0.1:0", tls=table(ca.server(), trusted)) as who:
        kept = sessions()
        await ask(channel(who.address, ca.path, old, *kept))
        shutil.copy(other.path, trusted)
        await ask(channel(who.address, ca.path, new))
        for options in ((), kept):
            with pytest.raises(aio.AioRpcError) as caught:
                await ask(channel(who.address, ca.path, old, *options))
            assert caught.value.code() is StatusCode.UNAVAILABLE


async def test_a_connection_does_not_last_for_ever(ca: Authority, tmp_path: Path) -> None:
    """After a while a client must connect anew: one whose authority is not trusted any more is out then, and its open stream goes on."""
    trusted = tmp_path / "clients.pem"
    shutil.copy(ca.path, trusted)
    settings = table(ca.server(), trusted).model_copy(update={"connection_seconds": 1.0})
    client = ca.issue("client", uris=[SPIFFE_ID])
    async with serving(tmp_path, listen="127.0.0.1:0", tls=settings) as who, channel(who.address, ca.path, client) as opened:
        stream = stub(opened).WatchDomains(Watch())
        await stream.read()
        shutil.copy(Authority(tmp_path, "other").path, trusted)

        async def refused() -> bool:
            try:
                await stub(opened).GetDomain(GetDomain())
            except aio.AioRpcError as error:
                return error.code() is StatusCode.UNAVAILABLE
            return False

        async with asyncio.timeout(GUARD_SECONDS):
            while not await refused():
                assert (await stream.read()).resume_token == "again"
        assert (await stream.read()).resume_token == "again"


async def test_kubernetes_swaps_a_link(ca: Authority, tmp_path: Path) -> None:
    """A change of the directory behind a link, as Kubernetes mounts secrets, is a change of the files."""
    for version in ("one", "two"):
        (tmp_path / version).mkdir()
    _, new = ca.server("one/tls"), ca.server("two/tls")
    (tmp_path / "data").symlink_to("one")
    for name in ("tls.pem", "tls.key"):
        (tmp_path / name).symlink_to(f"data/{name}")
    settings = table(Pair(tmp_path / "tls.pem", tmp_path / "tls.key"), None)
    async with serving(tmp_path, listen="127.0.0.1:0", insecure=True, tls=settings) as who:
        (tmp_path / "swap").symlink_to("two")
        (tmp_path / "swap").rename(tmp_path / "data")
        assert await served(who.address) == serial(new)


async def test_what_is_half_written_changes_nothing(ca: Authority, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A certificate whose key has not come yet, and a file that is cut off or gone, leave the old one in place; the log says so, once."""
    pair = ca.server()
    async with serving(tmp_path, listen="127.0.0.1:0", insecure=True, tls=table(pair, None)) as who:
        before = serial(pair)
        key, renewed = pair.key.read_bytes(), ca.server("renewed")
        shutil.copy(renewed.certificate, pair.certificate)
        assert [await served(who.address) for _ in range(3)] == [before] * 3
        assert caplog.text.count("is not the key of") == 1
        pair.certificate.write_bytes(b"-----BEGIN CERTIFICATE-----\nMIIB")
        assert await served(who.address) == before
        assert "has no certificates in PEM form" in caplog.text
        pair.certificate.unlink()
        assert await served(who.address) == before
        assert f"{pair.certificate} cannot be read" in caplog.text
        assert key.decode() not in caplog.text
        shutil.copy(renewed.certificate, pair.certificate)
        shutil.copy(renewed.key, pair.key)
        assert await served(who.address) == serial(renewed)


def test_a_change_is_seen_without_connections(ca: Authority, caplog: pytest.LogCaptureFixture) -> None:
    """A look at the files is enough; the next connection still gets the new certificate."""
    caplog.set_level(logging.INFO)
    tls = Tls(table(ca.server(), None))
    ca.server()
    tls.refresh()
    assert "has changed" in caplog.text
    assert tls._for_handshake() is not None
    assert tls._for_handshake() is None


@pytest.mark.parametrize(
    ("lasts", "expected"),
    [(90 * DAY, ""), (timedelta(days=1, hours=1), "ends on"), (timedelta(hours=23), "nobody can connect any more")],
)
def test_the_end_of_a_certificate_is_told_ahead(ca: Authority, caplog: pytest.LogCaptureFixture, lasts: timedelta, expected: str) -> None:
    """The log warns, once, in the last tenth of a certificate's time, and when it is over."""
    pair = ca.issue("server", dns=["localhost"], begins=datetime.now(UTC) - DAY, lasts=lasts, server=True)
    tls = Tls(table(pair, None))
    tls.refresh()
    assert caplog.text.count("WARNING") == bool(expected)
    assert expected in caplog.text
    assert tls.expires == x509.load_pem_x509_certificate(pair.certificate.read_bytes()).not_valid_after_utc


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("server.pem", None, "server.pem cannot be read: No such file"),
        ("server.pem", "nonsense", "server.pem has no certificates in PEM form"),
        ("server.key", None, "server.key cannot be read"),
        ("server.key", "nonsense", "server.key has no key in PEM form"),
        ("ca.pem", "", "ca.pem has no certificates in PEM form"),
    ],
)
def test_a_server_does_not_begin_with_files_that_cannot_be_used(ca: Authority, tmp_path: Path, name: str, text: str | None, expected: str) -> None:
    """What is wrong with which file is told."""
    pair = ca.server()
    (tmp_path / name).unlink() if text is None else (tmp_path / name).write_text(text)
    with pytest.raises(ConfigurationError, match=expected):
        Tls(table(pair, ca.path))


def test_a_key_with_a_password_is_refused(ca: Authority) -> None:
    """Nobody could type it: the error says what to do."""
    pair = ca.server()
    key = load_pem_private_key(pair.key.read_bytes(), password=None)
    pair.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")))
    with pytest.raises(ConfigurationError, match="without one"):
        Tls(table(pair, ca.path))
