"""A real server whose one RPC notes who called, and clients of it with each kind of certificate."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
from google.rpc import error_details_pb2  # type: ignore[import-untyped] # googleapis-common-protos has no py.typed
from grpc import aio
from grpc._cython import cygrpc  # type: ignore[attr-defined] # grpc offers session caches nowhere else
from grpc_status import rpc_status

from tests.beds.certificates import Pair
from virtrpc.v1 import query_pb2, query_pb2_grpc
from virtrpc_server.caller import Caller, call
from virtrpc_server.contract import SERVICE_NAMES
from virtrpc_server.guard import Guard
from virtrpc_server.identity import Identities
from virtrpc_server.settings import Settings, load
from virtrpc_server.tls import Tls
from virtrpc_server.transport import Transport

GUARD_SECONDS = 30.0
Context = aio.ServicerContext[Any, Any]
Metadata = Sequence[tuple[str, str]]
GetDomain, Answer = query_pb2.GetDomainRequest, query_pb2.GetDomainResponse
Watch, Batch = query_pb2.WatchDomainsRequest, query_pb2.WatchDomainsResponse


class Who:
    """The server. `callers` are those whose RPC reached its handler, in order."""

    def __init__(self, settings: Settings) -> None:
        self.callers: list[Caller] = []
        self.tls = None if settings.tls is None else Tls(settings.tls)
        self.identities = Identities(settings)
        guard = Guard(self.identities)
        self.transport = Transport(settings.socket, settings.listen, insecure=settings.anonymous, tls=self.tls, guard=guard)
        methods: Any = {
            "GetDomain": grpc.unary_unary_rpc_method_handler(self._get_domain, GetDomain.FromString, Answer.SerializeToString),
            "WatchDomains": grpc.unary_stream_rpc_method_handler(self._watch_domains, Watch.FromString, Batch.SerializeToString),
        }
        self.transport.server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE_NAMES[0], methods),))

    @property
    def address(self) -> str:
        """By TCP; its certificate has this address."""
        return f"127.0.0.1:{self.transport.addresses[0].rpartition(':')[2]}"

    @property
    def unix(self) -> str:
        """By its socket."""
        return self.transport.addresses[-1]

    async def _get_domain(self, _request: query_pb2.GetDomainRequest, _context: Context) -> query_pb2.GetDomainResponse:
        self.callers.append(call.get().caller)
        return Answer()

    async def _watch_domains(self, _request: query_pb2.WatchDomainsRequest, _context: Context) -> AsyncIterator[query_pb2.WatchDomainsResponse]:
        self.callers.append(call.get().caller)
        while True:
            yield Batch(resume_token="again")
            await asyncio.sleep(0.05)


@asynccontextmanager
async def serving(directory: Path, **settings: Any) -> AsyncIterator[Who]:
    """A started server with these settings, and a socket in this directory."""
    who = Who(load({"socket": directory / "s", **settings}))
    who.identities.start()
    await who.transport.start()
    try:
        yield who
    finally:
        await who.transport.stop()
        await who.identities.stop()


def channel(address: str, ca: Path, pair: Pair | None = None, *options: tuple[str, Any]) -> aio.Channel:
    """A client that trusts an authority, with a certificate or without."""
    certificate, key = (None, None) if pair is None else pair.pem
    return aio.secure_channel(address, grpc.ssl_channel_credentials(ca.read_bytes(), key, certificate), [*CHANNEL_OPTIONS, *options])


def sessions() -> tuple[tuple[str, Any], ...]:
    """Options of channels that take up each other's TLS sessions: then nobody looks at certificates again."""
    return ("grpc.ssl_session_cache", cygrpc.SSLSessionCacheLRU(8)), ("grpc.ssl_target_name_override", "localhost")


CHANNEL_OPTIONS = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
"""Each channel makes a connection of its own."""


async def ask(opened: aio.Channel, metadata: Metadata = ()) -> None:
    """One call, on a channel that is closed afterwards."""
    async with opened:
        await stub(opened).GetDomain(GetDomain(), metadata=metadata, timeout=GUARD_SECONDS)


def stub(opened: aio.Channel) -> Any:
    """The generated stub, whose types differ between sync and aio."""
    return query_pb2_grpc.QueryServiceStub(opened)


def reason_of(error: grpc.RpcError) -> str:
    """The ErrorInfo's reason; empty where a server's code was never reached."""
    status = rpc_status.from_call(error)  # type: ignore[arg-type] # an error of a call is one
    if status is None:
        return ""
    info = error_details_pb2.ErrorInfo()
    status.details[0].Unpack(info)
    return str(info.reason)
