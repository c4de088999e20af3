"""Whose a client's certificate is.

Names carry their kind (`dns:`, `cn:`; a SPIFFE id and any other URI are URIs themselves), so that no certificate passes for one of another kind by
the text of a name: gRPC's own list of a certificate's names does not tell a DNS name from a URI.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from cryptography import x509
from cryptography.x509.oid import NameOID

MAX_NAMES = 32
MAX_NAME = 1024
"""Characters. SPIFFE allows 2048 bytes; what is longer here names nobody."""

_URI = re.compile(r"[a-z][a-z0-9+.-]*:[A-Za-z0-9%._~:/?#@!$&'()*+,;=\[\]-]+")
_SPIFFE = re.compile(r"spiffe://[a-z0-9._-]{1,255}(/[A-Za-z0-9._-]+)+")
_RESERVED = ("dns:", "cn:", "jwt:", "group:")
"""What begins a name that is no URI. None of them is a scheme that certificates carry."""


@dataclass(frozen=True, slots=True)
class Subject:
    """Whose a certificate is."""

    names: tuple[str, ...]
    """SPIFFE id first, then other URIs, DNS names, and the CN where it counts; empty where it is nobody's."""
    expires: float
    """As time.time() tells it."""


@lru_cache(maxsize=4096)
def subject_of(pem: bytes, common_names: bool) -> Subject:
    """Whose a certificate is that its authority has signed.

    Names with characters that they cannot have are left out. A certificate with several SPIFFE ids is nobody's, as that standard has it, and so
    is one with more than MAX_NAMES names, and one that TLS took but that cannot be read here.
    """
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        names = dict.fromkeys([*_alternative(certificate), *(common_names_of(certificate.subject) if common_names else ())])
    except (ValueError, x509.InvalidVersion, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        return Subject((), 0.0)
    clear = len(names) <= MAX_NAMES and sum(map(is_spiffe, names)) <= 1
    return Subject(tuple(names) if clear else (), certificate.not_valid_after_utc.timestamp())


def is_spiffe(name: str) -> bool:
    """Whether a name is a SPIFFE id."""
    return _SPIFFE.fullmatch(name) is not None and not any(part in (".", "..") for part in name.split("/")[3:])


def uri_name(uri: str) -> str | None:
    """The name that a URI stands for; None for one that cannot stand for anybody."""
    if len(uri) > MAX_NAME or not _URI.fullmatch(uri) or uri.startswith(_RESERVED):
        return None
    return uri if is_spiffe(uri) or not uri.startswith("spiffe:") else None


def dns_name(name: str) -> str | None:
    """The name that a DNS name stands for: case does not count there."""
    return f"dns:{name.lower()}" if len(name) <= MAX_NAME and re.fullmatch(r"[A-Za-z0-9*._-]+", name) else None


def _common_name(name: str) -> str | None:
    return f"cn:{name}" if name and len(name) <= MAX_NAME and name.isprintable() and name == name.strip() else None


def _alternative(certificate: x509.Certificate) -> list[str]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    uris = [name for uri in found.get_values_for_type(x509.UniformResourceIdentifier) if (name := uri_name(uri))]
    dns = [name for value in found.get_values_for_type(x509.DNSName) if (name := dns_name(value))]
    return [*sorted(uris, key=is_spiffe, reverse=True), *dns]


def common_names_of(subject: x509.Name) -> list[str]:
    """The name that a subject's CN stands for, where it has one CN."""
    values = [attribute.value for attribute in subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    # Of several, programs differ in which one counts.
    return [name for value in values if isinstance(value, str) and (name := _common_name(value))] if len(values) == 1 else []
