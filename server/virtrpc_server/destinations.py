"""Where a guest, its memory and its disks may be sent. A libvirt URI can run commands and name files; what passes here cannot.

A text is taken as it stands or refused: nothing is decoded, trimmed or put into lower case, since libvirt would read it differently then.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection
from urllib.parse import SplitResult, urlsplit

from virtrpc_server.errors import Refusal, refuse

DATA_SCHEMES = frozenset({"tcp", "rdma"})
DISK_SCHEMES = frozenset({"tcp"})
MAX_LENGTH = 1024
_PLAIN = re.compile(r"[A-Za-z0-9.+_~:/@\[\]-]*", re.ASCII)
"""What a destination is made of. No per cent sign: a decoded one could be anything; no question mark, hash, quote, backslash or space."""
_HOST = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(\.(?!-)[A-Za-z0-9-]{1,63})*\.?", re.ASCII)


def connection_uri(uri: str, schemes: Collection[str]) -> str:
    """The URI of a destination's libvirt. Raises MIGRATION_TARGET_NOT_ALLOWED."""
    parts = _split(uri)
    scheme = uri.partition(":")[0]
    if scheme not in schemes:
        allowed = ", ".join(sorted(schemes)) or "none"
        raise not_allowed(f"its scheme {scheme!r} is not one of those allowed ({allowed})", uri)
    if not parts.hostname:
        raise not_allowed("it names no host", uri)
    if parts.password is not None:
        raise not_allowed("it has a password", uri)
    return uri


def same_daemon(one: str, other: str) -> bool:
    """Whether two URIs name the same hypervisor of the same host, as far as their texts tell; ports compare where the transports are the same."""
    first, second = _place(one), _place(other)
    same_port = first[3] != second[3] or first[4] == second[4]
    return bool(first[1]) and first[:3] == second[:3] and same_port


def _place(uri: str) -> tuple[str, str, str, str, int | None]:
    parts = urlsplit(uri)
    hypervisor, _, transport = parts.scheme.partition("+")
    return hypervisor, (parts.hostname or "").rstrip("."), parts.path, transport or "tls", parts.port


def memory_uri(uri: str) -> str:
    """Where memory is sent: tcp: or rdma: with a host, and a port perhaps. Raises MIGRATION_TARGET_NOT_ALLOWED."""
    return _data_uri(uri, DATA_SCHEMES, "migrate_uri")


def disks_uri(uri: str) -> str:
    """Where disks are sent: tcp: with a host, and a port perhaps. Raises MIGRATION_TARGET_NOT_ALLOWED."""
    return _data_uri(uri, DISK_SCHEMES, "disks' uri")


def listen_address(address: str) -> str:
    """An IP address or a host's name, and nothing else. Raises MIGRATION_TARGET_NOT_ALLOWED."""
    if address and not _is_host(address):
        raise not_allowed("a listen_address is an IP address or a host's name", address)
    return address


def _data_uri(uri: str, schemes: frozenset[str], what: str) -> str:
    if not uri:
        return ""
    scheme, _, rest = uri.partition(":")
    if scheme not in schemes:
        raise not_allowed(f"a {what} begins with {' or '.join(f'{name}:' for name in sorted(schemes))}", uri)
    # libvirt takes "tcp:host:port" beside "tcp://host:port".
    parts = _split(uri if rest.startswith("//") else f"{scheme}://{rest}", uri)
    if parts.username is not None or parts.path not in ("", "/") or not parts.hostname:
        raise not_allowed(f"a {what} has a host, and a port perhaps, and nothing else", uri)
    return uri


def _split(uri: str, shown: str = "") -> SplitResult:
    shown = shown or uri
    if len(uri) > MAX_LENGTH:
        raise not_allowed(f"it is longer than {MAX_LENGTH} characters", shown)
    if "?" in uri or "#" in uri:
        raise not_allowed("it has a query or a fragment", shown)
    if not _PLAIN.fullmatch(uri):
        raise not_allowed("it has characters that no destination needs", shown)
    try:
        parts = urlsplit(uri)
        _ = parts.port
    except ValueError:
        raise not_allowed("it is not a URI", shown) from None
    if parts.hostname and not _is_host(parts.hostname):
        raise not_allowed("what it names is no host", shown)
    return parts


def _is_host(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return len(text) <= 253 and _HOST.fullmatch(text) is not None
    return "%" not in text


def not_allowed(why: str, uri: str) -> Refusal:
    """The refusal of a destination, which shows it without what could be a secret."""
    return refuse("MIGRATION_TARGET_NOT_ALLOWED", f"the migration target is not allowed: {why}", uri=_without_credentials(uri)[:256])


def _without_credentials(uri: str) -> str:
    scheme, slashes, rest = re.split(r"[?#]", uri, maxsplit=1)[0].partition("://")
    place, slash, path = rest.partition("/")
    return f"{scheme}{slashes}{place.rpartition('@')[2]}{slash}{path}"
