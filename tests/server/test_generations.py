"""Domains that change who they are while a job waits or runs: a job is for the one that it was accepted for. On virtual time."""

from __future__ import annotations

from tests.server.world import World, until, virtual
from virtrpc_drivers import operations as op
from virtrpc_drivers.sim.control import Stranger
from virtrpc_drivers.sim.faults import Rule
from virtrpc_server.listening import Listener
from virtrpc_server.records import JobState, WaitingFor

GIB = 1 << 30
XML = "<domain type='test'><name>{}</name><uuid>{}</uuid><memory unit='MiB'>64</memory><os><type>hvm</type></os></domain>"


async def replaced(world: World, uuid: str) -> None:
    """Somebody undefines the domain and defines another one with its uuid."""
    before = world.domains.get(("a", uuid))
    await world.drivers["a"].simulate(Stranger(action="undefine", uuid=uuid))
    await until(lambda: world.domains.get(("a", uuid)) is None)
    await world.drivers["a"].simulate(Stranger(action="define", uuid=uuid, xml=XML.format("another", uuid)))
    await until(lambda: world.domains.get(("a", uuid)))
    after = world.domains.get(("a", uuid))
    assert before is not None
    assert after is not None
    assert after.generation != before.generation


async def busy(world: World, uuid: str, seconds: float, step: int = 0) -> Listener:
    """A job that holds the domain for so long, at this step of its call."""
    world.sim.faults.add(Rule(verb="SetMemory", uuid=uuid, step=step, seconds=seconds, times=1))
    listener = world.accept(op.SetMemory(uuid=uuid, memory_bytes=GIB // 2))
    await world.running(listener)
    return listener


@virtual
async def test_a_queued_job_is_not_sent_to_the_domain_that_took_its_domains_place() -> None:
    """Another domain has the uuid by the time that the job would run: DOMAIN_NOT_FOUND, and nothing is sent."""
    async with World() as world:
        uuid = world.guest(3).uuid
        first = await busy(world, uuid, 5.0)
        start = world.accept(op.Start(uuid=uuid))
        await until(lambda: start.job.waiting_for is WaitingFor.CONDITION)
        await replaced(world, uuid)
        await world.end(first)
        ended = await world.end(start)
        assert ended.problem is not None
        assert ended.problem.reason == "DOMAIN_NOT_FOUND"
        assert not world.domains.by_name("another")[0].active
        assert ended.domain is None


@virtual
async def test_a_job_does_not_show_the_domain_that_took_its_domains_place() -> None:
    """It had done its work, and only the answer was missing: what the job shows as its result is its own domain or none."""
    async with World() as world:
        uuid = world.guest(3).uuid
        running = await busy(world, uuid, 5.0, step=-1)
        await replaced(world, uuid)
        ended = await world.end(running)
        assert (ended.state, ended.domain, ended.name) == (JobState.SUCCEEDED, None, "guest-3")


@virtual
async def test_a_job_has_its_domains_present_name() -> None:
    """The domain is renamed while the job waits: it is the same domain, and the job says its new name."""
    async with World() as world:
        uuid = world.guest(3).uuid
        first = await busy(world, uuid, 5.0)
        start = world.accept(op.Start(uuid=uuid))
        await until(lambda: start.job.waiting_for is WaitingFor.CONDITION)
        await world.drivers["a"].simulate(Stranger(action="rename", uuid=uuid, name="renamed"))
        await until(lambda: world.domains.by_name("renamed"))
        await world.end(first)
        ended = await world.end(start)
        assert (ended.state, ended.name) == (JobState.SUCCEEDED, "renamed")
