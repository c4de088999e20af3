"""Whom a client trusts, and how it says who it is: TLS, certificates, tokens."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeAlias, TypeVar
from urllib.parse import quote
from weakref import WeakSet

import grpc

from virtrpc.address import CHANNEL_OPTIONS

CA_VARIABLE, CERTIFICATE_VARIABLE, KEY_VARIABLE = "VIRTRPC_CA", "VIRTRPC_CERTIFICATE", "VIRTRPC_KEY"
SERVER_NAME_VARIABLE = "VIRTRPC_SERVER_NAME"
TOKEN_VARIABLE, TOKEN_FILE_VARIABLE = "VIRTRPC_TOKEN", "VIRTRPC_TOKEN_FILE"
PUBLIC = "public"
"""Instead of a file of authorities: those that gRPC itself knows."""

Token: TypeAlias = str | Path | Callable[[], str]
"""A token's text, the file that holds it (read for each call), or what gives it for each call and does not wait for anything."""
Metadata: TypeAlias = tuple[tuple[str, str], ...]

_LOCAL = ("unix:", "unix-abstract:", "vsock:")
_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]+")
_PRINTABLE = "".join(map(chr, range(0x20, 0x7F))).replace("%", "")


@dataclass(frozen=True)
class Tls:
    """TLS to the server. PEM files; they are read when a client is made, and again once they have changed."""

    ca: str | Path = PUBLIC
    """The authorities that sign servers' certificates."""
    certificate: str | Path | None = None
    """The client's own, with the intermediate ones after it."""
    key: str | Path | None = None
    """Its key."""
    server_name: str = ""
    """The name in the server's certificate, where it is not the one in the address."""


class Credentials:
    """What a client brings along, from its arguments or the environment.

    Raises ValueError for what cannot be used, or would show a token to whoever listens on the way.
    """

    def __init__(self, address: str, tls: Tls | bool | None = None, token: Token | None = None) -> None:
        local = address.startswith(_LOCAL)
        if local and tls:
            raise ValueError(f"TLS is for HOST:PORT, and {address} is a socket of this machine")
        self.tls = None if local else _tls(tls)
        self._token = _from_environment() if token is None else token
        if self._token is not None and self.tls is None and not local:
            raise ValueError(
                f"a token sent to {address} in the clear could be read by others: say which authority signs its certificate ({CA_VARIABLE})"
            )
        if self.tls is not None:
            self.channel()

    @property
    def options(self) -> list[tuple[str, int | str]]:
        """The channel's options."""
        name = self.tls.server_name if self.tls is not None else ""
        return [*CHANNEL_OPTIONS, *([("grpc.ssl_target_name_override", name)] if name else [])]

    def channel(self) -> grpc.ChannelCredentials | None:
        """For a new channel; None for one in the clear."""
        if self.tls is None:
            return None
        tls = self.tls
        if (tls.certificate is None) != (tls.key is None):
            raise ValueError("a certificate needs its key, and a key its certificate")
        ca = None if tls.ca == PUBLIC else _contents(tls.ca)
        return grpc.ssl_channel_credentials(ca, _contents(tls.key), _contents(tls.certificate))

    def stamp(self) -> tuple[object, ...]:
        """What tells one state of the files from another."""
        if self.tls is None:
            return ()
        return tuple(map(_stamp, (self.tls.ca, self.tls.certificate, self.tls.key)))

    def metadata(self) -> Metadata:
        """What goes with each call. Raises ValueError where there is no token to be had."""
        token = self._token
        if token is None:
            return ()
        text = (_contents(token) or b"").decode(errors="replace") if isinstance(token, Path) else token if isinstance(token, str) else token()
        if not _TOKEN.fullmatch(text.strip()):
            raise ValueError("what should be a token is none: it is letters, digits and ._~+/=-")
        return (("authorization", f"Bearer {text.strip()}"),)


def reason_metadata(reason: str) -> Metadata:
    """Why somebody calls, as the header that the server notes down: printable ASCII, the rest in the manner of URLs."""
    return (("virtrpc-reason", quote(reason, safe=_PRINTABLE)),) if reason else ()


C = TypeVar("C", bound=object)


class Line(Generic[C]):
    """The channel to a server: made when it is needed, and anew once its certificates have changed. Calls that are open keep theirs."""

    def __init__(self, address: str, credentials: Credentials, insecure: Callable[..., C], secure: Callable[..., C]) -> None:
        self._address, self._credentials = address, credentials
        self._insecure, self._secure = insecure, secure
        self._channel: C | None = None
        self._stamp: tuple[object, ...] = ()
        self.opened: WeakSet[C] = WeakSet()
        """All that somebody still uses."""

    def channel(self) -> C:
        """The one for a new call."""
        stamp = self._credentials.stamp()
        if self._channel is None or (stamp != self._stamp and None not in stamp):
            self._channel, self._stamp = self._made(), stamp
            self.opened.add(self._channel)
        return self._channel

    def metadata(self) -> Metadata:
        """See Credentials."""
        return self._credentials.metadata()

    def _made(self) -> C:
        credentials, options = self._credentials.channel(), self._credentials.options
        return self._insecure(self._address, options=options) if credentials is None else self._secure(self._address, credentials, options=options)


def tls_of(ca: str | None = None, certificate: str | None = None, key: str | None = None, server_name: str | None = None) -> Tls | None:
    """TLS as these say, and the environment where they say nothing; None where neither says anything."""
    names = (CA_VARIABLE, CERTIFICATE_VARIABLE, KEY_VARIABLE, SERVER_NAME_VARIABLE)
    said = [given or os.environ.get(name) or None for given, name in zip((ca, certificate, key, server_name), names, strict=True)]
    return Tls(said[0] or PUBLIC, said[1], said[2], said[3] or "") if any(said) else None


def _tls(tls: Tls | bool | None) -> Tls | None:
    if isinstance(tls, Tls):
        return tls
    return None if tls is False else tls_of() or (Tls() if tls else None)


def _from_environment() -> Token | None:
    file = os.environ.get(TOKEN_FILE_VARIABLE)
    return os.environ.get(TOKEN_VARIABLE) or (Path(file) if file else None)


def _contents(path: str | Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None


def _stamp(path: str | Path | None) -> object:
    """None for a file that is away: it may be between its old and its new text."""
    if path is None or path == PUBLIC:
        return ""
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
