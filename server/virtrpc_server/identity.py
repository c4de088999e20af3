"""Who a caller is, by the way that it came."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from grpc import aio

from virtrpc_server.caller import BY_SOCKET, NOBODY, Caller

Identify = Callable[[aio.ServicerContext[Any, Any]], Caller]
"""Says who calls. Raises Refusal (UNAUTHENTICATED)."""


def by_way(context: aio.ServicerContext[Any, Any]) -> Caller:
    """Whoever reached the socket, or nobody in particular."""
    return BY_SOCKET if context.peer().startswith("unix") else NOBODY
