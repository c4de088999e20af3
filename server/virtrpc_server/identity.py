"""Who a caller is, by the way that it came."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from grpc import aio
from grpc_health.v1 import health
from grpc_reflection.v1alpha import reflection

from virtrpc_server import forwarded
from virtrpc_server.caller import BY_SOCKET, NOBODY, Call, Caller, Way
from virtrpc_server.certificates import subject_of
from virtrpc_server.errors import refuse
from virtrpc_server.settings import Settings

Context = aio.ServicerContext[Any, Any]
Identify = Callable[[Context, Call], Caller]
"""Says who calls. Raises Refusal (UNAUTHENTICATED)."""

OPEN = frozenset({health.SERVICE_NAME, reflection.SERVICE_NAME})
"""Services that also those may ask who could connect but have not said who they are: a probe has no token."""


def by_way(context: Context, _call: Call) -> Caller:
    """Whoever reached the socket, or nobody in particular."""
    return BY_SOCKET if context.peer().startswith("unix") else NOBODY


class Identities:
    """Tells callers apart."""

    def __init__(self, settings: Settings) -> None:
        self._common_names = settings.tls is None or settings.tls.common_names
        self._anonymous = settings.anonymous
        self._proxies = frozenset(settings.trusted_proxies)

    def __call__(self, context: Context, call: Call) -> Caller:
        """Who calls. Raises Refusal (UNAUTHENTICATED)."""
        peer = BY_SOCKET if context.peer().startswith("unix") else self._certified(context.auth_context())
        headers = [str(value) for key, value in context.invocation_metadata() or () if key == forwarded.HEADER]
        caller = self._forwarded(peer, headers) if headers or not self._proxies.isdisjoint(peer.names if peer else ()) else peer
        if caller is None:
            if self._anonymous or call.service in OPEN:
                return NOBODY
            raise refuse("UNAUTHENTICATED", "you have not said who you are: this server wants a client certificate")
        return caller

    def _certified(self, connection: Any) -> Caller | None:
        """Whose certificate a connection was made with; None where there was none."""
        (pem,) = connection.get("x509_pem_cert") or (None,)
        if pem is None:
            return None
        subject = subject_of(pem, self._common_names)
        if connection.get("ssl_session_reused") == [b"true"] and time.time() > subject.expires:
            # TLS does not look at the certificate again where a session is taken up.
            raise refuse("UNAUTHENTICATED", "your certificate has ended")
        if not subject.names:
            kinds = "a URI, a DNS name or a CN" if self._common_names else "a URI or a DNS name"
            raise refuse("UNAUTHENTICATED", f"your certificate does not say whose it is: it needs {kinds}, and one SPIFFE id at most")
        return Caller(subject.names[0], Way.TLS, subject.names)

    def _forwarded(self, peer: Caller | None, headers: list[str]) -> Caller | None:
        """Whom a trusted proxy calls for: never itself, whose rights are not its callers'. None where it does not say."""
        if peer is None or self._proxies.isdisjoint(peer.names):
            # Not ignored: a proxy that was forgotten would lend its rights to everybody.
            name = NOBODY.name if peer is None else peer.name
            raise refuse("UNAUTHENTICATED", f"{forwarded.HEADER} is taken from trusted_proxies only, and {name} is none of them")
        if not headers:
            return None
        try:
            if len(headers) > 1:
                raise ValueError("it is there several times")
            names = forwarded.caller_of(forwarded.hops_of(headers[0], self._common_names), self._proxies)
        except ValueError as error:
            raise refuse("UNAUTHENTICATED", f"{forwarded.HEADER} is malformed: {error}") from None
        if not names:
            raise refuse("UNAUTHENTICATED", f"{forwarded.HEADER} does not say for whom {peer.name} calls")
        return Caller(names[0], Way.PROXY, names, peer.name)
