"""What a job waits for, in which order, and what it is told meanwhile: on a simulated hypervisor, on virtual time."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace

from tests.server.world import World, until, virtual
from virtrpc_drivers import operations as op
from virtrpc_drivers.sim.faults import Rule
from virtrpc_drivers.values import Phase
from virtrpc_server.budgets import Budget
from virtrpc_server.listening import Listener
from virtrpc_server.records import Holder, Job, JobState, WaitingFor
from virtrpc_server.slow import SlowReads

GIB = 1 << 30
DAEMON = "sim://a/?domains=8&running=8&workers=5"
PLACES = Budget.places(5)


def waits_for(listener: Listener, waiting_for: WaitingFor) -> bool:
    """Whether it is QUEUED for this."""
    return listener.job.state is JobState.QUEUED and listener.job.waiting_for is waiting_for


def told(world: World, listener: Listener) -> Job:
    """The job as its watchers know it."""
    return world.jobs.get(listener.job.id) or replace(listener.job, queue_position=None)


async def fill(world: World, *numbers: int) -> list[Listener]:
    """A call that hangs in each of these guests."""
    stuck = []
    for number in numbers:
        uuid = world.guest(number).uuid
        world.sim.faults.add(Rule(verb="Suspend", uuid=uuid, wedge=True))
        stuck.append(world.accept(op.Suspend(uuid=uuid)))
    for listener in stuck:
        await world.running(listener)
    return stuck


@virtual
async def test_those_who_wait_for_a_place_hear_of_each_that_is_given_back() -> None:
    """Whoever gives it back, a job or a slow read: the holders and the place in the queue that are told are those of now."""
    async with World(DAEMON) as world:
        await fill(world, 1, 2)
        slow = SlowReads(world.hosts)
        rule = world.sim.faults.add(Rule(verb="snapshots", wedge=True))
        entry = world.guest(3)
        reading = asyncio.create_task(slow.ask(entry, lambda: world.drivers["a"].snapshots(entry.uuid)))
        await until(lambda: len(world.hosts["a"].budget.holders) == PLACES)
        first, second = (world.accept(op.Suspend(uuid=world.guest(number).uuid), wait_limit=500.0) for number in (4, 5))
        await until(lambda: told(world, second).queue_position == 2)
        assert [holder.text for holder in told(world, second).holders if not holder.job_id] == ["a read of domain guest-3 by unix"]
        assert all(holder.since is not None for holder in told(world, second).holders)
        world.sim.faults.add(Rule(verb="Suspend", uuid=world.guest(4).uuid, wedge=True))
        world.sim.faults.remove(rule)
        await reading
        await world.running(first)
        assert told(world, second).queue_position == 1
        assert first.job.id in {holder.job_id for holder in told(world, second).holders}
        world.sim.faults.clear()
        assert (await world.end(second)).state is JobState.SUCCEEDED


@virtual
async def test_a_ghost_in_the_budget_is_told_as_one() -> None:
    """A job that queues for a place sees that one of the calls that fill them belongs to no running job any more."""
    async with World(DAEMON) as world:
        stuck = await fill(world, 1, 2, 3)
        waiting = world.accept(op.Suspend(uuid=world.guest(4).uuid), wait_limit=500.0)
        await until(lambda: waits_for(waiting, WaitingFor.DAEMON_BUDGET))
        await world.jobs.cancel(stuck[0].job.id)
        assert (await world.end(stuck[0])).state is JobState.OUTCOME_UNKNOWN
        ghosts = {holder.job_id for holder in told(world, waiting).holders if holder.ghost}
        assert ghosts == {stuck[0].job.id}
        late = await world.run(op.Suspend(uuid=world.guest(5).uuid), wait_limit=1.0)
        assert late.problem is not None
        assert "its call has not returned" in late.problem.message
        world.sim.faults.clear()
        await world.end(waiting)


@virtual
async def test_a_place_goes_to_no_job_that_was_stopped() -> None:
    """A job that is cancelled in the moment in which a place becomes free lets the next one have it at once."""
    async with World(DAEMON) as world:
        stuck = await fill(world, 1, 2, 3)
        first, second = (world.accept(op.Suspend(uuid=world.guest(number).uuid), wait_limit=500.0) for number in (4, 5))
        await until(lambda: second.job.queue_position == 2)
        budget = world.hosts["a"].budget
        cancelling = asyncio.create_task(world.jobs.cancel(first.job.id))
        await asyncio.sleep(0)
        budget.holders[0].release()
        assert second.job.id in {ticket.owner for ticket in budget.holders}
        assert first.job.id not in {ticket.owner for ticket in (*budget.holders, *budget.waiters)}
        await cancelling
        world.sim.faults.clear()
        for listener in (*stuck, second):
            await world.end(listener)


@virtual
async def test_a_wait_in_vain_moves_those_behind_up() -> None:
    """A job whose wait_timeout passes leaves the queue, and the one behind it is told so."""
    async with World(DAEMON) as world:
        stuck = await fill(world, 1, 2, 3)
        first = world.accept(op.Suspend(uuid=world.guest(4).uuid), wait_limit=5.0)
        second = world.accept(op.Suspend(uuid=world.guest(5).uuid), wait_limit=500.0)
        await until(lambda: told(world, second).queue_position == 2)
        await world.end(first)
        assert told(world, second).queue_position == 1
        world.sim.faults.clear()
        for listener in (*stuck, second):
            await world.end(listener)


@virtual
async def test_hosts_on_one_daemon_are_in_each_others_way() -> None:
    """Two hosts of one daemon share its places, and a job of the one is told of the other's that fill them."""
    async with World(DAEMON, DAEMON) as world:
        assert world.hosts["a"].budget is world.hosts["b"].budget
        stuck = await fill(world, 1, 2, 3)
        waiting = world.accept(op.Suspend(uuid=world.guest(1, "b").uuid), "b", wait_limit=500.0)
        await until(lambda: waits_for(waiting, WaitingFor.DAEMON_BUDGET))
        assert {holder.job_id for holder in waiting.job.holders} == {listener.job.id for listener in stuck}
        world.sim.faults.clear()
        assert (await world.end(waiting)).state is JobState.SUCCEEDED


@virtual
async def test_the_host_limit_is_waited_for_with_the_domain_in_hand() -> None:
    """Others on that domain are told who holds it and what that one waits for, and since when; a change of that is told too."""
    async with World("sim://a/?domains=2&running=2&save_seconds=20", saves=1) as world:
        save = world.accept(op.ManagedSave(uuid=world.guest(1).uuid))
        await world.running(save)
        await asyncio.sleep(3)
        queued = world.accept(op.ManagedSave(uuid=world.guest(2).uuid))
        await until(lambda: waits_for(queued, WaitingFor.HOST_LIMIT))
        behind = world.accept(op.SetMemory(uuid=world.guest(2).uuid, memory_bytes=GIB // 2), wait_limit=60.0)
        await until(lambda: waits_for(behind, WaitingFor.CONDITION))
        (holder,) = told(world, behind).holders
        assert (holder.job_id, holder.waiting_for) == (queued.job.id, WaitingFor.HOST_LIMIT)
        assert holder.since == queued.job.created
        late = await world.run(op.SetMemory(uuid=world.guest(2).uuid, memory_bytes=GIB // 2), wait_limit=1.0)
        assert late.problem is not None
        assert "itself waiting for the host's limit" in late.problem.message
        await world.running(queued)
        assert told(world, behind).holders == (Holder(job_id=queued.job.id, verb="ManagedSave", since=queued.job.created),)
        assert (await world.end(behind)).state is JobState.SUCCEEDED


@virtual
async def test_the_budget_is_waited_for_with_condition_and_limit_in_hand() -> None:
    """A save that waits for a place at the daemon keeps its domain and its place among the saves."""
    async with World(f"{DAEMON}&save_seconds=1", saves=1) as world:
        await fill(world, 1, 2, 3)
        save = world.accept(op.ManagedSave(uuid=world.guest(4).uuid), wait_limit=500.0)
        await until(lambda: waits_for(save, WaitingFor.DAEMON_BUDGET))
        other = world.accept(op.ManagedSave(uuid=world.guest(5).uuid), wait_limit=500.0)
        behind = world.accept(op.SetMemory(uuid=world.guest(4).uuid, memory_bytes=GIB // 2), wait_limit=500.0)
        await until(lambda: waits_for(other, WaitingFor.HOST_LIMIT) and waits_for(behind, WaitingFor.CONDITION))
        for listener in (other, behind):
            (holder,) = told(world, listener).holders
            assert (holder.job_id, holder.waiting_for) == (save.job.id, WaitingFor.DAEMON_BUDGET)
        world.sim.faults.clear()
        for listener in (save, other, behind):
            assert (await world.end(listener)).state is JobState.SUCCEEDED


@virtual
async def test_all_waiting_counts_against_one_limit() -> None:
    """What the domain's condition took of wait_timeout is not there for the host's limit."""
    async with World("sim://a/?domains=2&running=2&save_seconds=100", saves=1) as world:
        await world.running(world.accept(op.ManagedSave(uuid=world.guest(2).uuid)))
        uuid = world.guest(1).uuid
        world.sim.faults.add(Rule(verb="SetMemory", uuid=uuid, seconds=6.0))
        await world.running(world.accept(op.SetMemory(uuid=uuid, memory_bytes=GIB // 2)))
        ended = await world.run(op.ManagedSave(uuid=uuid), wait_limit=8.0)
        assert ended.problem is not None
        assert ended.problem.metadata["waiting_for"] == "host_limit"
        assert ended.ended is not None
        assert ended.ended - ended.created == pytest.approx(8.0, abs=0.1)


@virtual
async def test_a_migration_counts_at_both_its_hosts() -> None:
    """With one migration at a time, one that leaves a host waits for one that comes in."""
    hosts = (f"sim://{name}/?domains=1&running=1&seed={seed}&migrate_seconds=5" for seed, name in enumerate("abc"))
    async with World(*hosts, migrations=1) as world:
        first = world.accept(op.Migrate(uuid=world.guest(1, "a").uuid, destination_uri="sim://b/", new_name="x"), destination_host="b")
        await world.running(first)
        second = world.accept(op.Migrate(uuid=world.guest(1, "b").uuid, destination_uri="sim://c/", new_name="y"), "b", destination_host="c")
        await until(lambda: waits_for(second, WaitingFor.HOST_LIMIT))
        assert second.job.holders[0].job_id == first.job.id
        await world.end(first)
        await world.running(second)
        assert second.job.state is JobState.RUNNING


@virtual
async def test_migrations_in_opposite_directions_do_not_wait_for_each_other() -> None:
    """Both need the one place at each host: they take them in one order, so that one of them gets both."""
    hosts = (f"sim://{name}/?domains=1&running=1&seed={seed}&migrate_seconds=5" for seed, name in enumerate("ab"))
    async with World(*hosts, migrations=1) as world:
        there = world.accept(op.Migrate(uuid=world.guest(1, "a").uuid, destination_uri="sim://b/", new_name="there"), destination_host="b")
        back = world.accept(op.Migrate(uuid=world.guest(1, "b").uuid, destination_uri="sim://a/", new_name="back"), "b", destination_host="a")
        for listener in (there, back):
            assert (await world.end(listener)).state is JobState.SUCCEEDED


@virtual
async def test_an_abort_that_is_to_be_tried_again_keeps_no_place() -> None:
    """Its call is over: the next one is sent while the domain is still being read."""
    async with World("sim://a/?domains=2&running=2&workers=3&shape=vz&read_latency=1") as world:
        world.sim.faults.add(Rule(verb="SetMemory", step=1, seconds=3, times=1))
        first = world.accept(op.SetMemory(uuid=world.guest(1).uuid, memory_bytes=GIB >> 1))
        await world.running(first)
        await world.jobs.cancel(first.job.id)
        second = world.accept(op.Suspend(uuid=world.guest(2).uuid))
        await until(lambda: waits_for(second, WaitingFor.DAEMON_BUDGET))
        await world.running(second)
        assert first.job.phase is Phase.REFRESHING
        await world.end(second)


@virtual
async def test_an_abort_that_comes_back_after_its_call_gives_back_the_place() -> None:
    """The next one is sent then, while the first one's domain is still being read."""
    async with World("sim://a/?domains=2&running=2&workers=3&read_latency=2") as world:
        uuid = world.guest(1).uuid
        world.sim.faults.add(Rule(verb="SetMemory", step=1, seconds=3, times=1))
        world.sim.faults.add(Rule(verb="cancel", seconds=4, times=1))
        first = world.accept(op.SetMemory(uuid=uuid, memory_bytes=GIB >> 1))
        await world.running(first)
        world.sim.faults.add(Rule(verb="read", uuid=uuid, seconds=4))
        await world.jobs.cancel(first.job.id)
        second = world.accept(op.Suspend(uuid=world.guest(2).uuid))
        await until(lambda: waits_for(second, WaitingFor.DAEMON_BUDGET))
        await world.running(second)
        assert first.job.phase is Phase.REFRESHING
        await world.end(second)
