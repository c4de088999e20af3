"""SIGTERM to the real `virtrpcd` on a simulated host that outlives it: what is refused, what goes on, and how every stream ends."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import grpc
import grpc.aio
import pytest
from google.rpc import error_details_pb2  # type: ignore[import-untyped] # googleapis-common-protos has no py.typed
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status

from tests.beds.sim_daemon import SimDaemon
from tests.e2e.server import GUARD, Server, eventually
from virtrpc import AsyncClient, AsyncJobHandle, ServerUnavailable
from virtrpc.v1 import job_pb2 as j
from virtrpc.v1 import query_pb2 as q
from virtrpc.v1 import types_pb2 as t
from virtrpc_server.contract import SERVICE_NAMES

Serving = health_pb2.HealthCheckResponse
NAMES = ("", *SERVICE_NAMES, "virtrpc.host/a")


@contextmanager
def draining_server(save_seconds: float, drain_timeout: float) -> Iterator[tuple[SimDaemon, Server]]:
    """A server whose host's saves take so long, and which waits so long for them."""
    with SimDaemon() as daemon:
        uri = daemon.uri("a", domains=2, running=2, save_seconds=save_seconds, progress_seconds=1000)
        with Server({"a": uri}, "--drain-timeout", str(drain_timeout)) as server:
            server.wait_live()
            yield daemon, server


@asynccontextmanager
async def saving(server: Server) -> AsyncIterator[tuple[AsyncClient, AsyncJobHandle]]:
    """A client, and a save that runs."""
    async with server.client() as client:
        save = await client.managed_save_domain("guest-1")
        await eventually(lambda: _runs(client, save.job_id), "the save to run")
        yield client, save


async def _runs(client: AsyncClient, job_id: str) -> bool:
    return (await client.get_job(job_id=job_id)).state == t.JOB_STATE_RUNNING


async def last(call: Any) -> tuple[list[Any], grpc.aio.AioRpcError | None]:
    """All that a stream tells, and how it ends; None is OK."""
    told: list[Any] = []
    try:
        while (message := await call.read()) is not grpc.aio.EOF:
            told.append(message)
    except grpc.aio.AioRpcError as error:
        return told, error
    return told, None


def assert_draining(error: grpc.aio.AioRpcError | None) -> None:
    """UNAVAILABLE with the reason DRAINING, and a delay after which to try again."""
    assert error is not None
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    status = rpc_status.from_call(error)  # type: ignore[arg-type] # an AioRpcError has what it asks for
    assert status is not None, error
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    assert status.details[0].Unpack(info)
    assert status.details[1].Unpack(retry)
    assert (info.reason, retry.retry_delay.seconds) == ("DRAINING", 1)


@pytest.mark.timeout(180)
async def test_a_drain_that_is_not_long_enough() -> None:
    """Health says NOT_SERVING for every name, verbs are refused with a retry hint, queries are answered and streams stay while the save runs; then
    every kind of stream ends with DRAINING. The save goes on at the hypervisor and is not cancelled."""
    with draining_server(save_seconds=14, drain_timeout=6) as (daemon, server):
        async with saving(server) as (client, save), server.channel() as channel:
            health: Any = health_pb2_grpc.HealthStub(channel.channel)
            verb = channel.job.ManagedSaveDomain(
                j.ManagedSaveDomainRequest(domain=t.DomainRef(name="guest-2"), options=t.JobOptions(on_disconnect=t.ON_DISCONNECT_CANCEL))
            )
            verb_job = dict(await verb.initial_metadata())["virtrpc-job-id"]
            await eventually(lambda: _runs(client, str(verb_job)), "the other save to run")
            streams: list[Any] = [
                verb,
                channel.job.WatchJob(j.WatchJobRequest(job_id=save.job_id)),
                channel.job.WatchJobs(j.WatchJobsRequest()),
                channel.query.WatchDomains(q.WatchDomainsRequest()),
                *(health.Watch(health_pb2.HealthCheckRequest(service=name)) for name in NAMES),
            ]
            for stream in streams:
                await stream.read()
            ends = [asyncio.ensure_future(last(stream)) for stream in streams]
            server.send(signal.SIGTERM)

            async def unready() -> bool:
                asked = [health.Check(health_pb2.HealthCheckRequest(service=name)) for name in NAMES]
                return {(await answer).status for answer in asked} == {Serving.NOT_SERVING}

            await eventually(unready, "the health to say that it goes down")
            assert_draining((await last(channel.job.StartDomain(j.StartDomainRequest(domain=t.DomainRef(name="guest-1")))))[1])
            assert (await client.get_domain("guest-2")).name == "guest-2"
            assert not any(end.done() for end in ends)
            for told, error in await asyncio.gather(*ends):
                assert_draining(error)
                assert {job.state for job in _jobs(told)} <= {t.JOB_STATE_QUEUED, t.JOB_STATE_RUNNING}
            assert await asyncio.to_thread(server.wait) == 0
        await eventually(lambda: _saved(daemon), "the hypervisor to finish both saves")


def _jobs(told: list[Any]) -> list[t.Job]:
    jobs = [message.job for message in told if isinstance(message, t.JobUpdate)]
    return jobs + [change.current for message in told if isinstance(message, j.WatchJobsResponse) for change in message.changes]


async def _saved(daemon: SimDaemon) -> bool:
    return [(deed.verb, deed.how) for deed in await daemon.ledger("a")] == [("ManagedSave", "succeeded")] * 2


@pytest.mark.timeout(180)
async def test_a_job_that_ends_within_the_drain() -> None:
    """Its own stream and its watcher are told its end and end with OK; a drain is no disconnect, whatever the caller wanted then."""
    with draining_server(save_seconds=4, drain_timeout=GUARD) as (_, server):
        async with saving(server) as (client, save):
            watching = asyncio.ensure_future(client.watch_job(save.job_id).wait())
            server.send(signal.SIGTERM)
            assert (await save.wait()).state == t.JOB_STATE_SUCCEEDED
            assert (await watching).state == t.JOB_STATE_SUCCEEDED
        assert await asyncio.to_thread(server.wait) == 0


async def test_a_verb_that_meets_a_drain_says_so() -> None:
    """A client tries it again for as long as its timeout says, and then raises what the server said."""
    with draining_server(save_seconds=GUARD, drain_timeout=8) as (_, server):
        async with saving(server) as (client, _):
            server.send(signal.SIGTERM)
            with pytest.raises(ServerUnavailable) as caught:
                await client.within(timeout=1.5).suspend_domain("guest-2")
            assert caught.value.reason == "DRAINING"
            assert caught.value.retry_after == 1
        assert await asyncio.to_thread(server.wait) == 0
