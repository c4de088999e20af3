"""Whose certificate a proxy saw: Envoy's header x-forwarded-client-cert, read as strictly as Envoy writes it.

https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_conn_man/headers#x-forwarded-client-cert
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache

from cryptography import x509
from cryptography.x509.oid import NameOID

from virtrpc_server.certificates import MAX_NAMES, common_names_of, dns_name, is_spiffe, uri_name

HEADER = "x-forwarded-client-cert"
MAX_HEADER = 16 << 10
MAX_HOPS = 16

_PAIR = re.compile(r'(?P<key>[A-Za-z]+)=(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<plain>[^",;]*))(?P<end>[,;]|\Z)')
_KEYS = frozenset({"by", "hash", "cert", "chain", "subject", "uri", "dns"})
_ATTRIBUTES = {"emailAddress": NameOID.EMAIL_ADDRESS, "serialNumber": NameOID.SERIAL_NUMBER}
_NAMED = {"uri": uri_name, "dns": dns_name}

Names = tuple[str, ...]


@lru_cache(maxsize=1024)
def hops_of(header: str, common_names: bool) -> tuple[Names, ...]:
    """The names of each client in the header, the first one first: each proxy appends who connected to it. ValueError where it is malformed."""
    if len(header) > MAX_HEADER:
        raise ValueError(f"it is longer than {MAX_HEADER} bytes")
    hops = tuple(_names(hop, common_names) for hop in _elements(header))
    if len(hops) > MAX_HOPS:
        raise ValueError(f"it has more than {MAX_HOPS} elements")
    return hops


def caller_of(hops: Sequence[Names], trusted: frozenset[str]) -> Names:
    """Who called, when whoever passed the header on is trusted: the last one who is no trusted proxy, for only those are believed what they append.

    Empty where that is nobody: no element, one without names, or none but proxies.
    """
    for names in reversed(hops):
        if trusted.isdisjoint(names):
            return names
    return ()


def _elements(header: str) -> Iterator[list[tuple[str, str]]]:
    """Each element as keys, in lower case, and values."""
    element: list[tuple[str, str]] = []
    position = 0
    while True:
        found = _PAIR.match(header, position)
        if found is None or found["key"].lower() not in _KEYS:
            raise ValueError(f"it cannot be read at character {position + 1}")
        element.append((found["key"].lower(), found["plain"] if found["quoted"] is None else found["quoted"]))
        position = found.end()
        if found["end"] != ";":
            yield element
            element = []
        if not found["end"]:
            return


def _names(element: list[tuple[str, str]], common_names: bool) -> Names:
    keys = [key for key, _ in element]
    if any(keys.count(key) > 1 for key in ("hash", "cert", "chain", "subject")):
        raise ValueError("an element says the same twice")
    # The ids before other URIs, those before DNS names, and the CN last: as for a certificate that is seen here.
    found = [name for key, value in element if key in _NAMED and value and (name := _NAMED[key](value))]
    found.sort(key=lambda name: 0 if is_spiffe(name) else 2 if name.startswith("dns:") else 1)
    subjects = [value for key, value in element if key == "subject" and value] if common_names else []
    names = dict.fromkeys([*found, *(name for subject in subjects for name in _common(subject))])
    clear = len(names) <= MAX_NAMES and sum(map(is_spiffe, names)) <= 1
    return tuple(names) if clear else ()


def _common(subject: str) -> list[str]:
    # Envoy escapes nothing: backslashes in it, before quotes too, are those of RFC 4514.
    try:
        name = x509.Name.from_rfc4514_string(subject, _ATTRIBUTES)
    except ValueError:  # one of the many attributes that have no standard name: its CN is not known
        return []
    return common_names_of(name)
