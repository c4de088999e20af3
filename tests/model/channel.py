"""The services without a wire: what a handler raises, sends and suffers is as behind gRPC, and all of it on the caller's loop."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable, Mapping
from types import SimpleNamespace
from typing import Any, Protocol, cast

import grpc
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]  # googleapis-common-protos ships no types
from grpc import aio

from virtrpc_server import contract
from virtrpc_server.core import Core
from virtrpc_server.guard import Guard

METHODS = {method.name: method for method in contract.METHODS}
PATHS = {name: f"/{method.containing_service.full_name}/{name}" for name, method in METHODS.items()}
MAX_YIELDS = 1000

Reader = Callable[[Any], Awaitable[None]]
"""Takes one message; while it does, the sender waits, as behind a full window."""
Handler = Callable[[None, Any], Awaitable[Any]]
"""A guarded method, which reads its request from its context."""


def parsed(method: str, data: bytes) -> Any:
    """A method's response."""
    return GetMessageClass(METHODS[method].output_type).FromString(data)


class Rpc(Protocol):
    """One RPC that is out."""

    reason: str | None
    """How it ended: "OK", "GONE" where its caller left, or the reason of its ErrorInfo; None while it is out."""
    metadata: dict[str, str] | None

    def leave(self) -> None:
        """Its caller goes away."""

    async def over(self) -> None:
        """Wait for its end."""


class Channel(Protocol):
    """Where RPCs are begun. `faults` are what readers raised: a handler must not see that."""

    faults: list[Exception]

    def begin(self, method: str, request: Message, reader: Reader, who: str = "unix") -> Rpc:
        """Begin an RPC of a caller on this kind of socket."""

    async def close(self) -> None:
        """Nobody calls any more."""


class LocalRpc:
    """An RPC without a wire: the handler's task, and the context that it is given."""

    def __init__(
        self,
        method: str,
        handler: Handler,
        request: Message,
        reader: Reader,
        faults: list[Exception],
        who: str,
    ) -> None:
        self._who = who
        self.reason: str | None = None
        self.metadata: dict[str, str] | None = None
        self._lost = False
        self._method, self._reader, self._faults = method, reader, faults
        self._request = request.SerializeToString()
        self._task = asyncio.get_running_loop().create_task(self._handle(handler), name=f"rpc {method}")

    def leave(self) -> None:
        """grpc.aio cancels the handler of a caller who left."""
        self._task.cancel()

    def lose(self) -> None:
        """The server is gone, and nothing more comes."""
        if self.reason is None:
            self._lost, self.reason = True, "LOST"
            self._task.cancel()

    async def over(self) -> None:
        """Wait for its end."""
        await asyncio.wait([self._task])

    async def _handle(self, handler: Handler) -> None:
        reason = "OK"
        try:
            answer = await handler(None, self)
            if answer is not None:
                await self._take(answer)
        except aio.AbortError as error:
            reason = str(error)
        except asyncio.CancelledError:
            reason = "GONE"
        if not self._lost:
            self.reason = reason

    async def _take(self, data: bytes) -> None:
        if self._lost:
            raise asyncio.CancelledError
        try:
            await self._reader(parsed(self._method, data))
        except Exception as error:  # noqa: BLE001 # whatever it is, it is the test's and not the handler's
            self._faults.append(error)

    # The servicer's context

    def peer(self) -> str:
        """Where the caller is."""
        return f"{self._who}:"

    def invocation_metadata(self) -> tuple[()]:
        """None."""
        return ()

    async def send_initial_metadata(self, metadata: tuple[tuple[str, str], ...]) -> None:
        """Kept."""
        await asyncio.sleep(0)
        if not self._lost:
            self.metadata = dict(metadata)

    async def read(self) -> bytes:
        """The request, which came with the call."""
        return self._request

    async def write(self, data: bytes) -> None:
        """Handed to the reader."""
        await asyncio.sleep(0)
        await self._take(data)

    async def abort_with_status(self, status: Any) -> None:
        """End with this status."""
        raise aio.AbortError(reason_of(status))


def reason_of(status: grpc.Status) -> str:
    """The reason in a status' ErrorInfo."""
    return reason_of_details(dict(status.trailing_metadata or ()))


def reason_of_details(metadata: Mapping[str, Any]) -> str:
    """The reason in the ErrorInfo of these trailers; "" where there is none."""
    rich = status_pb2.Status.FromString(metadata.get("grpc-status-details-bin", b""))
    info = error_details_pb2.ErrorInfo()
    for detail in rich.details[:1]:
        detail.Unpack(info)
    return str(info.reason)


class SuspendedError(AssertionError):
    """A query waited for something."""


class LocalChannel:
    """All methods of a core, behind its guard; after a `kill` of the next one."""

    def __init__(self) -> None:
        self.faults: list[Exception] = []
        self.open = False
        """Whether a server is there."""
        self._handlers: dict[str, Callable[[None, Any], Any]] = {}
        self._registered: dict[str, Any] = {}
        self._rpcs: list[LocalRpc] = []

    def add_generic_rpc_handlers(self, handlers: Any) -> None:
        """They are registered too."""

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        """What the generated code hands over."""
        self._registered.update({f"/{service}/{name}": handler for name, handler in handlers.items()})

    async def serve(self, core: Core) -> None:
        """Guard each method of a core."""
        core.add_to(cast("aio.Server", self))
        self.open, guard = True, Guard()

        async def continuation(details: grpc.HandlerCallDetails) -> Any:
            return self._registered[details.method]

        for name, path in PATHS.items():
            guarded: Any = await guard.intercept_service(continuation, cast("grpc.HandlerCallDetails", SimpleNamespace(method=path)))
            self._handlers[name] = guarded.stream_stream or guarded.stream_unary
        # Nobody sends a request late here: it comes with its call.
        guard.close()

    def begin(self, method: str, request: Message, reader: Reader, who: str = "unix") -> LocalRpc:
        """Begin an RPC; its handler runs when the loop comes to it."""
        rpc = LocalRpc(method, self._handlers[method], request, reader, self.faults, who)
        self._rpcs.append(rpc)
        return rpc

    def kill(self) -> None:
        """The server is gone: everybody loses their stream at once."""
        self.open = False
        for rpc in self._rpcs:
            rpc.lose()
        self._rpcs.clear()

    async def close(self) -> None:
        """Nothing to close."""

    def ask(self, method: str, request: Message) -> Any:
        """The answer of a query, which must not wait; None where it is refused. Raises SuspendedError."""
        return contextvars.copy_context().run(self._ask, method, request)

    def _ask(self, method: str, request: Message) -> Any:
        answer = self._handlers[method](None, _NoContext(request.SerializeToString()))
        try:
            for _ in range(MAX_YIELDS):
                # A bare yield lets others run and waits for nobody.
                if answer.send(None) is not None:
                    break
            raise SuspendedError(f"[queries] {method} waits")
        except StopIteration as done:
            return parsed(method, done.value)
        except aio.AbortError:
            return None
        finally:
            answer.close()


class _NoContext:
    """The context of an RPC that sends nothing but its answer."""

    def __init__(self, request: bytes) -> None:
        self._request = request

    async def read(self) -> bytes:
        return self._request

    def peer(self) -> str:
        return "unix:"

    def invocation_metadata(self) -> tuple[()]:
        return ()

    async def abort_with_status(self, status: Any) -> None:
        raise aio.AbortError(reason_of(status))
