"""A real server on a real channel, with rules and simulated hosts; each call is made in the name of whom the test says."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
from google.rpc import error_details_pb2  # type: ignore[import-untyped] # googleapis-common-protos has no py.typed
from grpc import aio
from grpc_status import rpc_status

from tests.server.world import until
from virtrpc.v1 import job_pb2, job_pb2_grpc, query_pb2, query_pb2_grpc, snapshot_pb2_grpc, types_pb2
from virtrpc_drivers.sim.driver import SimDriver
from virtrpc_drivers.sim.events import LoopDeliverer
from virtrpc_drivers.sim.hypervisor import SimHypervisor
from virtrpc_drivers.sim.options import from_uri
from virtrpc_server.caller import Call, Caller, Way
from virtrpc_server.core import Core
from virtrpc_server.guard import Guard
from virtrpc_server.policy.decisions import Decisions
from virtrpc_server.policy.engine import Policy
from virtrpc_server.policy.labels import LABELS_URI
from virtrpc_server.policy.rules import parse
from virtrpc_server.settings import Settings
from virtrpc_server.settings.hosts import HostSettings
from virtrpc_server.transport import Transport

ROLES = """
@id("the-viewer") permit(principal == Caller::"viewer", action in Action::"viewer", resource);
@id("the-operator") permit(principal == Caller::"operator", action in Action::"operator", resource);
@id("the-admin") permit(principal == Caller::"admin", action in Action::"admin", resource);
"""
GUARD_SECONDS = 60.0
MODULES: tuple[Any, ...] = (query_pb2_grpc, job_pb2_grpc, snapshot_pb2_grpc)


def policy(text: str) -> Policy:
    """These rules."""
    return Policy(parse([("test.cedar", text)]))


def identified(context: aio.ServicerContext[Any, Any], _call: Call) -> Caller:
    """Whoever the caller says; one with commas is also known by the names after the first."""
    names = tuple(str(dict(context.invocation_metadata() or ())["who"]).split(","))
    return Caller(names[0], Way.TLS, names)


class Denied(Exception):  # noqa: N818 # what tests wait for
    """How an RPC ended."""

    def __init__(self, error: aio.AioRpcError) -> None:
        status = rpc_status.from_call(error)  # type: ignore[arg-type] # it has what a call has
        self.info = error_details_pb2.ErrorInfo()
        assert status is not None
        status.details[0].Unpack(self.info)
        self.code, self.reason, self.message = error.code(), self.info.reason, error.details() or ""
        self.rule = self.info.metadata.get("rule", "")
        super().__init__(f"{self.reason}: {self.message}")


class Someone:
    """A caller."""

    def __init__(self, channel: aio.Channel, who: str) -> None:
        self._channel = channel
        self._who = (("who", who),)

    def call(self, rpc: str, request: Any) -> Any:
        """The call of an RPC by its name."""
        stubs = [getattr(module, name)(self._channel) for module in MODULES for name in vars(module) if name.endswith("Stub")]
        (method,) = [getattr(stub, rpc) for stub in stubs if hasattr(stub, rpc)]
        return method(request, metadata=self._who, timeout=GUARD_SECONDS)

    async def ask(self, rpc: str, request: Any) -> Any:
        """The answer of a unary RPC, or of a stream its last message. Raises Denied."""
        call = self.call(rpc, request)
        try:
            if isinstance(call, grpc.aio.UnaryUnaryCall):
                return await call
            answers = [answer async for answer in call]
            return answers[-1] if answers else None
        except aio.AioRpcError as error:
            raise Denied(error) from None

    async def names(self) -> list[str]:
        """What ListDomains shows."""
        answer = await self.ask("ListDomains", query_pb2.ListDomainsRequest())
        return [domain.name for domain in answer.domains]


class Bed:
    """The server."""

    def __init__(self, core: Core, channel: aio.Channel) -> None:
        self.core = core
        self._channel = channel

    def who(self, names: str) -> Someone:
        """Calls in this name."""
        return Someone(self._channel, names)

    def rules(self, text: str) -> None:
        """These are the rules from now on."""
        self.core.decisions.replace(policy(text))
        self.core.look_anew()

    async def label(self, name: str, **labels: str) -> None:
        """Label a domain as admin, and wait until the server has read it."""
        (entry,) = self.core.domains.by_name(name)
        request = job_pb2.SetMetadataRequest(
            domain=ref(name),
            element=types_pb2.MetadataElement(uri=LABELS_URI, key="v", xml=labelled(**labels) if labels else ""),
            scope=types_pb2.CHANGE_SCOPE_BOTH if entry.active else types_pb2.CHANGE_SCOPE_CONFIG,
        )
        await self.who("admin").ask("SetMetadata", request)
        await until(lambda: self.core.sight.resource(self.core.domains.get(entry.key) or entry).labels == tuple(sorted(labels.items())))


def labelled(**labels: str) -> str:
    """An element with these labels."""
    return "<labels>{}</labels>".format("".join(f'<label name="{name}" value="{value}"/>' for name, value in labels.items()))


def ref(name: str, host: str = "") -> types_pb2.DomainRef:
    """A domain by its name."""
    return types_pb2.DomainRef(name=name, host=host)


@asynccontextmanager
async def bed(
    path: Path, rules: str = ROLES, *uris: str, roots: Path = Path("/images"), roots_of_b: tuple[Path, ...] | None = None
) -> AsyncIterator[Bed]:
    """A server with these rules; its hosts are called a and b."""
    hosts = tuple(
        HostSettings(name=name, uri=uri, path_roots=roots_of_b if name == "b" else None)
        for name, uri in zip("ab", uris or ("sim://a/?domains=4&running=2",), strict=False)
    )
    network: dict[str, SimHypervisor] = {}
    settings = Settings(hosts=hosts, socket=path / "s", path_roots=(roots,))

    def driver(wanted: Any) -> SimDriver:
        return SimDriver(wanted, SimHypervisor(from_uri(wanted.uri), deliverer=LoopDeliverer(), network=network))

    core = Core(settings, driver, decisions=Decisions(policy(rules)))
    transport = Transport(settings.socket, guard=Guard(identified, gates=(core.decisions,)))
    core.add_to(transport.server)
    await core.start(lambda _host: None)
    await transport.start()
    await until(lambda: all(host.listed for host in core.hosts))
    try:
        async with aio.insecure_channel(transport.addresses[0]) as channel:
            yield Bed(core, channel)
    finally:
        await transport.stop()
        await core.close()
