"""A server of a few lines that answers as a test tells it: the generated services on a real socket, without domains, jobs or rules."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import grpc
import grpc.aio
from google.protobuf import any_pb2, message_factory
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped] # has neither stubs nor a marker

from virtrpc.v1 import job_pb2, job_pb2_grpc, query_pb2, query_pb2_grpc, snapshot_pb2, snapshot_pb2_grpc
from virtrpc.v1 import types_pb2 as t

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Answer: TypeAlias = Callable[[Any, Any], Any]
"""What a test gives for an RPC: (request, context) -> a message, or an asynchronous iterator of messages."""

WEB = t.Domain(
    host="local", uuid="6b1c2b4e-3c47-4f0e-9a5b-0d6a3f1f0001", name="web", id=7, generation="g1", state=t.DOMAIN_STATE_RUNNING, active=True
)
IDENTITY = t.DomainIdentity(host=WEB.host, uuid=WEB.uuid, name=WEB.name)
MODULES = ((query_pb2, query_pb2_grpc), (job_pb2, job_pb2_grpc), (snapshot_pb2, snapshot_pb2_grpc))


def job(state: t.JobState.ValueType, revision: int = 1, **fields: Any) -> t.Job:
    """A job of web as a server would send it."""
    return t.Job(**{"job_id": "job-1", "kind": t.JOB_KIND_MANAGED_SAVE_DOMAIN, "domain": IDENTITY, **fields}, state=state, revision=revision)


def error_info(reason: str, metadata: Mapping[str, str] | None = None) -> tuple[tuple[str, bytes], ...]:
    """Trailing metadata with an ErrorInfo."""
    packed = any_pb2.Any()
    packed.Pack(error_details_pb2.ErrorInfo(domain="virtrpc", reason=reason, metadata=metadata or {}))
    return (("grpc-status-details-bin", status_pb2.Status(details=[packed]).SerializeToString()),)


def draining(seconds: float, reason: str = "DRAINING") -> tuple[tuple[str, bytes], ...]:
    """Trailing metadata of a server that goes down, with how long to leave it alone; or of another reason to come again."""
    details = [any_pb2.Any(), any_pb2.Any()]
    details[0].Pack(error_details_pb2.ErrorInfo(domain="virtrpc", reason=reason))
    retry = error_details_pb2.RetryInfo()
    retry.retry_delay.FromMilliseconds(int(seconds * 1000))
    details[1].Pack(retry)
    return (("grpc-status-details-bin", status_pb2.Status(details=details).SerializeToString()),)


async def refuse(context: Context, code: grpc.StatusCode, reason: str, message: str = "", metadata: Mapping[str, str] | None = None) -> None:
    """Ends the call with an error of the contract."""
    await context.abort(code, message, error_info(reason, metadata))


async def accepted(context: Context, job_id: str = "job-1") -> None:
    """Sends what a server sends when it has taken a verb."""
    await context.send_initial_metadata((("virtrpc-job-id", job_id),))


class Fake:
    """The server. `calls` lists what it was asked; `on` holds a test's answers by RPC name. Without one an RPC gives an empty answer, and a verb
    a job that succeeds at once."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []
        self.on: dict[str, Answer] = {}
        self.address = ""
        self._server: grpc.aio.Server | None = None

    def asked(self, name: str) -> list[Any]:
        """The requests of an RPC, in order."""
        return [request for called, request in self.calls if called == name]

    async def start(self, socket: Path) -> None:
        """Listens on a Unix socket, again where it was stopped."""
        self._server = grpc.aio.server()
        for messages, services in MODULES:
            for name in messages.DESCRIPTOR.services_by_name:
                getattr(services, f"add_{name}Servicer_to_server")(self._servicer(messages, services, name), self._server)
        self.address = f"unix://{socket}"
        self._server.add_insecure_port(self.address)
        await self._server.start()

    async def stop(self) -> None:
        """Breaks every connection."""
        if self._server is not None:
            await self._server.stop(None)

    def _servicer(self, messages: Any, services: Any, name: str) -> Any:
        methods = messages.DESCRIPTOR.services_by_name[name].methods
        handlers = {method.name: self._stream(method) if method.server_streaming else self._unary(method) for method in methods}
        return type(name, (getattr(services, f"{name}Servicer"),), handlers)()

    def _unary(self, method: Any) -> Any:
        empty = message_factory.GetMessageClass(method.output_type)

        async def handle(_: object, request: Message, context: Context) -> Any:
            self.calls.append((method.name, request))
            give: Answer = self.on.get(method.name, lambda *_: empty())
            answer = give(request, context)
            return await answer if asyncio.iscoroutine(answer) else answer

        return handle

    def _stream(self, method: Any) -> Any:
        async def handle(_: object, request: Message, context: Context) -> AsyncIterator[Any]:
            self.calls.append((method.name, request))
            give: Answer = self.on.get(method.name, succeed)
            async for answer in give(request, context):
                yield answer

        return handle


async def succeed(_: Any, context: Context) -> AsyncIterator[t.JobUpdate]:
    """A verb that is done at once."""
    await accepted(context)
    yield t.JobUpdate(job=job(t.JOB_STATE_SUCCEEDED, 2, domain_result=t.DomainResult(domain=WEB)))


def in_turn(*answers: Answer) -> Answer:
    """Each call gets the next of these answers."""
    left = iter(answers)

    def answer(request: Any, context: Any) -> Any:
        return next(left)(request, context)

    return answer


def then(*states: t.Job) -> Answer:
    """A verb, or WatchJob, that is accepted, goes through these states and ends OK."""

    async def answer(_: Any, context: Context) -> AsyncIterator[t.JobUpdate]:
        await accepted(context, states[0].job_id)
        for state in states:
            yield t.JobUpdate(job=state)

    return answer


@contextlib.asynccontextmanager
async def serving() -> AsyncIterator[Fake]:
    """A fake on the running loop."""
    fake = Fake()
    with tempfile.TemporaryDirectory() as directory:
        await fake.start(Path(directory) / "s")
        try:
            yield fake
        finally:
            await fake.stop()


@contextlib.contextmanager
def serving_apart() -> Iterator[Fake]:
    """A fake on a thread of its own, for callers that block."""
    fake, loop = Fake(), asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run_coroutine_threadsafe(fake.start(Path(directory) / "s"), loop).result()
        try:
            yield fake
        finally:
            asyncio.run_coroutine_threadsafe(fake.stop(), loop).result()
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()


async def until(condition: Callable[[], object]) -> None:
    """Lets the loop run until the condition holds."""
    while not condition():  # noqa: ASYNC110 # what is waited for happens in grpc or on another thread, which have no Event to set
        await asyncio.sleep(0.01)
