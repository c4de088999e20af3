"""The gRPC server: where it listens, what it says of its health, how it ends."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from grpc import RpcMethodHandler, aio
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from virtrpc.v1 import job_pb2, query_pb2, snapshot_pb2
from virtrpc_server.guard import Guard
from virtrpc_server.health import Health
from virtrpc_server.settings import plaintext

__all__ = ["SERVICES", "ListenError", "Transport"]

log = logging.getLogger(__name__)

SERVICES = tuple(module.DESCRIPTOR.services_by_name[name].full_name for module, name in (
    (query_pb2, "QueryService"), (job_pb2, "JobService"), (snapshot_pb2, "SnapshotService"),
))  # fmt: skip
HOST_HEALTH = "virtrpc.host/"
MAX_PENDING = 50_000
"""RPCs that may come in at once, each waiting for a turn of the loop: about 10 KiB each."""

OPTIONS = (
    ("grpc.max_receive_message_length", 4 << 20),
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
)
SOCKET_PATH_BYTES = 107
ENDING_SECONDS = 5.0
"""How long RPCs that were told to end are waited for: five thousand streams take two seconds."""
HANDLERS_SECONDS = 20.0
"""How long their handlers are waited for after that: one that takes so long has a fault."""


class ListenError(Exception):
    """The server cannot listen where it should; the text says why and what to do."""


class Transport:
    """The server on its Unix socket and, when asked, on a TCP address.

    Made inside the running loop; services are added to `server` before `start`.
    """

    def __init__(
        self, socket_path: Path | None, listen: str | None = None, *, insecure: bool = False, hosts: Iterable[str] = (), guard: Guard | None = None
    ) -> None:
        # Before gRPC's core starts: a fork while it runs kills the child.
        os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"
        self._socket_path, self._listen, self._insecure = socket_path, listen, insecure
        self._socket_id: tuple[int, int] | None = None
        self._guard = guard or Guard()
        self._health = Health()
        self.server: aio.Server = aio.server(interceptors=[self._guard], options=OPTIONS)
        self.addresses: list[str] = []
        """Where it listens, as a gRPC client takes it."""
        self.draining = False
        """Set before the first stream is ended: a cancel that a handler sees from then on is no disconnect."""
        # Else gRPC would wait for the next RPC of each of fifty methods at once, and arm and disarm all of that with each: 0.1 ms.
        self.server.add_registered_method_handlers = _by_name_only  # type: ignore[method-assign, assignment] # no option says so
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self.server)
        reflection.enable_server_reflection((*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME), self.server)
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
        if self._socket_path is not None:
            self._listen_unix(self._socket_path)
        await self.server.start()
        for name in ("", *SERVICES):
            self._health.set(name, serving=True)

    def set_host(self, name: str, *, serving: bool) -> None:
        """Say whether a host can be reached; readiness of the server does not depend on it."""
        self._health.set(HOST_HEALTH + name, serving=serving and not self.draining)

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
        self.remove_socket()

    async def stop(self) -> None:
        """End at once."""
        await self.drain(0)

    def _listen_tcp(self, listen: str) -> None:
        if not self._insecure:
            raise ListenError(plaintext(listen))
        log.warning("listening on %s without any authentication: whoever reaches it commands the hypervisors", listen)
        port = self._bind(listen)
        self.addresses.append(f"{listen.rpartition(':')[0]}:{port}")

    def _listen_unix(self, path: Path) -> None:
        path = path.absolute()
        if len(os.fsencode(path)) > SOCKET_PATH_BYTES:
            raise ListenError(f"{path} is too long for a Unix socket: at most {SOCKET_PATH_BYTES} bytes")
        try:
            path.parent.mkdir(mode=0o755 if os.geteuid() == 0 else 0o700, parents=True, exist_ok=True)
            _clear(path)
            # The mask and not chmod alone: nobody may connect between the two.
            mask = os.umask(0o177)
            try:
                self._bind(f"unix:{quote(str(path))}")
            finally:
                os.umask(mask)
            path.chmod(0o600)
            self._socket_id = _file_id(path)
        except OSError as error:
            raise ListenError(f"cannot listen on {path}: {error}") from error
        self.addresses.append(f"unix:{path}")

    def _bind(self, address: str) -> int:
        try:
            return self.server.add_insecure_port(address)
        except RuntimeError as error:
            raise ListenError(f"cannot listen on {address}: the address is in use or not this machine's, or it may not be bound ({error})") from error

    def remove_socket(self) -> None:
        """Take the socket away, so that nobody tries it."""
        # Only ours: another server may have taken the path meanwhile.
        if self._socket_path is not None and self._socket_id is not None and _file_id(self._socket_path) == self._socket_id:
            self._socket_path.unlink(missing_ok=True)
        self._socket_id = None


def _by_name_only(_service: str, _handlers: Mapping[str, RpcMethodHandler[Any, Any]]) -> None:
    """Servicers give their handlers by name as well, which is all that an interceptor's server needs."""


def _file_id(path: Path) -> tuple[int, int] | None:
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _clear(path: Path) -> None:
    """Remove a socket that nobody answers on: gRPC itself would take away one that is in use."""
    if _file_id(path) is None:
        return
    if not stat.S_ISSOCK(path.lstat().st_mode):
        raise ListenError(f"{path} exists and is not a socket")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            log.info("removing %s: its server is gone", path)
            path.unlink()
            return
        except TimeoutError:
            pass  # it has an owner, who is busy
    raise ListenError(f"another server answers on {path}")
