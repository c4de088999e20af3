"""The gRPC server: where it listens, what it says of its health, how it ends."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from grpc import RpcMethodHandler, aio
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from virtrpc_server.contract import SERVICE_NAMES
from virtrpc_server.guard import Guard
from virtrpc_server.health import Health
from virtrpc_server.settings.addresses import plaintext, split_address
from virtrpc_server.settings.limits import LimitSettings
from virtrpc_server.tls import Tls
from virtrpc_server.unix_socket import Access, ListenError, UnixSocket

log = logging.getLogger(__name__)

HOST_HEALTH = "virtrpc.host/"
POLICY_HEALTH = "virtrpc.policy"
DEFAULT_LIMITS = LimitSettings()
MAX_PENDING = 50_000
"""RPCs that may come in at once, each waiting for a turn of the loop: about 10 KiB each."""

OPTIONS = (
    ("grpc.max_send_message_length", 8 << 20),
    ("grpc.so_reuseport", 0),
    # A watcher sits idle for hours: it may ping as often as it likes within reason, and a dead one is noticed.
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.max_pings_without_data", 0),
    # After a restart every watcher comes back at once. Of RPCs that wait for this server's turn gRPC's core would cancel some beyond a thousand,
    # and all beyond three thousand.
    ("grpc.server.max_pending_requests", MAX_PENDING),
    ("grpc.server.max_pending_requests_hard_limit", MAX_PENDING),
    # Whoever connects and does not speak HTTP/2, or TLS, has ten seconds; gRPC's own two minutes let a few callers hold every connection.
    ("grpc.server_handshake_timeout_ms", 10_000),
    ("grpc.http2.settings_timeout", 10_000),
    # A connection without an RPC for so long is closed in good order; a gRPC client opens another one when it has something to ask.
    ("grpc.max_connection_idle_ms", 600_000),
    # Headers: ours are a few hundred bytes, a token is a few thousand. Above the first number some are refused, above the second all.
    ("grpc.max_metadata_size", 16 << 10),
    ("grpc.absolute_max_metadata_size", 32 << 10),
)
LOOK_SECONDS = 30.0
"""How often the certificate's files are looked at besides at each connection."""
UNARY_CALLS = 1_000
"""RPCs that a connection may have out beside all the streams that its caller may have."""
OWN_DESCRIPTORS = 2048
"""File descriptors that are not for callers' connections."""
ENDING_SECONDS = 5.0
"""How long RPCs that were told to end are waited for: five thousand streams take two seconds."""
HANDLERS_SECONDS = 20.0
"""How long their handlers are waited for after that: one that takes so long has a fault."""


class Transport:
    """The server on its Unix socket and, when asked, on a TCP address, with TLS or in the clear.

    Made inside the running loop; services are added to `server` before `start`.
    """

    def __init__(
        self,
        socket_path: Path | None,
        listen: str | None = None,
        *,
        insecure: bool = False,
        tls: Tls | None = None,
        access: Access = Access(),  # noqa: B008 # frozen
        hosts: Iterable[str] = (),
        guard: Guard | None = None,
        limits: LimitSettings = DEFAULT_LIMITS,
    ) -> None:
        # Before gRPC's core starts: a fork while it runs kills the child.
        os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"
        self._socket = None if socket_path is None else UnixSocket(socket_path, access)
        self._listen, self._insecure, self._tls = listen, insecure, tls
        self._looking: asyncio.Task[None] | None = None
        self._guard = guard or Guard()
        self._health = Health()
        self.server: aio.Server = aio.server(interceptors=[self._guard], options=(*OPTIONS, *_limited(limits), *(() if tls is None else tls.options)))
        self.addresses: list[str] = []
        """Where it listens, as a gRPC client takes it."""
        self.draining = False
        """Set before the first stream is ended: a cancel that a handler sees from then on is no disconnect."""
        # Else gRPC would wait for the next RPC of each of fifty methods at once, and arm and disarm all of that with each: 0.1 ms.
        self.server.add_registered_method_handlers = _by_name_only  # type: ignore[method-assign, assignment] # no option says so
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self.server)
        reflection.enable_server_reflection((*SERVICE_NAMES, health.SERVICE_NAME, reflection.SERVICE_NAME), self.server)
        for name in hosts:
            self.set_host(name, serving=False)

    @property
    def calls(self) -> int:
        """How many RPCs are out."""
        return self._guard.calls

    async def start(self) -> None:
        """Listen and serve. Raises ListenError."""
        if self._listen is not None:
            self._listen_tcp(self._listen)
        if self._socket is not None:
            self._socket.open(self._bind)
            self.addresses.append(self._socket.address)
            self._guard.addresses["unix"] = {"server.address": self._socket.address.removeprefix("unix:")}
        await self.server.start()
        if self._tls is not None:
            self._looking = asyncio.create_task(self._look_after(self._tls))
        for name in ("", *SERVICE_NAMES):
            self._health.set(name, serving=True)

    def set_host(self, name: str, *, serving: bool) -> None:
        """Say whether a host can be reached; readiness of the server does not depend on it."""
        self._health.set(HOST_HEALTH + name, serving=serving and not self.draining)

    def set_policy(self, *, serving: bool) -> None:
        """Say whether the rules in force are those that the policy file has."""
        self._health.set(POLICY_HEALTH, serving=serving and not self.draining)

    def set_draining(self) -> None:
        """Say by health that nothing new should come here; RPCs are served as before."""
        self.draining = True
        self._health.all_down()

    async def drain(self, grace: float) -> None:
        """Take no new RPCs, give those that are out `grace` seconds to end, then end them with DRAINING."""
        self.set_draining()
        stopping = asyncio.ensure_future(self.server.stop(grace + ENDING_SECONDS))
        await asyncio.wait({stopping}, timeout=grace)
        self._guard.end_calls()
        await stopping
        await self._guard.over(HANDLERS_SECONDS)
        self._guard.close()
        self.remove_socket()
        if self._looking is not None:
            self._looking.cancel()

    def remove_socket(self) -> None:
        """Take the socket away, so that nobody tries it."""
        if self._socket is not None:
            self._socket.remove()

    async def stop(self) -> None:
        """End at once."""
        await self.drain(0)

    def _listen_tcp(self, listen: str) -> None:
        if self._tls is None and not self._insecure:
            raise ListenError(plaintext(listen))
        if self._insecure:
            log.warning("listening on %s without any authentication: whoever reaches it commands the hypervisors", listen)
        port = self._bind(listen, self._tls)
        self.addresses.append(f"{listen.rpartition(':')[0]}:{port}")
        self._guard.addresses["tcp"] = {"server.address": split_address(listen)[0], "server.port": port}

    def _bind(self, address: str, tls: Tls | None = None) -> int:
        try:
            return self.server.add_insecure_port(address) if tls is None else self.server.add_secure_port(address, tls.credentials)
        except RuntimeError as error:
            raise ListenError(f"cannot listen on {address}: the address is in use or not this machine's, or it may not be bound ({error})") from error

    async def _look_after(self, tls: Tls) -> None:
        # Also while nobody connects: a change that cannot be used, and a certificate that ends, are told in time.
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await asyncio.to_thread(tls.refresh)


def _limited(limits: LimitSettings) -> Iterator[tuple[str, int]]:
    yield "grpc.max_receive_message_length", limits.message_bytes
    if limits.streams:
        # Also those that are opened and sent no request, which no gate ever hears of. Above what the gate lets in: a client that has reached this
        # number waits in silence, and is not told why.
        yield "grpc.max_concurrent_streams", limits.streams + UNARY_CALLS
    if limits.connections:
        yield "grpc.max_allowed_incoming_connections", min(limits.connections, room_for_connections(limits.connections))


def room_for_connections(wanted: int) -> int:
    """How many connections there are file descriptors for, beside those of drivers and the journal; the process may have more from then on."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    soft = max(soft, min(hard, wanted + OWN_DESCRIPTORS))
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return max(1, soft - OWN_DESCRIPTORS, soft // 2)


def _by_name_only(_service: str, _handlers: Mapping[str, RpcMethodHandler[Any, Any]]) -> None:
    """Servicers give their handlers by name as well, which is all that an interceptor's server needs."""
