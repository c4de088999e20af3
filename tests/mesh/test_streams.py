"""Streams live for as long as they have something to say, and jobs for longer than the proxy."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from tests.beds.envoy import Configuration, Envoy, plain, servers
from tests.beds.sim_daemon import SimDaemon
from tests.beds.wait import wait_until
from tests.e2e.server import Server
from tests.mesh.grpc_web import WebCall
from tests.mesh.json_calls import JsonCall
from virtrpc import Client
from virtrpc.v1 import job_pb2, job_pb2_grpc, query_pb2, query_pb2_grpc
from virtrpc.v1 import types_pb2 as t

pytestmark = pytest.mark.mesh
IDLE = "4s"
HEARTBEAT = 0.5
LONG_SECONDS = 60.0
"""How long streams are kept, fifteen times what they may be silent."""
LIVED = "it lived"
MANY = 1100
OWN = ("grpc.use_local_subchannel_pool", 1)
"""A connection for each channel."""


def impatient(configuration: Configuration) -> None:
    """Streams may be silent for 4 s."""
    for rpc in ("WatchDomains", "ManagedSaveDomain"):
        configuration.kind(rpc)["idle_timeout"] = IDLE


@pytest.fixture(scope="module")
def quiet() -> Iterator[Server]:
    """A server of whose guests nothing is heard, and whose saves take hours."""
    with Server({"try": "sim://try/?domains=6&running=6&save_seconds=7200&progress_seconds=7200"}) as server:
        server.wait_live()
        yield server
        with server.blocking() as client:
            for job in client.list_jobs(filter=job_pb2.JobFilter(states=[t.JOB_STATE_RUNNING])):
                client.cancel_job(job_id=job.job_id)


@pytest.fixture(scope="module")
def hasty(quiet: Server) -> Iterator[Envoy]:
    """An Envoy that cuts streams after 4 s of silence."""
    with Envoy(plain, servers(quiet.socket), impatient) as envoy:
        yield envoy


def lasting(messages: Iterable[object]) -> str:
    """Listen for a minute: whether the stream lived so long, or how it ended."""
    until = time.monotonic() + LONG_SECONDS
    try:
        for _ in messages:
            if time.monotonic() > until:
                return LIVED
    except Exception as error:  # noqa: BLE001 # however it ended
        return repr(error)
    return "it ended"


@pytest.mark.timeout(240)
def test_streams_outlive_the_idle_time_out_by_heartbeats(hasty: Envoy) -> None:
    """Watches and a job's stream, by gRPC, gRPC-Web and JSON, live for a minute on a heartbeat each half second where 4 s of silence are allowed."""
    pace = Duration(nanos=int(HEARTBEAT * 1e9))
    beat = {"heartbeat": f"{HEARTBEAT}s"}
    with grpc.insecure_channel(hasty.address) as channel:
        query, job = query_pb2_grpc.QueryServiceStub(channel), job_pb2_grpc.JobServiceStub(channel)
        save = job_pb2.ManagedSaveDomainRequest(domain=t.DomainRef(name="guest-1"), options=t.JobOptions(heartbeat=pace))
        watch = query_pb2.WatchDomainsRequest(heartbeat=pace)
        streams: list[Callable[[], Iterable[object]]] = [
            lambda: query.WatchDomains(watch),
            lambda: job.WatchJobs(job_pb2.WatchJobsRequest(heartbeat=pace)),
            lambda: job.ManagedSaveDomain(save),
            lambda: WebCall(hasty.address, "/virtrpc.v1.QueryService/WatchDomains", watch).messages(query_pb2.WatchDomainsResponse),
            lambda: JsonCall(hasty.address, "QueryService/WatchDomains", beat).lines(),
            lambda: JsonCall(hasty.address, "JobService/ManagedSaveDomain", {"domain": {"name": "guest-2"}, "options": beat}).lines(),
        ]
        with ThreadPoolExecutor(len(streams)) as listeners:
            assert list(listeners.map(lambda stream: lasting(stream()), streams)) == [LIVED] * len(streams)


def test_a_silent_stream_is_cut(hasty: Envoy) -> None:
    """Without heartbeats (the server's own come each 15 s) the same idle time-out ends a watch, and a job's stream but not the job."""
    before = hasty.stats("http.callers.").get("downstream_rq_idle_timeout", 0)
    with grpc.insecure_channel(hasty.address) as channel:
        with pytest.raises(grpc.RpcError):
            list(query_pb2_grpc.QueryServiceStub(channel).WatchDomains(query_pb2.WatchDomainsRequest()))
        save = job_pb2_grpc.JobServiceStub(channel).ManagedSaveDomain(job_pb2.ManagedSaveDomainRequest(domain=t.DomainRef(name="guest-3")))
        jobs = [next(save).job]
        with pytest.raises(grpc.RpcError):
            jobs += [update.job for update in save]
        assert hasty.stats("http.callers.")["downstream_rq_idle_timeout"] - before == 2
        known = job_pb2_grpc.JobServiceStub(channel).GetJob(job_pb2.GetJobRequest(job_id=jobs[0].job_id)).job
        assert known.state == t.JOB_STATE_RUNNING


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["in good order", "killed"])
def test_a_job_goes_on_when_envoy_restarts(number: signal.Signals) -> None:
    """Who follows it attaches again by itself and hears its end; the hypervisor was called once."""
    with (
        SimDaemon() as sim,
        Server({"try": sim.uri("try", domains=2, running=2, save_seconds=4)}) as server,
        Envoy(plain, servers(server.socket)) as envoy,
    ):
        server.wait_live()
        broken: list[object] = []
        with Client(envoy.address) as client, server.blocking() as direct:
            save = client.managed_save_domain("guest-1")
            save.on_broken = broken.append
            jobs = iter(save)
            first = next(jobs)
            envoy.stop(number)
            assert direct.get_job(job_id=first.job_id).state == t.JOB_STATE_RUNNING
            envoy.start()
            assert list(jobs)[-1].state == t.JOB_STATE_SUCCEEDED
            assert broken
            assert [job.job_id for job in direct.list_jobs()] == [first.job_id]


@pytest.mark.parametrize("how", ["deadline", "hangs up"])
def test_the_server_hears_who_leaves(quiet: Server, hasty: Envoy, how: str) -> None:
    """A caller's deadline that passes, or a script that hangs up, is a disconnect to the server: a job with CANCEL is cancelled."""
    cancel = t.JobOptions(on_disconnect=t.ON_DISCONNECT_CANCEL)
    if how == "deadline":
        with grpc.insecure_channel(hasty.address) as channel:
            request = job_pb2.ManagedSaveDomainRequest(domain=t.DomainRef(name="guest-4"), options=cancel)
            updates = job_pb2_grpc.JobServiceStub(channel).ManagedSaveDomain(request, timeout=3)
            job_id = next(updates).job.job_id
            with pytest.raises(grpc.RpcError):
                list(updates)
    else:
        options = {"onDisconnect": "ON_DISCONNECT_CANCEL"}
        call = JsonCall(hasty.address, "JobService/ManagedSaveDomain", {"domain": {"name": "guest-5"}, "options": options})
        job_id = next(call.lines())["job"]["jobId"]
        call.leave()
    with quiet.blocking() as direct:
        wait_until(lambda: direct.get_job(job_id=job_id).state == t.JOB_STATE_CANCELLED, "the job to be cancelled")


def test_an_envoy_that_drains_lets_streams_end(server: Server) -> None:
    """Who follows a job when Envoy is told to drain is told its end, without a break."""
    with Envoy(plain, servers(server.socket)) as envoy, Client(envoy.address) as client:
        broken: list[object] = []
        save = client.managed_save_domain("guest-3")
        save.on_broken = broken.append
        jobs = iter(save)
        next(jobs)
        envoy.admin("/drain_listeners?graceful&skip_exit", "POST")
        assert (list(jobs)[-1].state, broken) == (t.JOB_STATE_SUCCEEDED, [])
    with server.blocking() as direct:
        direct.start_domain("guest-3").wait()


async def test_there_is_room_for_many_streams(server: Server, envoy: Envoy) -> None:
    """More watches than Envoy would let through of its own accord (1,024 calls, 100 streams of a connection, as is often advised)."""
    async with AsyncExitStack() as stack:
        channels = [await stack.enter_async_context(grpc.aio.insecure_channel(envoy.address, options=[OWN])) for _ in range(2)]
        stubs = [query_pb2_grpc.QueryServiceStub(channel) for channel in channels]
        watches = [stubs[number % 2].WatchDomains(query_pb2.WatchDomainsRequest()) for number in range(MANY)]
        begun = await asyncio.gather(*(watch.read() for watch in watches))
        assert [batch for batch in begun if not isinstance(batch, query_pb2.WatchDomainsResponse)] == []
        assert envoy.stats("cluster.virtrpcd.")["upstream_rq_active"] >= MANY


def test_a_watch_goes_on_when_envoy_restarts(server: Server) -> None:
    """Our client's watch resumes through the next Envoy and misses nothing."""
    with Envoy(plain, servers(server.socket)) as envoy, Client(envoy.address) as client, server.blocking() as direct:
        watch = client.watch_domains()
        batches = iter(watch)
        while not any(change.current.name == "guest-4" for change in next(batches).changes):
            pass
        envoy.stop(signal.SIGKILL)
        direct.suspend_domain("guest-4").wait()
        envoy.start()
        after = next(batch for batch in batches if batch.changes)
        assert ([change.current.state for change in after.changes], after.reset) == ([t.DOMAIN_STATE_PAUSED], False)
        watch.close()
        direct.resume_domain("guest-4").wait()
