"""The server's certificate, and whose certificates it takes: read from files, and read again when they change.

gRPC asks before each handshake, from a thread of its own, so that a change holds from the next connection on; connections that there are, and
their streams, go on. A change that cannot be used (half written, or a key that is not the certificate's) leaves what there was.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from virtrpc_server.settings.identity import TlsSettings
from virtrpc_server.settings.schema import ConfigurationError
from virtrpc_server.stamps import Stamp, stamp_of

log = logging.getLogger(__name__)

WARN_FRACTION = 0.1
"""How much of its time a certificate has left when the log begins to warn: whoever renews them does that earlier."""


@dataclass(frozen=True, slots=True)
class Material:
    """What was read at once."""

    key: bytes
    chain: bytes
    client_ca: bytes | None
    begins: datetime
    expires: datetime

    def configuration(self) -> grpc.ServerCertificateConfiguration:
        """As gRPC takes it."""
        return grpc.ssl_server_certificate_configuration([(self.key, self.chain)], root_certificates=self.client_ca)


class Tls:
    """The files as they are now. Raises ConfigurationError where they cannot be used when it is made. May be asked from any thread."""

    def __init__(self, settings: TlsSettings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._stamp = self._stamped()
        self._material = self._read()
        self._told: dict[str, object] = {}
        self._fresh = False
        # Kept: gRPC's core has but a pointer to it.
        self.credentials = grpc.dynamic_ssl_server_credentials(
            self._material.configuration(),
            self._for_handshake,  # type: ignore[arg-type] # None is "no change", which the stubs leave out
            require_client_authentication=settings.client_ca is not None,
        )
        self._look_ahead()

    @property
    def options(self) -> tuple[tuple[str, int], ...]:
        """The server's, for its connections: gRPC lets each live up to a tenth longer or shorter."""
        return (("grpc.max_connection_age_ms", int(self._settings.connection_seconds * 1000)),)

    @property
    def expires(self) -> datetime:
        """When the certificate that is served now ends."""
        return self._material.expires

    @property
    def remaining(self) -> float:
        """In how many seconds that is; below 0 where it has ended."""
        return (self.expires - datetime.now(UTC)).total_seconds()

    def refresh(self) -> None:
        """Read the files where they have changed, and warn of a certificate that is about to end."""
        with self._lock:
            self._refresh()

    def _for_handshake(self) -> grpc.ServerCertificateConfiguration | None:
        with self._lock:
            self._refresh()
            fresh, self._fresh = self._fresh, False
            return self._material.configuration() if fresh else None

    def _refresh(self) -> None:
        self._look_ahead()
        try:
            # Before they are read: what is written meanwhile is a change of its own.
            stamp = self._stamped()
            if stamp == self._stamp:
                return
            self._stamp = stamp
            self._material = self._read()
        except ConfigurationError as error:
            self._say("unusable", (self._stamp, str(error)), "the certificate stays as it was: %s", error)
            return
        self._fresh = True
        log.info("%s has changed: connections from now on get the new one, which ends on %s", self._settings.certificate, self._material.expires)

    def _look_ahead(self) -> None:
        material, now = self._material, datetime.now(UTC)
        if now >= material.expires:
            self._say("ended", material, "the certificate %s has ended: nobody can connect any more", self._settings.certificate)
        elif now >= material.expires - (material.expires - material.begins) * WARN_FRACTION:
            self._say("ending", material, "the certificate %s ends on %s", self._settings.certificate, material.expires)

    def _say(self, kind: str, of: object, text: str, *words: object) -> None:
        # Once: handshakes come by the hundred.
        if self._told.get(kind) != of:
            self._told[kind] = of
            log.warning(text, *words)

    def _stamped(self) -> tuple[Stamp, ...]:
        """What tells one state of the files from another."""
        return tuple(_stamp(path) for path in (self._settings.certificate, self._settings.key, self._settings.client_ca) if path is not None)

    def _read(self) -> Material:
        settings = self._settings
        chain, key = _contents(settings.certificate), _contents(settings.key)
        leaf = _certificates(settings.certificate, chain)[0]
        if leaf.public_key().public_bytes(*_SPKI) != _public(settings.key, key):
            raise ConfigurationError(f"{settings.key} is not the key of {settings.certificate}")
        ca = None
        if settings.client_ca is not None:
            ca = _contents(settings.client_ca)
            _certificates(settings.client_ca, ca)
        return Material(key, chain, ca, leaf.not_valid_before_utc, leaf.not_valid_after_utc)


_SPKI = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _stamp(path: Path) -> Stamp:
    try:
        return stamp_of(path)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from None


def _contents(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from None


def _certificates(path: Path, pem: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise ConfigurationError(f"{path} has no certificates in PEM form: {error}") from None


def _public(path: Path, pem: bytes) -> bytes:
    """The public half of a key."""
    try:
        return load_pem_private_key(pem, password=None).public_key().public_bytes(*_SPKI)
    except TypeError:
        raise ConfigurationError(
            f"{path} has a password, and nobody here could type it: store the key without one, readable to this server only"
        ) from None
    except Exception as error:  # noqa: BLE001 # cryptography raises several, UnsupportedAlgorithm among them
        raise ConfigurationError(f"{path} has no key in PEM form: {type(error).__name__}") from None
