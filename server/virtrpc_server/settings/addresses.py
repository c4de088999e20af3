"""TCP addresses as settings write them."""

from __future__ import annotations

import ipaddress
import re

_NO_HOSTS = frozenset({"unix", "unix-abstract", "vsock", "dns", "ipv4", "ipv6", "xds", "passthrough"})
"""What gRPC takes for the kind of an address. A caller by a socket that is opened so would pass for one by ours, whose file says who may."""


def split_address(address: str) -> tuple[str, int]:
    """Host and port of "host:port" or "[ipv6]:port". Raises ValueError."""
    host, colon, port = address.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    if bare.lower() in _NO_HOSTS:
        raise ValueError(f"expected HOST:PORT: gRPC would take {address!r} for something else than a host of that name")
    if not colon or not bare or not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65535 or (":" in bare and bare == host):
        raise ValueError(f"expected HOST:PORT, such as 127.0.0.1:50051 or [::1]:50051, not {address!r}")
    return bare, int(port)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address. Names other than "localhost" may resolve to anything: they are not."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host.lower() == "localhost"
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def plaintext(listen: str) -> str:
    """Why a server does not listen on a TCP address where nobody says who it is, and what to do."""
    who = "every user of this machine" if is_loopback(split_address(listen)[0]) else "whoever reaches it"
    ways = "use the Unix socket, or set tls.client_ca, or jwt, or insecure if that is meant"
    return f"at {listen} nobody says who it is, and {who} would command the hypervisors: {ways}"
