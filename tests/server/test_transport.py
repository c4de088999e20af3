"""The real server on a real channel, with a servicer of a few lines: what every RPC passes through, and where the server listens."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import socket
import stat
import traceback
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, cast

import grpc
import pytest
import pytest_asyncio
from google.rpc import error_details_pb2  # type: ignore[import-untyped] # googleapis-common-protos has no py.typed
from grpc import StatusCode, aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tests.server.world import until
from virtrpc.v1 import job_pb2, job_pb2_grpc, query_pb2, query_pb2_grpc, types_pb2
from virtrpc_drivers.errors import Reason, failure
from virtrpc_server import tracing
from virtrpc_server.caller import BY_SOCKET, NOBODY, Call, Caller, caller_name
from virtrpc_server.contract import SERVICE_NAMES
from virtrpc_server.errors import refuse
from virtrpc_server.guard import LEFT, Guard
from virtrpc_server.records import Problem
from virtrpc_server.transport import Transport
from virtrpc_server.unix_socket import Access, ListenError

GUARD_SECONDS = 90.0
Context = aio.ServicerContext[Any, Any]
Serving = health_pb2.HealthCheckResponse

GetDomain = query_pb2.GetDomainRequest
Answer = query_pb2.GetDomainResponse
Watch = query_pb2.WatchDomainsRequest
Batch = query_pb2.WatchDomainsResponse


class Fake:
    """One unary method and one stream, each doing what a test sets."""

    def __init__(self) -> None:
        self.unary: Callable[[], Any] = Answer
        self.ended = asyncio.Event()
        self.identity = ""
        self.stream: Callable[[], AsyncIterator[Any]] = self.for_ever

    async def for_ever(self) -> AsyncIterator[Any]:
        """One batch, then nothing."""
        try:
            yield Batch(resume_token="first")
            await asyncio.Event().wait()
        finally:
            self.ended.set()

    async def GetDomain(self, request: query_pb2.GetDomainRequest, context: Context) -> Any:  # noqa: N802 # the contract's name
        """Call the test's function."""
        self.identity = caller_name()
        return self.unary()

    async def WatchDomains(self, request: query_pb2.WatchDomainsRequest, context: Context) -> AsyncIterator[Any]:  # noqa: N802 # the contract's name
        """Stream what the test says."""
        async for batch in self.stream():
            yield batch


def serve(transport: Transport, fake: Fake) -> None:
    """Register the fake as the QueryService."""
    methods: Any = {
        "GetDomain": grpc.unary_unary_rpc_method_handler(fake.GetDomain, GetDomain.FromString, Answer.SerializeToString),
        "WatchDomains": grpc.unary_stream_rpc_method_handler(fake.WatchDomains, Watch.FromString, Batch.SerializeToString),
    }
    transport.server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE_NAMES[0], methods),))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the server listens."""
    return tmp_path / "made" / "v.sock"


@pytest_asyncio.fixture
async def fake() -> Fake:
    """The servicer."""
    return Fake()


@pytest_asyncio.fixture
async def transport(path: Path, fake: Fake) -> AsyncIterator[Transport]:
    """A started server on a Unix socket and on a loopback port."""
    transport = Transport(path, "127.0.0.1:0", insecure=True, hosts=["a"])
    serve(transport, fake)
    await transport.start()
    yield transport
    await transport.stop()


@pytest_asyncio.fixture
async def channel(transport: Transport) -> AsyncIterator[aio.Channel]:
    """A channel over the Unix socket."""
    async with aio.insecure_channel(transport.addresses[1]) as channel:
        yield channel


def query(channel: aio.Channel) -> Any:
    """The generated stub, whose types differ between sync and aio."""
    return query_pb2_grpc.QueryServiceStub(channel)


async def error_of(call: Any) -> tuple[aio.AioRpcError, Any]:
    """The error that a call ends with, and its ErrorInfo."""
    with pytest.raises(aio.AioRpcError) as caught:
        await asyncio.wait_for(call, GUARD_SECONDS)
    return caught.value, info_of(caught.value)


def info_of(error: Any) -> Any:
    """The ErrorInfo of an error."""
    status = rpc_status.from_call(error)
    info = error_details_pb2.ErrorInfo()
    assert status is not None
    assert status.details[0].Unpack(info)
    return info


def raiser(error: BaseException) -> Callable[[], Any]:
    """A function that raises."""

    def raising() -> Any:
        raise error

    return raising


async def last_error(call: Any) -> aio.AioRpcError:
    """Read a stream to its end."""

    async def read() -> None:
        while await call.read() is not aio.EOF:
            pass

    with pytest.raises(aio.AioRpcError) as caught:
        await asyncio.wait_for(read(), GUARD_SECONDS)
    return caught.value


async def test_a_refusal_is_a_status_with_its_reason(fake: Fake, channel: aio.Channel) -> None:
    """A Refusal raised anywhere below a handler reaches the caller with status, message and ErrorInfo."""
    fake.unary = raiser(refuse("DOMAIN_NOT_FOUND", "no domain 'web'", domain="web", host="a"))
    error, info = await error_of(query(channel).GetDomain(GetDomain()))
    assert (error.code(), error.details()) == (StatusCode.NOT_FOUND, "no domain 'web'")
    assert (info.domain, info.reason, dict(info.metadata)) == ("virtrpc", "DOMAIN_NOT_FOUND", {"domain": "web", "host": "a"})


async def test_a_refused_request_is_freed_without_a_collection(fake: Fake, channel: aio.Channel) -> None:
    """grpc keeps an aborted call's error, and with it the frames that it came through, until a collection: none of them holds the request."""
    fake.unary = raiser(refuse("DOMAIN_NOT_FOUND", "no domain"))
    gc.collect()
    gc.disable()
    try:
        await error_of(query(channel).GetDomain(GetDomain(domain=types_pb2.DomainRef(name="x" * 1_000_000))))
        errors = [found for found in gc.get_objects() if isinstance(found, aio.AbortError)]
        held = [value for error in errors for frame, _ in traceback.walk_tb(error.__traceback__) for value in frame.f_locals.values()]
        assert not [value for value in held if isinstance(value, bytes) and len(value) >= 1_000_000]
    finally:
        gc.enable()


async def test_a_drivers_error_is_a_status_too(fake: Fake, channel: aio.Channel) -> None:
    """A DriverError that a handler lets pass goes through the same table."""
    fake.unary = raiser(failure(Reason.AGENT_UNRESPONSIVE, "the agent does not answer"))
    error, info = await error_of(query(channel).GetDomain(GetDomain()))
    assert (error.code(), info.reason) == (StatusCode.FAILED_PRECONDITION, "AGENT_UNRESPONSIVE")


@pytest.mark.parametrize("unary", [raiser(RuntimeError("secret detail")), lambda: "secret detail", raiser(KeyError("secret detail"))])
async def test_nothing_unexpected_leaks_its_text(
    fake: Fake, channel: aio.Channel, caplog: pytest.LogCaptureFixture, unary: Callable[[], Any]
) -> None:
    """What a handler did not mean to raise, or a wrong answer, is INTERNAL with an error_id that the log explains."""
    fake.unary = unary
    with caplog.at_level(logging.ERROR):
        error, info = await error_of(query(channel).GetDomain(GetDomain()))
    assert (error.code(), info.reason) == (StatusCode.INTERNAL, "INTERNAL")
    assert "secret" not in f"{error} {info}"
    assert info.metadata["error_id"] in caplog.text


async def test_a_stream_that_fails_leaks_nothing_and_closes_its_generator(fake: Fake, channel: aio.Channel) -> None:
    """A stream's error arrives after what was sent, without its text, and its generator is finished."""

    async def stream() -> AsyncIterator[Any]:
        yield Batch(resume_token="first")
        raise RuntimeError("secret detail")

    fake.stream = stream
    call = query(channel).WatchDomains(Watch())
    assert (await call.read()).resume_token == "first"
    error = await last_error(call)
    assert (error.code(), info_of(error).reason) == (StatusCode.INTERNAL, "INTERNAL")
    assert "secret" not in str(error)


async def test_a_stream_may_send_bytes_as_they_are(fake: Fake, channel: aio.Channel) -> None:
    """A message that was serialised once for many streams is sent without being made again."""

    async def stream() -> AsyncIterator[Any]:
        yield Batch(resume_token="ready").SerializeToString()

    fake.stream = stream
    assert [batch.resume_token async for batch in query(channel).WatchDomains(Watch())] == ["ready"]


async def test_a_caller_that_leaves_ends_the_generator(fake: Fake, channel: aio.Channel) -> None:
    """Cancelling a stream runs its generator's `finally` at once."""
    call = query(channel).WatchDomains(Watch())
    await call.read()
    call.cancel()
    await asyncio.wait_for(fake.ended.wait(), GUARD_SECONDS)


async def test_a_malformed_request_is_the_callers_fault(channel: aio.Channel) -> None:
    """Bytes that are no message are INVALID_ARGUMENT, with nothing of the parser's text."""
    for method, make in (("GetDomain", channel.unary_unary), ("WatchDomains", channel.unary_stream)):
        call: Any = make(f"/{SERVICE_NAMES[0]}/{method}")(cast(Any, b"\xff\xff\xff"))
        error = await last_error(call) if method == "WatchDomains" else (await error_of(call))[0]
        assert (error.code(), info_of(error).reason) == (StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT")
        assert "Decode" not in str(error)


async def test_an_unknown_method_is_unimplemented(fake: Fake, channel: aio.Channel) -> None:
    """A method that this server lacks, or that nobody wrote, is UNIMPLEMENTED with its ErrorInfo."""
    stub: Any = job_pb2_grpc.JobServiceStub(channel)
    error, info = await error_of(stub.GetJob(job_pb2.GetJobRequest()))
    assert (error.code(), info.reason) == (StatusCode.UNIMPLEMENTED, "UNIMPLEMENTED")
    fake.unary = raiser(NotImplementedError())  # as grpc's generated servicers do
    error, info = await error_of(query(channel).GetDomain(GetDomain()))
    assert (error.code(), info.reason) == (StatusCode.UNIMPLEMENTED, "UNIMPLEMENTED")


async def test_the_callers_way_in_is_its_identity(fake: Fake, transport: Transport) -> None:
    """Handlers see "tcp" or "unix" as the caller's name."""
    tcp, unix = transport.addresses
    for address, expected in ((tcp, "tcp"), (unix, "unix")):
        async with aio.insecure_channel(address) as channel:
            await query(channel).GetDomain(GetDomain())
        assert fake.identity == expected


class Watchman:
    """A gate that lets nobody in to what it bars, and an observer."""

    def __init__(self) -> None:
        self.barred, self.inside = "", 0
        self.seen: list[tuple[str, str, str, str]] = []

    def enter(self, call: Call) -> None:
        """Count, or refuse."""
        if call.rpc == self.barred:
            raise refuse("PERMISSION_DENIED", "not today", rule="barred")
        self.inside += 1

    def leave(self, call: Call) -> None:
        """Count."""
        self.inside -= 1

    def over(self, call: Call, problem: Problem | None) -> None:
        """Take a note."""
        self.seen.append((call.rpc, call.caller.name, call.reason, problem.reason if problem is not None else "OK"))


@pytest.fixture
async def watchman(fake: Fake, tmp_path: Path) -> AsyncIterator[tuple[Watchman, aio.Channel]]:
    """A server with a gate and an observer, and a channel to it."""
    watchman = Watchman()
    guard = Guard(lambda _context, _call: BY_SOCKET, [watchman], [watchman])
    transport = Transport(tmp_path / "gate.sock", guard=guard)
    serve(transport, fake)
    await transport.start()
    async with aio.insecure_channel(transport.addresses[0]) as channel:
        yield watchman, channel
    await transport.stop()


async def test_a_gate_refuses_before_the_request_is_parsed(fake: Fake, watchman: tuple[Watchman, aio.Channel]) -> None:
    """What a gate refuses never reaches a parser or a handler, and the caller gets the gate's words."""
    gate, channel = watchman
    gate.barred = "GetDomain"
    malformed: Any = channel.unary_unary("/virtrpc.v1.QueryService/GetDomain")
    error, info = await error_of(malformed(b"\xff"))
    assert (error.code(), info.reason, info.metadata["rule"]) == (StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED", "barred")
    assert fake.identity == ""
    assert gate.seen == [("GetDomain", "unix", "", "PERMISSION_DENIED")]


async def test_every_rpc_that_a_gate_let_in_leaves_it_and_is_observed(fake: Fake, watchman: tuple[Watchman, aio.Channel]) -> None:
    """However it ends: answered, failed, or left by its caller; with the reason that the caller gave."""
    gate, channel = watchman
    await query(channel).GetDomain(GetDomain(), metadata=(("virtrpc-reason", "a look"),))
    fake.unary = raiser(refuse("DOMAIN_NOT_FOUND", "no such domain"))
    await error_of(query(channel).GetDomain(GetDomain()))
    stream = query(channel).WatchDomains(Watch())
    await stream.read()
    assert gate.inside == 1
    stream.cancel()
    await until(lambda: len(gate.seen) == 3)
    assert gate.inside == 0
    assert gate.seen == [
        ("GetDomain", "unix", "a look", "OK"), ("GetDomain", "unix", "", "DOMAIN_NOT_FOUND"), ("WatchDomains", "unix", "", LEFT.reason),
    ]  # fmt: skip


async def test_who_cannot_be_told_is_observed_as_nobody(fake: Fake, tmp_path: Path) -> None:
    """An RPC whose caller cannot be identified is UNAUTHENTICATED, reaches no gate, and observers hear of it."""
    watchman = Watchman()

    def identify(_context: Context, _call: Call) -> Caller:
        raise refuse("UNAUTHENTICATED", "who are you?")

    transport = Transport(tmp_path / "who.sock", guard=Guard(identify, [watchman], [watchman]))
    serve(transport, fake)
    await transport.start()
    async with aio.insecure_channel(transport.addresses[0]) as channel:
        error, _info = await error_of(query(channel).GetDomain(GetDomain()))
    await transport.stop()
    assert error.code() is StatusCode.UNAUTHENTICATED
    assert watchman.seen == [("GetDomain", NOBODY.name, "", "UNAUTHENTICATED")]


async def test_each_rpc_is_a_span_of_the_callers_trace(fake: Fake, channel: aio.Channel) -> None:
    """With tracing on, an RPC is a server span with its status, below the caller's traceparent; a handler's spans are below it."""
    exporter = InMemorySpanExporter()
    tracing.configure(exporter)

    def ended() -> bool:
        # The caller has its answer a moment before the span ends.
        tracing.flush()
        return bool(exporter.get_finished_spans())

    try:
        fake.unary = raiser(refuse("BUSY", "later"))
        await error_of(query(channel).GetDomain(GetDomain(), metadata=(("traceparent", f"00-{'a' * 32}-{'b' * 16}-01"),)))
        await until(ended)
    finally:
        tracing.shutdown()
    (span,) = exporter.get_finished_spans()
    assert span.parent is not None
    assert span.parent.span_id == int("b" * 16, 16)
    assert span.attributes is not None
    assert span.name == f"{SERVICE_NAMES[0]}/GetDomain"
    assert dict(span.attributes) == {
        "rpc.system.name": "grpc", "rpc.method": span.name, "rpc.response.status_code": "ABORTED", "error.type": "ABORTED",
        "virtrpc.error.reason": "BUSY", "virtrpc.caller": "unix", "server.address": span.attributes["server.address"],
    }  # fmt: skip
    # An answer, and no error of the server's.
    assert span.status.is_unset


async def test_health_speaks_for_the_server_and_for_each_host(transport: Transport, channel: aio.Channel) -> None:
    """The services serve from the start; a host's name follows set_host and touches no other; an unknown name is NOT_FOUND."""
    stub: Any = health_pb2_grpc.HealthStub(channel)

    async def status(name: str) -> int:
        answer: int = (await stub.Check(health_pb2.HealthCheckRequest(service=name))).status
        return answer

    names = ("", *SERVICE_NAMES)
    assert [await status(name) for name in names] == [Serving.SERVING] * 4
    assert await status("virtrpc.host/a") == Serving.NOT_SERVING
    watch = stub.Watch(health_pb2.HealthCheckRequest(service="virtrpc.host/a"))
    assert (await watch.read()).status == Serving.NOT_SERVING
    transport.set_host("a", serving=True)
    assert (await watch.read()).status == Serving.SERVING
    transport.set_host("a", serving=False)
    assert [await status(name) for name in names] == [Serving.SERVING] * 4
    with pytest.raises(aio.AioRpcError) as caught:
        await status("virtrpc.host/b")
    assert caught.value.code() is StatusCode.NOT_FOUND


async def test_reflection_names_the_services(channel: aio.Channel) -> None:
    """grpcurl and the like find all three services, health and reflection itself."""
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(cast(Any, channel))
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    (answer,) = [answer async for answer in stub.ServerReflectionInfo(iter([request]))]
    names = {service.name for service in answer.list_services_response.service}
    assert names >= {*SERVICE_NAMES, "grpc.health.v1.Health"}


async def test_the_socket_is_the_owners_alone_and_goes_with_the_server(path: Path, fake: Fake) -> None:
    """The socket has mode 0600 in a directory made for it, and is removed when the server stops; the umask is left as it was."""
    mask = os.umask(0o022)
    try:
        transport = Transport(path)
        await transport.start()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) & 0o022 == 0
        await transport.stop()
        assert not path.exists()
        assert os.umask(0o022) == 0o022
    finally:
        os.umask(mask)


async def test_a_stale_socket_is_replaced(path: Path) -> None:
    """A socket that nobody answers on is in nobody's way."""
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
        dead.listen()
    transport = Transport(path)
    await transport.start()
    async with aio.insecure_channel(transport.addresses[0]) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        assert (await stub.Check(health_pb2.HealthCheckRequest())).status == Serving.SERVING
    await transport.stop()


async def test_a_socket_in_use_is_left_alone(transport: Transport, path: Path, channel: aio.Channel) -> None:
    """A second server on the same path is refused, and the first one goes on."""
    second = Transport(path)
    with pytest.raises(ListenError, match="another server answers"):
        await second.start()
    await second.stop()
    assert path.exists()
    await query(channel).GetDomain(GetDomain())


async def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    """What stands in the way and is not a socket is reported, not removed."""
    (tmp_path / "file").write_text("precious")
    transport = Transport(tmp_path / "file")
    with pytest.raises(ListenError, match="not a socket"):
        await transport.start()
    await transport.stop()
    assert (tmp_path / "file").read_text() == "precious"


async def test_a_path_that_is_too_long_is_refused(tmp_path: Path) -> None:
    """The kernel's limit on socket paths is named instead of a failed bind."""
    with pytest.raises(ListenError, match="too long"):
        await Transport(tmp_path / ("x" * 120)).start()


async def test_a_group_may_have_the_socket(path: Path) -> None:
    """The socket's mode and group are what was asked for; a group that does not exist is an error that names it."""
    transport = Transport(path, access=Access(0o660, str(os.getgid())))
    await transport.start()
    found = path.stat()
    assert (stat.S_IMODE(found.st_mode), found.st_gid) == (0o660, os.getgid())
    await transport.stop()
    with pytest.raises(ListenError, match="no group 'nobodys-group'"):
        await Transport(path, access=Access(0o660, "nobodys-group")).start()


@pytest.mark.parametrize("address", ["127.0.0.1:0", "[::1]:0", "localhost:0", "0.0.0.0:0", "[::]:0", "192.0.2.1:50051", "example.org:50051"])
async def test_tcp_without_a_name_is_there_only_on_request(address: str) -> None:
    """A TCP address, of loopback too, is refused without `insecure`."""
    with pytest.raises(ListenError, match="or insecure if"):
        await Transport(None, address).start()


async def test_insecure_opens_every_address(caplog: pytest.LogCaptureFixture) -> None:
    """With `insecure` it listens, names the port that it got, and warns."""
    transport = Transport(None, "0.0.0.0:0", insecure=True)
    await transport.start()
    assert int(transport.addresses[0].removeprefix("0.0.0.0:")) > 0
    assert "without any authentication" in caplog.text
    await transport.stop()


async def test_a_port_in_use_is_reported(transport: Transport) -> None:
    """An address that is taken is a ListenError that names it."""
    with pytest.raises(ListenError, match=r"127\.0\.0\.1"):
        await Transport(None, transport.addresses[0], insecure=True).start()


async def test_drain_ends_streams_with_draining(transport: Transport, fake: Fake, channel: aio.Channel) -> None:
    """At the end of a drain a stream gets UNAVAILABLE (DRAINING), never a bare cancel, and its generator is finished."""
    call = query(channel).WatchDomains(Watch())
    await call.read()
    await transport.drain(0.01)
    error = await last_error(call)
    assert (error.code(), info_of(error).reason) == (StatusCode.UNAVAILABLE, "DRAINING")
    assert fake.ended.is_set()
    assert transport.draining


async def test_a_drain_tells_each_of_thousands(transport: Transport, fake: Fake, channel: aio.Channel) -> None:
    """However many streams there are, each ends with DRAINING."""
    streams = [query(channel).WatchDomains(Watch()) for _ in range(2500)]
    first = await asyncio.gather(*(stream.read() for stream in streams))
    assert {batch.resume_token for batch in first} == {"first"}
    await transport.drain(0.01)
    ends = await asyncio.gather(*(last_error(stream) for stream in streams))
    assert {(error.code(), info_of(error).reason) for error in ends} == {(StatusCode.UNAVAILABLE, "DRAINING")}


async def test_a_draining_server_answers_but_does_not_serve(transport: Transport, channel: aio.Channel) -> None:
    """After set_draining health says NOT_SERVING for good, hosts included, and queries are answered still."""
    stub: Any = health_pb2_grpc.HealthStub(channel)
    transport.set_draining()
    transport.set_host("a", serving=True)
    for name in ("", *SERVICE_NAMES, "virtrpc.host/a"):
        assert (await stub.Check(health_pb2.HealthCheckRequest(service=name))).status == Serving.NOT_SERVING
    await query(channel).GetDomain(GetDomain(domain=types_pb2.DomainRef(name="x")))


async def test_very_many_rpcs_at_once_are_all_served(fake: Fake, channel: aio.Channel) -> None:
    """As after a restart, when every watcher comes back: none is cancelled because too many came before its turn."""
    calls = [query(channel).GetDomain(GetDomain()) for _ in range(4000)]
    async with asyncio.timeout(GUARD_SECONDS):
        assert len(await asyncio.gather(*calls)) == len(calls)
