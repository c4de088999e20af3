"""A verb runs once, whatever a proxy thinks of trying it again: the hypervisor's own ledger says how often it was called."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from grpc import StatusCode

from tests.beds.envoy import Configuration, Envoy, plain, servers, side_by_side, unchecked
from tests.beds.sim_daemon import SimDaemon
from tests.beds.wait import wait_until
from tests.e2e.server import Server, eventually
from virtrpc import AsyncClient, job_options
from virtrpc.v1 import job_pb2, job_pb2_grpc
from virtrpc.v1 import types_pb2 as t
from virtrpc_drivers.sim.control import AddFault, ClearFaults
from virtrpc_drivers.sim.faults import Rule

pytestmark = pytest.mark.mesh
SAVE = "/virtrpc.v1.JobService/ManagedSaveDomain"


def istio(configuration: Configuration) -> None:
    """Verbs are tried again as Istio has it where nobody says otherwise: twice, elsewhere if that can be."""
    configuration.kind("ManagedSaveDomain")["retry_policy"] = {
        "retry_on": "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes",
        "retriable_status_codes": [503],
        "num_retries": 2,
        "host_selection_retry_max_attempts": 5,
        "retry_host_predicate": configuration.kind("GetDomain")["retry_policy"]["retry_host_predicate"],
    }


@pytest.fixture
def sim() -> Iterator[SimDaemon]:
    """Simulated hosts that outlive their servers, and count."""
    with SimDaemon() as sim:
        yield sim


def host(sim: SimDaemon) -> dict[str, str]:
    """A host of it, for any number of servers."""
    return {"try": sim.uri("try", domains=12, running=12, save_seconds=3)}


@asynccontextmanager
async def no_save_ends(sim: SimDaemon) -> AsyncIterator[None]:
    """Saves that begin within the block end after it."""
    async with sim.connected("try") as hypervisor:
        await hypervisor.simulate(AddFault(rule=Rule(verb="ManagedSave", step=1, wedge=True)))
        yield
        await hypervisor.simulate(ClearFaults())


async def told(sim: SimDaemon, verb: str = "ManagedSave") -> int:
    """How often the hypervisor was ever told to do something."""
    return len([deed for deed in await sim.ledger("try") if deed.verb == verb])


def retried(envoy: Envoy) -> int:
    """How many calls Envoy has tried again."""
    return envoy.stats("cluster.virtrpcd.")["upstream_rq_retry"]


def save(channel: grpc.aio.Channel, domain: str) -> Any:
    """The call of a client that knows nothing of virtrpc, and does nothing by itself."""
    stub: job_pb2_grpc.JobServiceAsyncStub = job_pb2_grpc.JobServiceStub(channel)
    return stub.ManagedSaveDomain(job_pb2.ManagedSaveDomainRequest(domain=t.DomainRef(name=domain)))


async def ended(call: Any) -> StatusCode:
    """How a stream ends, read to its end."""
    try:
        while await call.read() is not grpc.aio.EOF:
            pass
    except grpc.aio.AioRpcError as error:
        return error.code()
    return StatusCode.OK


ENDINGS = [(signal.SIGTERM, StatusCode.UNAVAILABLE), (signal.SIGKILL, StatusCode.INTERNAL)]
"""What callers behind Envoy are told when a server goes down in good order, and when it is killed: then Envoy resets their streams."""


@pytest.mark.parametrize(("number", "code"), ENDINGS, ids=["goes down", "is killed"])
async def test_a_verb_whose_server_goes_away_runs_once(sim: SimDaemon, number: signal.Signals, code: StatusCode) -> None:
    """Its stream ends, another server could take it, and Istio's retries leave it alone: initial metadata said that it had begun."""
    with Server(host(sim), drain_timeout=0) as first, Server(host(sim)) as second:
        first.wait_live()
        second.wait_live()
        with Envoy(plain, servers(first.socket, second.socket), istio) as envoy:
            async with grpc.aio.insecure_channel(envoy.address) as channel:
                call = save(channel, "guest-1")
                await call.read()
                await eventually(lambda: told(sim), "the hypervisor to be told")
                first.send(number)
                assert await ended(call) is code
            assert (retried(envoy), await told(sim)) == (0, 1)
            first.wait()


async def test_a_verb_that_was_refused_is_run_elsewhere_once(sim: SimDaemon) -> None:
    """A server that goes down refuses before anything begins (DRAINING), so that the same retries do good: each verb runs, and runs once."""
    with Server(host(sim), drain_timeout=60) as leaving, Server(host(sim)) as other:
        leaving.wait_live()
        other.wait_live()
        async with no_save_ends(sim):
            async with leaving.client() as direct:
                await direct.managed_save_domain("guest-12")
            leaving.send(signal.SIGTERM)
            with Envoy(plain, side_by_side(leaving.socket, other.socket), istio, unchecked) as envoy:
                async with grpc.aio.insecure_channel(envoy.address) as channel:
                    stub: job_pb2_grpc.JobServiceAsyncStub = job_pb2_grpc.JobServiceStub(channel)
                    for number in range(1, 12):
                        suspend = job_pb2.SuspendDomainRequest(domain=t.DomainRef(name=f"guest-{number}"))
                        jobs = [update.job async for update in stub.SuspendDomain(suspend)]
                        assert jobs[-1].state == t.JOB_STATE_SUCCEEDED
                        assert await told(sim, "Suspend") == number
                assert retried(envoy) > 0
                assert envoy.stats("cluster.virtrpcd.")["upstream_cx_connect_fail"] == 0, "it was there, and refused"
        assert leaving.wait() == 0


async def test_retries_are_in_force() -> None:
    """The control: what ends UNAVAILABLE before it has sent anything is run three times by the same configuration."""
    ran: list[str] = []
    async with hapless(ran) as port:
        with Envoy(plain, servers(port), istio, unchecked) as envoy:
            async with grpc.aio.insecure_channel(envoy.address) as channel:
                with pytest.raises(grpc.aio.AioRpcError):
                    await save(channel, "guest-1").read()
    assert ran == [SAVE] * 3


async def test_the_shipped_configuration_tries_no_verb_again() -> None:
    """Even where that would do no harm: whether to repeat is the caller's to say, with its request_id."""
    ran: list[str] = []
    async with hapless(ran) as port:
        with Envoy(plain, servers(port), unchecked) as envoy:
            async with grpc.aio.insecure_channel(envoy.address) as channel:
                with pytest.raises(grpc.aio.AioRpcError):
                    await save(channel, "guest-1").read()
    assert ran == [SAVE]


@asynccontextmanager
async def hapless(ran: list[str]) -> AsyncIterator[int]:
    """A server that does what it is told and says so only by failing; `ran` gets each call. Gives its port."""

    class Anything(grpc.GenericRpcHandler):
        def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes]:
            ran.append(handler_call_details.method)
            return grpc.unary_stream_rpc_method_handler(fail)

    async def fail(_request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> None:
        await context.abort(StatusCode.UNAVAILABLE, "too late")

    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Anything(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield port
    finally:
        await server.stop(None)


async def test_a_repeated_verb_finds_its_job(sim: SimDaemon) -> None:
    """Its server was killed; one caller follows the job through that, another repeats the verb with its request_id: the same job, run once."""
    with Server(host(sim)) as server:
        server.wait_live()
        with Envoy(plain, servers(server.socket), istio) as envoy:
            options = job_options(request_id="once")
            async with AsyncClient(envoy.address) as client:
                followed = await client.managed_save_domain("guest-1", options=options)
                await eventually(lambda: told(sim), "the hypervisor to be told")
                server.kill()
                server.start()
                repeated = await (await client.managed_save_domain("guest-1", options=options)).wait()
                done = await followed.wait()
            assert (repeated.job_id, repeated.state) == (done.job_id, t.JOB_STATE_SUCCEEDED)
            assert await told(sim) == 1


async def test_the_last_server_is_asked_to_its_end(sim: SimDaemon) -> None:
    """Where no other could take them, queries and followers go to a server that goes down for as long as it answers."""
    with Server(host(sim), drain_timeout=60) as server:
        server.wait_live()
        with Envoy(plain, servers(server.socket)) as envoy:
            async with AsyncClient(envoy.address) as client:
                async with no_save_ends(sim):
                    followed = await client.managed_save_domain("guest-1")
                    server.send(signal.SIGTERM)
                    wait_until(lambda: envoy.stats("cluster.virtrpcd.")["membership_healthy"] == 0, "Envoy to hear that it goes down")
                    assert (await client.get_job(job_id=followed.job_id)).state == t.JOB_STATE_RUNNING
                assert (await followed.wait()).state == t.JOB_STATE_SUCCEEDED
        assert server.wait() == 0


async def test_our_client_moves_on_when_its_server_goes_down(sim: SimDaemon) -> None:
    """It repeats by itself what a server that goes down refuses, until Envoy has found the next one: the shipped configuration, and no error."""
    with Server(host(sim)) as first, Server(host(sim)) as second:
        first.wait_live()
        second.wait_live()
        with Envoy(plain, servers(first.socket, second.socket)) as envoy:
            async with AsyncClient(envoy.address) as client, second.client() as other:
                followed = await client.managed_save_domain("guest-1")
                first.send(signal.SIGTERM)
                wait_until(lambda: envoy.stats("cluster.virtrpcd.")["membership_healthy"] == 1, "Envoy to hear that it goes down")
                assert (await (await client.suspend_domain("guest-2")).wait()).state == t.JOB_STATE_SUCCEEDED
                assert [job.kind async for job in other.list_jobs()] == [t.JOB_KIND_SUSPEND_DOMAIN]
                assert (await followed.wait()).state == t.JOB_STATE_SUCCEEDED
            assert first.wait() == 0
