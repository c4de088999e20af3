"""The keys that an identity provider signs tokens with: a JWKS, out of a file or from a URL, read beside the loop and again when it has changed."""

from __future__ import annotations

import asyncio
import json
import logging
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey

from virtrpc_server.settings.schema import ConfigurationError
from virtrpc_server.stamps import Stamp, stamp_of

log = logging.getLogger(__name__)

MAX_BYTES = 1 << 20
LEAST_RSA_BITS = 2048
"""A shorter key can be found out, and then anybody could sign with it."""
FETCH_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Key:
    """One that may have signed a token."""

    id: str | None
    algorithm: str | None
    """The only one that it is for, where it says."""
    key: Any


class Source(Protocol):
    """Where a JWKS comes from."""

    every: float
    """Seconds between two looks."""
    pause: float
    """Seconds that a look for an unknown key comes after the last one at the earliest."""

    def read(self) -> bytes | None:
        """The document; None where it is as it was. Blocks; raises OSError."""


class KeyFile:
    """A file."""

    every, pause = 5.0, 1.0

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: Stamp | None = None

    def read(self) -> bytes | None:
        """See Source."""
        stamp = stamp_of(self._path)
        if stamp == self._stamp:
            return None
        text = self._path.read_bytes()
        self._stamp = stamp  # what could not be read is read again, although it has not changed
        return text

    def __str__(self) -> str:
        return str(self._path)


class KeyUrl:
    """An https address (or one of this machine)."""

    every, pause = 300.0, 10.0

    def __init__(self, url: str) -> None:
        self._url = url
        self._opener = urllib.request.build_opener(_NoRedirects)

    def read(self) -> bytes | None:
        """See Source."""
        with self._opener.open(self._url, timeout=FETCH_SECONDS) as answer:
            text: bytes = answer.read(MAX_BYTES + 1)
        if len(text) > MAX_BYTES:
            raise OSError(f"it is longer than {MAX_BYTES} bytes")
        return text

    def __str__(self) -> str:
        return self._url


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Keys come from where the configuration says."""

    def redirect_request(self, *_: Any) -> None:
        """Answers that send us elsewhere are errors."""


class Keys:
    """The keys as last read. While a source is away, or says nonsense, those that were read stay."""

    def __init__(self, source: Source, algorithms: Sequence[str]) -> None:
        self._source, self._algorithms = source, algorithms
        self._keys: tuple[Key, ...] = ()
        self._wanted = asyncio.Event()
        self._looking: asyncio.Task[None] | None = None
        self._fault = ""
        self.generation = 0
        """Counts changes."""

    def load(self) -> None:
        """Read a file before anything is served. Raises ConfigurationError."""
        try:
            self._take(self._source.read())
        except (OSError, ValueError, RecursionError) as error:
            raise ConfigurationError(f"jwt.jwks_file: {self._source}: {_words(error)}") from None

    def start(self) -> None:
        """Look for changes from now on."""
        self._looking = asyncio.create_task(self._look())

    async def stop(self) -> None:
        """Look no more."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait({self._looking})

    def fitting(self, key_id: str | None, algorithm: str) -> Iterator[Key]:
        """Those that may have signed a token that says so of itself."""
        for key in self._keys:
            if key_id in (None, key.id) and key.algorithm in (None, algorithm):
                yield key

    def want(self) -> None:
        """Look soon: a token names a key that is not known. However many do, the source is asked as often as its pause allows."""
        self._wanted.set()

    async def _look(self) -> None:
        while True:
            await self._refresh()
            await asyncio.sleep(self._source.pause)
            try:
                async with asyncio.timeout(self._source.every):
                    await self._wanted.wait()
            except TimeoutError:
                pass
            self._wanted.clear()

    async def _refresh(self) -> None:
        try:
            self._take(await asyncio.to_thread(self._source.read))
        except Exception as error:  # noqa: BLE001 # whatever comes of what somebody sends, such as half an answer, the next look is to come
            fault = _words(error)
            if fault != self._fault:
                log.warning("the keys of tokens stay as they were (%s of them): %s: %s", len(self._keys), self._source, fault)
            self._fault = fault

    def _take(self, text: bytes | None) -> None:
        if text is None:
            return
        keys = tuple(_keys(json.loads(text), self._algorithms))
        if not keys:
            raise ValueError("it has no key that could have signed a token")
        self._fault = ""
        if repr(keys) != repr(self._keys):
            log.info("%s keys of tokens from %s", len(keys), self._source)
            self._keys = keys
            self.generation += 1


def _keys(document: Any, algorithms: Sequence[str]) -> Iterator[Key]:
    """The public keys for signatures of a JWKS; others are left out: a set may hold whatever an identity provider needs."""
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise ValueError('it is no JWKS: {"keys": [...]}')
    for entry in entries:
        # oct: a secret that both sides know would let this server, and whoever reads the set, sign tokens.
        if not isinstance(entry, dict) or entry.get("kty") not in ("RSA", "EC", "OKP") or entry.get("use", "sig") != "sig":
            continue
        algorithm, key_id = entry.get("alg"), entry.get("kid")
        if algorithm is not None and algorithm not in algorithms:
            continue
        try:
            key = jwt.PyJWK(entry).key
        except jwt.PyJWTError:
            continue
        if isinstance(key, RSAPublicKey | RSAPrivateKey) and key.key_size < LEAST_RSA_BITS:
            continue
        # A set that holds private keys is a fault of the identity provider's, and no reason to keep them here.
        yield Key(key_id if isinstance(key_id, str) else None, algorithm, key.public_key() if hasattr(key, "private_bytes") else key)


def _words(error: Exception) -> str:
    reason = error.reason if isinstance(error, urllib.error.URLError) else error.strerror if isinstance(error, OSError) and error.strerror else error
    return str(reason) or type(error).__name__
