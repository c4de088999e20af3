"""What one caller may have is bounded, and what it lacks is nobody else's loss."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from google.rpc import error_details_pb2  # type: ignore[import-untyped] # googleapis-common-protos has no py.typed
from grpc import Compression, StatusCode, aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status

from tests.server.test_transport import Fake, GetDomain, Watch, error_of, query, serve
from tests.server.world import World, virtual
from virtrpc_drivers.operations import Destroy, ManagedSave, Suspend
from virtrpc_server import guard
from virtrpc_server.caller import Call, Caller, Way
from virtrpc_server.errors import NotYet, Refusal
from virtrpc_server.guard import Guard
from virtrpc_server.limits import HEALTH, MAX_ACCOUNTS, Limits
from virtrpc_server.settings.limits import LimitSettings
from virtrpc_server.transport import Transport

QUERY = "virtrpc.v1.QueryService"
FEW = LimitSettings(calls_per_second=10, burst=3, streams=2)


class Bed:
    """The gate on a clock that stands."""

    def __init__(self, settings: LimitSettings = FEW) -> None:
        self.now = 1000.0
        self.limits = Limits(settings, lambda: self.now)

    def enter(self, name: str = "alice", *, streams: bool = False, service: str = QUERY) -> Call:
        """A call that is let in; raises what the gate raises."""
        this = Call(service, "GetDomain", streams, caller=Caller(name, Way.TLS, (name,)))
        self.limits.enter(this)
        return this

    def refused(self, name: str = "alice", *, streams: bool = False) -> NotYet:
        """What a call is refused with."""
        with pytest.raises(Refusal) as caught:
            self.enter(name, streams=streams)
        assert isinstance(caught.value.problem, NotYet)
        return caught.value.problem


def test_calls_come_back_with_time() -> None:
    """After a burst a caller is refused, is told when to come again, and is let in then: once for each tenth of a second at ten a second."""
    bed = Bed()
    for _ in range(3):
        bed.enter()
    problem = bed.refused()
    assert (problem.reason, problem.metadata) == ("RATE_LIMITED", {"limit": "10"})
    assert problem.retry_seconds == pytest.approx(0.1)
    bed.now += problem.retry_seconds
    bed.enter()
    assert bed.refused().reason == "RATE_LIMITED"
    bed.now += 3600
    for _ in range(3):
        bed.enter()
    assert bed.refused().reason == "RATE_LIMITED"


def test_refused_calls_cost_nothing() -> None:
    """Who is refused a thousand times is let in as soon as one who was refused once."""
    bed = Bed()
    for _ in range(3):
        bed.enter()
    for _ in range(1000):
        bed.refused()
    bed.now += 0.1
    bed.enter()


def test_each_caller_has_its_own() -> None:
    """One caller's flood takes nothing from another."""
    bed = Bed()
    for _ in range(3):
        bed.enter("mallory")
    bed.refused("mallory")
    bed.enter("alice")


def test_streams_are_counted_until_they_end() -> None:
    """Streams beyond the limit are refused with the limit; unary calls go on; one that ends makes room."""
    bed = Bed(LimitSettings(streams=2))
    first = bed.enter(streams=True)
    bed.enter(streams=True)
    problem = bed.refused(streams=True)
    assert (problem.reason, problem.metadata) == ("TOO_MANY_STREAMS", {"limit": "2"})
    bed.enter()
    bed.limits.leave(first)
    bed.enter(streams=True)
    bed.refused(streams=True)


def test_health_is_never_refused() -> None:
    """Health answers, and is watched, whatever else its caller does."""
    bed = Bed()
    for _ in range(3):
        bed.enter()
    for _ in range(100):
        bed.limits.leave(bed.enter(service=HEALTH, streams=True))


def test_nought_is_no_limit() -> None:
    """With 0 nothing is refused."""
    bed = Bed(LimitSettings(calls_per_second=0, streams=0))
    for _ in range(50_000):
        bed.enter(streams=True)


def test_callers_are_forgotten() -> None:
    """However many come, few are remembered: never one with an open stream."""
    bed = Bed(LimitSettings(calls_per_second=10, burst=100, streams=2))
    watcher = bed.enter("watcher", streams=True)
    bed.enter("watcher", streams=True)
    for number in range(3 * MAX_ACCOUNTS):
        bed.enter(f"caller-{number}")
        bed.now += 0.01
    assert len(bed.limits._accounts) <= MAX_ACCOUNTS
    bed.refused("watcher", streams=True)
    bed.limits.leave(watcher)
    bed.enter("watcher", streams=True)


async def test_on_the_wire(tmp_path: Path) -> None:
    """A refusal is RESOURCE_EXHAUSTED with its reason and a RetryInfo; a stream that its caller leaves makes room; health is answered."""
    fake, settings = Fake(), LimitSettings(calls_per_second=0.001, burst=4, streams=1)
    transport = Transport(tmp_path / "s", guard=Guard(gates=(Limits(settings),)), limits=settings)
    serve(transport, fake)
    await transport.start()
    try:
        async with aio.insecure_channel(transport.addresses[0]) as channel:
            watch = query(channel).WatchDomains(Watch())
            await watch.read()
            error, info = await error_of(query(channel).WatchDomains(Watch()).read())
            assert (error.code().name, info.reason) == ("RESOURCE_EXHAUSTED", "TOO_MANY_STREAMS")
            watch.cancel()
            await fake.ended.wait()
            await query(channel).GetDomain(GetDomain())
            await query(channel).GetDomain(GetDomain())
            await query(channel).WatchDomains(Watch()).read()
            error, info = await error_of(query(channel).GetDomain(GetDomain()))
            assert (error.code().name, info.reason, info.metadata["limit"]) == ("RESOURCE_EXHAUSTED", "RATE_LIMITED", "0.001")
            assert _retry_of(error).retry_delay.seconds > 100
            health: Any = health_pb2_grpc.HealthStub(channel)
            assert (await health.Check(health_pb2.HealthCheckRequest())).status == health_pb2.HealthCheckResponse.SERVING
    finally:
        await transport.stop()


def _retry_of(error: aio.AioRpcError) -> Any:
    retry = error_details_pb2.RetryInfo()
    status = rpc_status.from_call(error)  # type: ignore[arg-type] # an AioRpcError will do
    assert status is not None
    assert status.details[1].Unpack(retry)
    return retry


async def test_a_longer_message_than_the_limit(tmp_path: Path) -> None:
    """The size of a message is limited as configured, also when it comes compressed, and the channel goes on."""
    fake, settings = Fake(), LimitSettings(message_bytes=2 << 20)
    transport = Transport(tmp_path / "s", limits=settings)
    serve(transport, fake)
    await transport.start()
    try:
        for compression in (Compression.NoCompression, Compression.Gzip):
            async with aio.insecure_channel(transport.addresses[0], compression=compression) as channel:
                call: Any = channel.unary_unary(f"/{QUERY}/GetDomain")
                await call(b"\x7a" + b"\x80\x80\x40" + bytes(1 << 20), timeout=30)  # an unknown field of 1 MiB
                with pytest.raises(aio.AioRpcError) as caught:
                    await call(bytes(3 << 20), timeout=30)
                assert caught.value.code().name == "RESOURCE_EXHAUSTED"
                await query(channel).GetDomain(GetDomain())
    finally:
        await transport.stop()


async def test_no_more_connections_than_the_limit(tmp_path: Path) -> None:
    """A connection beyond the limit is closed at once, and one that ends makes room."""
    transport = Transport(None, "127.0.0.1:0", insecure=True, limits=LimitSettings(connections=2))
    serve(transport, Fake())
    await transport.start()
    host, _, port = transport.addresses[0].rpartition(":")
    try:
        first, second = [await asyncio.open_connection(host, int(port)) for _ in range(2)]
        await second[0].readexactly(9)  # its settings: it is in
        third = await asyncio.open_connection(host, int(port))
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await asyncio.wait_for(third[0].readexactly(9), 30)
        for _, writer in (first, second, third):
            writer.close()
        async with aio.insecure_channel(transport.addresses[0]) as channel:
            await query(channel).GetDomain(GetDomain(), wait_for_ready=True, timeout=30)
    finally:
        await transport.stop()


@virtual
async def test_jobs_of_one_owner() -> None:
    """An owner with as many jobs as it may have is refused another, but never a destroy nor a repeat of what it began; others are not."""
    async with World("sim://a/?domains=4&running=4&save_seconds=50") as world:
        world.jobs._each = 2
        first = world.accept(ManagedSave(uuid=world.guest(1).uuid), owner="alice", request_id="one", fingerprint="same")
        second = world.accept(ManagedSave(uuid=world.guest(2).uuid), owner="alice")
        with pytest.raises(Refusal) as caught:
            world.accept(Suspend(uuid=world.guest(3).uuid), owner="alice")
        assert caught.value.problem.reason == "TOO_MANY_JOBS"
        again = world.accept(ManagedSave(uuid=world.guest(1).uuid), owner="alice", request_id="one", fingerprint="same")
        assert again.job.id == first.job.id
        other = world.accept(Suspend(uuid=world.guest(3).uuid), owner="bob")
        destroy = world.accept(Destroy(uuid=world.guest(2).uuid), owner="alice")
        for listener in (other, destroy, second):
            await world.end(listener)
        assert (await world.run(Suspend(uuid=world.guest(4).uuid), owner="alice")).problem is None
        await world.end(first)
        assert not world.jobs._owned


@pytest.mark.parametrize("stream", [False, True], ids=["GetDomain", "WatchDomains"])
async def test_a_call_without_a_request_is_told_so(tmp_path: Path, stream: bool) -> None:
    """One that its caller ends before it has sent anything is refused at once, and its handler hears nothing."""
    async with bare(tmp_path, stream) as (call, fake):
        await call.done_writing()
        error, info = await error_of(call.read())
        assert (error.code(), info.reason) == (StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT")
        assert "without a request" in (error.details() or "")
        assert fake.identity == ""


@pytest.mark.parametrize("stream", [False, True], ids=["GetDomain", "WatchDomains"])
async def test_a_request_that_never_comes_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stream: bool) -> None:
    """A call that is only opened is ended by the server, and told why."""
    monkeypatch.setattr(guard, "REQUEST_SECONDS", 0.05)
    monkeypatch.setattr(guard, "SWEEP_SECONDS", 0.05)
    async with bare(tmp_path, stream) as (call, fake):
        error, info = await error_of(call.read())
        assert (error.code(), info.reason) == (StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT")
        assert "did not come" in (error.details() or "")
        assert fake.identity == ""


@asynccontextmanager
async def bare(directory: Path, stream: bool) -> AsyncIterator[tuple[Any, Fake]]:
    """A call whose caller may send what it likes, or nothing."""
    fake, transport = Fake(), Transport(directory / "s")
    serve(transport, fake)
    await transport.start()
    async with aio.insecure_channel(transport.addresses[0]) as channel:
        yield channel.stream_stream(f"/{QUERY}/{'WatchDomains' if stream else 'GetDomain'}")(), fake
    await transport.stop()
