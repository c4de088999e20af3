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
from virtrpc_server.tokens import HEADER, Tokens

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
        self.tokens = None if settings.jwt is None else Tokens(settings.jwt)
        certificates = settings.tls is not None and settings.tls.client_ca is not None
        ways = [*(["a client certificate"] if certificates else []), *(["a bearer token"] if self.tokens is not None else [])]
        self._wanted = " or ".join(ways) or "you to come by a trusted proxy that says so"

    def __call__(self, context: Context, call: Call) -> Caller:
        """Who calls. Raises Refusal (UNAUTHENTICATED)."""
        peer: Caller | None
        if context.peer().startswith("unix"):
            peer, secure = BY_SOCKET, True
        else:
            connection: Any = context.auth_context()
            peer, secure = self._certified(connection), connection.get("transport_security_type") == [b"ssl"]
        metadata = context.invocation_metadata() or ()
        headers = [str(value) for key, value in metadata if key == forwarded.HEADER]
        caller = self._forwarded(peer, headers) if headers or not self._proxies.isdisjoint(peer.names if peer else ()) else peer
        if self.tokens is not None:
            authorization = [str(value) for key, value in metadata if key == HEADER]
            if authorization:
                return self._bearer(self.tokens, authorization, peer, caller, secure)
        if caller is None:
            if self._anonymous or call.service in OPEN:
                return NOBODY
            raise refuse("UNAUTHENTICATED", f"you have not said who you are: this server wants {self._wanted}")
        return caller

    def _bearer(self, tokens: Tokens, headers: list[str], peer: Caller | None, caller: Caller | None, secure: bool) -> Caller:
        """Who brings a token: it names the caller, and what is known without it comes after."""
        if not secure:
            raise refuse("UNAUTHENTICATED", "your token came in the clear: others may have it now. Have a new one made, and speak TLS")
        if len(headers) > 1:
            raise refuse("UNAUTHENTICATED", "there are several authorization headers")
        bearer = tokens.bearer_of(headers[0])
        names = tuple(dict.fromkeys((*bearer.names, *(caller.names if caller else ()))))
        via = caller.via if caller else peer.name if peer else ""
        until = bearer.until if peer is None or peer.until is None else min(bearer.until, peer.until)
        return Caller(names[0], Way.TOKEN, names, via, until)

    def start(self) -> None:
        """Keep up with what it is told by from now on."""
        if self.tokens is not None:
            self.tokens.keys.start()

    async def stop(self) -> None:
        """No more."""
        if self.tokens is not None:
            await self.tokens.keys.stop()

    def _certified(self, connection: Any) -> Caller | None:
        """Whose certificate a connection was made with; None where there was none."""
        (pem,) = connection.get("x509_pem_cert") or (None,)
        if pem is None:
            return None
        subject = subject_of(pem, self._common_names)
        if not subject.names:
            kinds = "a URI, a DNS name or a CN" if self._common_names else "a URI or a DNS name"
            raise refuse("UNAUTHENTICATED", f"your certificate does not say whose it is: it needs {kinds}, and one SPIFFE id at most")
        if time.time() > subject.expires:
            # TLS looks at it when a connection is made, and not even then where a session is taken up.
            raise refuse("UNAUTHENTICATED", "your certificate has ended: make another connection, with a new one")
        return Caller(subject.names[0], Way.TLS, subject.names, until=subject.expires)

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
        return Caller(names[0], Way.PROXY, names, peer.name, peer.until)
