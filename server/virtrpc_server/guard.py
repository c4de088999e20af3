"""What every RPC passes through: one interceptor for all that concerns every RPC, since each further one costs more than the first.

What handlers may rely on: a `Refusal` or a `DriverError` becomes a status with ErrorInfo; anything else that is raised becomes INTERNAL
and keeps its text to the log; a stream's generator is closed before its RPC ends, so that its `finally` runs then (a cancel may reach it
as GeneratorExit); a response that is `bytes` is sent as it is.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from contextvars import ContextVar
from functools import partial
from typing import Any, TypeAlias, TypeVar

import grpc
from google.protobuf.message import Message
from grpc import aio
from opentelemetry.trace import Span, SpanKind

from virtrpc_drivers.errors import DriverError
from virtrpc_server import tracing
from virtrpc_server.errors import Refusal, abort, code_of, internal, problem_of, refuse
from virtrpc_server.records import Problem

log = logging.getLogger(__name__)

T = TypeVar("T")
Context = aio.ServicerContext[Any, Any]
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Behaviour = Callable[[Any, Context], Any]

identity: ContextVar[str] = ContextVar("identity", default="unix")
"""Who calls: "unix" or "tcp", until callers have certificates. Set for each RPC before its handler runs."""


class Guard(aio.ServerInterceptor):
    """What every RPC passes through: span, identity, errors, and the end of the server."""

    def __init__(self) -> None:
        self._guarded: dict[str, Handler] = {}
        self._calls: set[asyncio.Task[Any]] = set()
        self._ended: set[asyncio.Task[Any]] = set()
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
                return grpc.unary_unary_rpc_method_handler(_unknown)
            guarded = self._guarded[method] = self._guard(method.removeprefix("/"), handler)
        return guarded

    def end_calls(self) -> None:
        """End every RPC that is out with DRAINING."""
        for task in self._calls - self._ended:
            self._ended.add(task)
            task.cancel()

    async def over(self, seconds: float) -> None:
        """Wait until no handler runs any more, for so long at most: gRPC's own server may be down before they are."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)
        if self._tasks:
            log.warning("%s RPCs have not ended %g s after they were told to", len(self._tasks), seconds)

    def _guard(self, method: str, handler: Any) -> Handler:
        if handler.request_streaming:
            # Reflection only: its requests are read inside its handler.
            parse, make, behaviour = None, grpc.stream_stream_rpc_method_handler, handler.stream_stream
        elif handler.response_streaming:
            parse, make, behaviour = handler.request_deserializer, grpc.unary_stream_rpc_method_handler, handler.unary_stream
        else:
            parse, make, behaviour = handler.request_deserializer, grpc.unary_unary_rpc_method_handler, handler.unary_unary
        run = _stream if handler.response_streaming else _unary
        serialize = _lenient(handler.response_serializer)
        outer = None if parse is not None else handler.request_deserializer

        async def guarded(request: Any, context: Context) -> Any:
            try:
                return await self._traced(method, context, partial(_run, run, behaviour, parse, request, context, serialize))
            except aio.AbortError as error:
                # grpc keeps this error with the call, and its traceback would keep the call and its request, which may be long: a circle
                # that lasts until a collection. Of the frames only this one and grpc's own are left, and those hold no request.
                del request
                raise error.with_traceback(None) from None

        return make(guarded, outer, serialize)

    async def _traced(self, method: str, context: Context, work: Callable[[], Awaitable[T]]) -> T:
        identity.set("unix" if context.peer().startswith("unix") else "tcp")
        if not tracing.enabled():
            return await self._answered(context, None, work)
        service, _, name = method.rpartition("/")
        attributes = {"rpc.system": "grpc", "rpc.service": service, "rpc.method": name}
        headers = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
        with tracing.start_span(method, kind=SpanKind.SERVER, parent=tracing.context_of(headers), **attributes) as span:
            answer = await self._answered(context, span, work)
            span.set_attribute("rpc.grpc.status_code", 0)
            return answer

    async def _answered(self, context: Context, span: Span | None, work: Callable[[], Awaitable[T]]) -> T:
        task = asyncio.current_task()
        assert task is not None
        self._calls.add(task)
        # grpc sends the status in the same task, after this.
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            return await work()
        except aio.AbortError:
            raise
        except asyncio.CancelledError:
            if task not in self._ended or task.uncancel() > 0:
                raise
            problem = Problem("DRAINING", "this server is going down; running jobs go on")
        except Exception as error:  # noqa: BLE001 # logged by internal()
            problem = _problem(error)
        finally:
            self._calls.discard(task)
            self._ended.discard(task)
        if span is not None:
            span.set_attribute("rpc.grpc.status_code", code_of(problem))
            tracing.failed(span, f"{problem.reason}: {problem.message}")
        return await abort(context, problem)


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


_UNKNOWN_METHOD = Problem("UNIMPLEMENTED", "this server does not have this method")


async def _unknown(_request: bytes, context: Context) -> None:
    await abort(context, _UNKNOWN_METHOD)


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


async def _run(run: Any, behaviour: Behaviour, parse: Any, request: Any, context: Context, serialize: Callable[[Any], bytes]) -> Any:
    return await run(behaviour, _parsed(parse, request), context, serialize)


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
            await context.write(serialize(answer))
