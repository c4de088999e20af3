"""What every RPC passes through: one interceptor for all that concerns every RPC, since each further one costs more than the first.

What handlers may rely on: a `Refusal` or a `DriverError` becomes a status with ErrorInfo; anything else that is raised becomes INTERNAL
and keeps its text to the log; a stream's generator is closed before its RPC ends, so that its `finally` runs then (a cancel may reach it
as GeneratorExit); a response that is `bytes` is sent as it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias
from urllib.parse import unquote

import grpc
from google.protobuf.message import Message
from grpc import aio
from opentelemetry.trace import Span

from virtrpc_drivers.errors import DriverError
from virtrpc_server import tracing
from virtrpc_server.caller import Call, Gate, Observer, call
from virtrpc_server.errors import NotYet, Refusal, abort, internal, problem_of, refuse, status_of
from virtrpc_server.identity import Identify, by_way
from virtrpc_server.printable import printable
from virtrpc_server.records import Problem

log = logging.getLogger(__name__)

Context = aio.ServicerContext[Any, Any]
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Behaviour = Callable[[Any, Context], Any]

REASON_METADATA = "virtrpc-reason"
"""Why somebody calls, in that caller's words, for whoever reads later what was done: ASCII, and the rest in the manner of URLs."""
MAX_REASON = 512
REQUEST_SECONDS = 30.0
"""How long a call may be open without its request."""
SWEEP_SECONDS = 5.0
_LATE = float("-inf")
"""In place of since when a call's request is expected: it has been told to end."""
SERVERS_FAULTS = frozenset({"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"})
"""The statuses that the conventions for spans count as errors of a server; the others are answers."""


@dataclass(frozen=True, slots=True)
class Method:
    """A method, and how its handler is run."""

    path: str
    streams: bool
    run: Callable[..., Awaitable[Any]]
    behaviour: Behaviour
    parse: Callable[[bytes], Any] | None
    serialize: Callable[[Any], bytes]


class Guard(aio.ServerInterceptor):
    """What every RPC passes through: identity, gates, span, errors, and the end of the server."""

    def __init__(self, identify: Identify = by_way, gates: Sequence[Gate] = (), observers: Sequence[Observer] = ()) -> None:
        self._identify = identify
        self._gates = gates
        self._observers = observers
        self.addresses: dict[str, dict[str, str | int]] = {}
        """Where RPCs come in, for traces: by "unix" and "tcp"."""
        self._guarded: dict[str, Handler] = {}
        self._expected: dict[asyncio.Task[Any], float] = {}
        self._sweep: asyncio.TimerHandle | None = None
        self._closed = False
        self._calls: set[asyncio.Task[Any]] = set()
        self._ended: dict[asyncio.Task[Any], Problem] = {}
        """Those that were told to end, and what their callers are told."""
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def calls(self) -> int:
        """How many RPCs are out."""
        return len(self._calls)

    async def intercept_service(
        self, continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]], handler_call_details: grpc.HandlerCallDetails
    ) -> Handler:
        """The method's handler, guarded; made once for each method."""
        method = handler_call_details.method
        guarded = self._guarded.get(method)
        if guarded is None:
            handler = await continuation(handler_call_details)
            if handler is None:
                return grpc.stream_unary_rpc_method_handler(_unknown)
            guarded = self._guarded[method] = self._guard(method.removeprefix("/"), handler)
        return guarded

    async def _received(self, context: Context) -> bytes:
        """A call's one message. Raises Refusal where none comes: grpc's own way of reading it would leave such a call open for ever."""
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        assert task is not None
        self._expected[task] = loop.time()
        if self._sweep is None and not self._closed:
            self._sweep = loop.call_later(SWEEP_SECONDS, self._end_expected)
        try:
            request = await context.read()
        except asyncio.CancelledError:
            if self._expected.get(task) != _LATE or task.uncancel() > 0:
                raise
            raise refuse("INVALID_ARGUMENT", f"the call's request did not come within {REQUEST_SECONDS:g} s") from None
        finally:
            self._expected.pop(task, None)
        if type(request) is not bytes:
            raise refuse("INVALID_ARGUMENT", "the call ended without a request: it must have one message, which may be empty")
        return request

    def _end_expected(self) -> None:
        loop = asyncio.get_running_loop()
        for task, since in self._expected.items():
            if since != _LATE and loop.time() - since >= REQUEST_SECONDS:
                self._expected[task] = _LATE
                task.cancel()
        self._sweep = loop.call_later(SWEEP_SECONDS, self._end_expected) if self._expected else None

    def end_calls(self) -> None:
        """End every RPC that is out with DRAINING."""
        for task in self._calls - self._ended.keys():
            self._end(task, _DRAINING)

    def _end(self, task: asyncio.Task[Any], problem: Problem) -> None:
        if task in self._calls and task not in self._ended:
            self._ended[task] = problem
            task.cancel()

    def close(self) -> None:
        """Hold no request to its time any more."""
        self._closed = True
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None

    async def over(self, seconds: float) -> None:
        """Wait until no handler runs any more, for so long at most: gRPC's own server may be down before they are."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)
        if self._tasks:
            log.warning("%s RPCs have not ended %g s after they were told to", len(self._tasks), seconds)

    def _guard(self, path: str, handler: Any) -> Handler:
        if handler.request_streaming:
            # Reflection only: its requests are read inside its handler.
            parse, make, behaviour = None, grpc.stream_stream_rpc_method_handler, handler.stream_stream
        elif handler.response_streaming:
            parse, make, behaviour = handler.request_deserializer, grpc.stream_stream_rpc_method_handler, handler.unary_stream
        else:
            parse, make, behaviour = handler.request_deserializer, grpc.stream_unary_rpc_method_handler, handler.unary_unary
        streams = bool(handler.response_streaming)
        serialize = _lenient(handler.response_serializer)
        outer = None if parse is not None else handler.request_deserializer
        method = Method(path, streams, _stream if streams else _unary, behaviour, parse, serialize)

        async def guarded(requests: Any, context: Context) -> Any:
            try:
                request = requests if method.parse is None else await self._received(context)
            except Refusal as refusal:
                return await _abort_unread(context, refusal.problem)
            del requests
            try:
                return await self._traced(method, request, context)
            except aio.AbortError as error:
                # grpc keeps this error with the call, and its traceback would keep the call and its request, which may be long: a circle
                # that lasts until a collection. Of the frames only this one and grpc's own are left, and those hold no request.
                del request
                raise error.with_traceback(None) from None

        return make(guarded, outer, serialize)

    async def _traced(self, method: Method, request: Any, context: Context) -> Any:
        service, _, rpc = method.path.rpartition("/")
        headers = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
        this = Call(service, rpc, method.streams, reason_of(headers), headers.get("traceparent", ""), peer=context.peer())
        if not tracing.wanted(headers):
            return await self._answered(this, method, request, context, None)
        where = self.addresses.get("unix" if context.peer().startswith("unix") else "tcp", {})
        with tracing.start_trace(method.path, headers, {"rpc.system.name": "grpc", "rpc.method": method.path, **where}) as span:
            return await self._answered(this, method, request, context, span)

    async def _answered(self, this: Call, method: Method, request: Any, context: Context, span: Span | None) -> Any:
        task = asyncio.current_task()
        assert task is not None
        self._calls.add(task)
        # grpc sends the status in the same task, after this.
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        problem: Problem | None = None
        try:
            return await self._admitted(this, method, request, context)
        except aio.AbortError:
            problem = _ABORTED
            raise
        except asyncio.CancelledError:
            if task not in self._ended or task.uncancel() > 0:
                problem = LEFT
                raise
            problem = self._ended[task]
        except Exception as error:  # noqa: BLE001 # logged by internal()
            problem = _problem(error)
        finally:
            self._calls.discard(task)
            self._ended.pop(task, None)
            for observer in self._observers:
                observer.over(this, problem)
            if span is not None:
                _describe(span, this, problem)
        return await abort(context, problem)

    async def _admitted(self, this: Call, method: Method, request: Any, context: Context) -> Any:
        """The handler's answer, once it is known who calls and every gate has let the call in."""
        this.caller = self._identify(context, this)
        call.set(this)
        if method.streams and this.caller.until is not None:
            with self._until(this.caller.until):
                return await self._entered(this, method, request, context)
        return await self._entered(this, method, request, context)

    @contextmanager
    def _until(self, moment: float) -> Iterator[None]:
        """Ends a stream when its caller's token or certificate does: it could tell things for years."""
        task = asyncio.current_task()
        assert task is not None
        timer = asyncio.get_running_loop().call_later(max(0.0, moment - time.time()), self._end, task, _RIGHT_ENDED)
        try:
            yield
        finally:
            timer.cancel()

    async def _entered(self, this: Call, method: Method, request: Any, context: Context) -> Any:
        entered: list[Gate] = []
        try:
            for gate in self._gates:
                gate.enter(this)
                entered.append(gate)
            return await method.run(method.behaviour, _parsed(method.parse, request), context, method.serialize)
        finally:
            for gate in reversed(entered):
                gate.leave(this)


def status_name(problem: Problem | None) -> str:
    """How an RPC ended, as gRPC calls it."""
    return "OK" if problem is None else "CANCELLED" if problem is LEFT else status_of(problem).name


def _describe(span: Span, this: Call, problem: Problem | None) -> None:
    """What is known of an RPC at its end, in the conventions' words and ours."""
    status = status_name(problem)
    attributes: dict[str, tracing.Attribute] = {"rpc.response.status_code": status, "virtrpc.caller": this.caller.name}
    if this.domain is not None:
        attributes |= tracing.about(this.domain.host, this.domain.uuid, this.domain.name)
    if problem is not None:
        attributes |= {"error.type": status, "virtrpc.error.reason": problem.reason, "virtrpc.error.id": problem.metadata.get("error_id", "")}
        if status in SERVERS_FAULTS:
            tracing.failed(span, problem.reason)
    span.set_attributes({name: value for name, value in attributes.items() if value})


def reason_of(headers: Mapping[str, str]) -> str:
    """The reason as it may be shown and stored: not too long, and without what a terminal would obey."""
    return printable(unquote(headers.get(REASON_METADATA, ""))[:MAX_REASON])


def _problem(error: Exception) -> Problem:
    match error:
        case Refusal():
            return error.problem
        case DriverError():
            return problem_of(error.fault)
        case NotImplementedError():  # what grpc's generated servicers raise for a method that nobody wrote
            return _UNKNOWN_METHOD
        case _:
            return internal("an RPC failed unexpectedly", error)


LEFT = Problem("CANCELLED", "the caller left")
"""What observers are told of an RPC whose caller did not wait for its end."""
_DRAINING = Problem("DRAINING", "this server is going down; running jobs go on")
_RIGHT_ENDED = NotYet("UNAUTHENTICATED", "your token or your certificate has ended: come again with a new one", retry_seconds=0.1)
_ABORTED = Problem("UNSPECIFIED", "refused by a service that is not ours")
_UNKNOWN_METHOD = Problem("UNIMPLEMENTED", "this server does not have this method")


async def _unknown(_requests: Any, context: Context) -> None:
    await abort(context, _UNKNOWN_METHOD)


async def _abort_unread(context: Context, problem: Problem) -> None:
    # Of a caller that has left, or of a message that was too long, gRPC's core has ended the call already.
    with contextlib.suppress(aio.InternalError):
        await abort(context, problem)


def _parsed(parse: Callable[[bytes], Any] | None, request: Any) -> Any:
    if parse is None:
        return request
    try:
        message = parse(request)
    except Exception as error:  # noqa: BLE001 # whatever a parser raises, the request is at fault
        log.info("a malformed request: %s", error)
        raise refuse("INVALID_ARGUMENT", "the request is malformed: it does not parse as this method's message") from None
    # Most requests have no zero in them, so that few are looked through.
    field = _with_nul(message) if b"\0" in request else None
    if field is not None:
        raise refuse("INVALID_ARGUMENT", f"{field}: has a NUL character, which no text of a hypervisor can hold", field=field)
    return message


def _with_nul(message: Message) -> str | None:
    """The first field whose text has a NUL character: C libraries end their texts there."""
    for field, value in message.ListFields():
        for part in value if field.is_repeated else (value,):
            if isinstance(part, str) and "\0" in part:
                return field.name
            below = _with_nul(part) if isinstance(part, Message) else None
            if below is not None:
                return f"{field.name}.{below}"
    return None


def _lenient(serialize: Callable[[Any], bytes] | None) -> Callable[[Any], bytes]:
    return lambda message: message if serialize is None or type(message) is bytes else serialize(message)


async def _unary(behaviour: Behaviour, request: Any, context: Context, serialize: Callable[[Any], bytes]) -> bytes:
    # Serialised here and not by grpc: it would send the text of an error to the caller.
    return serialize(await behaviour(request, context))


async def _stream(behaviour: Behaviour, request: Any, context: Context, serialize: Callable[[Any], bytes]) -> None:
    answers = behaviour(request, context)
    if inspect.isawaitable(answers):
        await answers
        return
    async with aclosing(answers):
        async for answer in answers:
            try:
                await context.write(serialize(answer))
            except aio.InternalError:
                # The caller's connection is gone, and gRPC's core has not told so yet.
                raise asyncio.CancelledError from None
