"""Where the server is, and how a channel to it is set up."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

DEFAULT_ADDRESS = "unix:///run/virtrpc/virtrpc.sock"
ADDRESS_VARIABLE = "VIRTRPC_ADDRESS"

# Pages and XML stay below 1 MiB by contract, capabilities of large hosts and unary answers with several parts may not.
_MAX_MESSAGE_BYTES = 16 * 1024 * 1024

# Reads and cancels are harmless to repeat. Verbs are not listed: repeating one is the job handle's business, under its request_id.
_RETRY = {
    "methodConfig": [
        {
            "name": [
                {"service": "virtrpc.v1.QueryService"},
                *({"service": "virtrpc.v1.JobService", "method": method} for method in ("GetJob", "ListJobs", "CancelJob")),
            ],
            "retryPolicy": {
                "maxAttempts": 3,
                "initialBackoff": "0.1s",
                "maxBackoff": "1s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ]
}

_SCHEME = re.compile(r"(unix|unix-abstract|dns|ipv4|ipv6|vsock|xds):")
_HOST_AND_PORT = re.compile(r"([^\s:/]+|\[[0-9A-Fa-f:.%]+\]):[0-9]{1,5}")

CHANNEL_OPTIONS: tuple[tuple[str, int | str], ...] = (
    ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", _MAX_MESSAGE_BYTES),
    # Only while a call is open: an idle client costs the server nothing.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 0),
    # A server that is back is found within two seconds, not within gRPC's usual two minutes: gRPC adds a fifth to the longest pause.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 1_500),
    ("grpc.service_config", json.dumps(_RETRY)),
)


def resolve_address(address: str | None = None) -> str:
    """The address to call: `address`, else $VIRTRPC_ADDRESS, else the socket of the user's own server where there is one, else the system's.

    A path that starts with / stands for its Unix socket; everything else is handed to gRPC: `unix:///path`, `host:port`, `dns:///host:port`.
    Raises ValueError for what none of these is.
    """
    chosen = address or os.environ.get(ADDRESS_VARIABLE) or _users_socket() or DEFAULT_ADDRESS
    if chosen.startswith("/"):
        return f"unix://{chosen}"
    _check(chosen)
    return chosen


def _check(address: str) -> None:
    # gRPC takes these for a name to look up, or for a port of its own choice, and says so in words of its own.
    if address.startswith("unix://") and not address.startswith("unix:///"):
        raise ValueError(f"{address!r} lacks a slash: unix:///{address.removeprefix('unix://')}")
    if address.startswith(("http://", "https://")):
        raise ValueError(f"{address!r} is a web address: write HOST:PORT")
    if not _SCHEME.match(address) and not _HOST_AND_PORT.fullmatch(address):
        raise ValueError(f"{address!r} is no address: write unix:///PATH or HOST:PORT, such as 127.0.0.1:50051 or [::1]:50051")


def _users_socket() -> str:
    """Where a server that this user started listens, if it does; root's is the system's."""
    if os.geteuid() == 0:
        return ""
    socket = Path(os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}") / "virtrpc/virtrpc.sock"
    return str(socket) if socket.exists() else ""
