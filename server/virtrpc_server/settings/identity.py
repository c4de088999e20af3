"""What can be set of who calls."""

from __future__ import annotations

from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from virtrpc_server.settings.schema import Strict


class TlsSettings(Strict):
    """TLS on the TCP address. PEM files, which are read again when they change."""

    certificate: Path
    """The server's, with the intermediate ones after it."""
    key: Path
    """Its key, without a password."""
    client_ca: Path | None = None
    """Authorities that sign clients' certificates. With it nobody connects who has none of theirs."""
    common_names: bool = True
    """Whether a certificate's CN is an identity too."""
    connection_seconds: float = Field(default=900.0, ge=1, le=86_400 * 7)
    """After how long a client is told to connect anew, and so to show a certificate that is valid then; open streams go on. It must be shorter than
    what a certificate has left when it is renewed: a call on a connection whose certificate has ended is refused."""


ASYMMETRIC = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")


class JwtSettings(Strict):
    """Bearer tokens that name a caller."""

    issuer: str
    """What `iss` must be."""
    audience: str
    """What `aud` must be, or have among others."""
    jwks_file: Path | None = None
    """The issuer's keys, read again when they change."""
    jwks_url: str | None = None
    """Where they are instead: https, or http on this machine."""
    algorithms: tuple[str, ...] = ASYMMETRIC
    """How tokens may be signed; only with keys of which this server has the public half."""
    leeway_seconds: float = Field(default=30.0, ge=0, le=300)
    """How far the issuer's clock may be off."""
    groups_claims: tuple[str, ...] = ("groups", "roles")
    """Claims that name groups or roles; dots lead into objects, as in realm_access.roles."""

    @field_validator("issuer")
    @classmethod
    def _check_issuer(cls, issuer: str) -> str:
        if not issuer or "#" in issuer or not issuer.isprintable() or " " in issuer:
            raise ValueError(f"expected what iss says, such as https://idp.example.org, without # and blanks, not {issuer!r}")
        return issuer

    @field_validator("algorithms")
    @classmethod
    def _check_algorithms(cls, algorithms: tuple[str, ...]) -> tuple[str, ...]:
        wrong = [name for name in algorithms if name not in ASYMMETRIC]
        if wrong or not algorithms:
            raise ValueError(f"expected some of {', '.join(ASYMMETRIC)}, not {', '.join(wrong) or 'none'}")
        return algorithms

    @field_validator("jwks_url")
    @classmethod
    def _check_url(cls, url: str | None) -> str | None:
        parts = urlsplit(url or "https://x")
        if not parts.hostname or (parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in ("localhost", "127.0.0.1", "::1"))):
            raise ValueError(f"expected an https address, not {url!r}: whoever could change what comes from there could be anybody")
        return url

    @model_validator(mode="after")
    def _check_source(self) -> Self:
        if (self.jwks_file is None) == (self.jwks_url is None):
            raise ValueError("expected one of jwks_file and jwks_url")
        return self
