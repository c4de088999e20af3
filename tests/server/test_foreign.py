"""Jobs of others at the hypervisor: ours wait for them with nothing of the daemon's in their hands. On a simulated hypervisor, on virtual time."""

from __future__ import annotations

import asyncio

from tests.server.world import World, until, virtual
from virtrpc_drivers import operations as op
from virtrpc_drivers.errors import Reason
from virtrpc_drivers.sim.faults import Rule
from virtrpc_server.listening import Listener
from virtrpc_server.records import CancelOutcome, JobState, WaitingFor

DAEMON = "sim://a/?domains=8&running=8&workers=5&lock_seconds=1"


async def blocked(world: World, *numbers: int) -> list[Listener]:
    """A job of ours in each of these guests that somebody else's job keeps waiting."""
    listeners = []
    for number in numbers:
        uuid = world.guest(number).uuid
        world.sim.foreign_job(uuid)
        listeners.append(world.accept(op.Suspend(uuid=uuid), wait_limit=300.0))
    await until(lambda: all(listener.job.waiting_for is WaitingFor.BLOCKED_BY_OTHER for listener in listeners))
    return listeners


def calls_of(world: World, listener: Listener) -> int:
    """How often a job was sent to the hypervisor."""
    return sum(call.partition(".")[0] == listener.job.id for call in world.sim.jobs)


@virtual
async def test_many_blocked_jobs_take_no_place_at_the_daemon() -> None:
    """Each was sent once. However long the others' jobs last, the places are free for guests that nobody else works on."""
    async with World(DAEMON) as world:
        listeners = await blocked(world, 1, 2, 3, 4, 5)
        await asyncio.sleep(60)
        assert [calls_of(world, listener) for listener in listeners] == [1] * 5
        assert world.hosts["a"].budget.idle
        assert (await world.run(op.Suspend(uuid=world.guest(6).uuid), wait_limit=0.0)).state is JobState.SUCCEEDED
        for listener in listeners:
            world.sim.end_foreign_jobs(listener.job.uuid)
        for listener in listeners:
            assert (await world.end(listener)).state is JobState.SUCCEEDED


@virtual
async def test_a_job_that_is_blocked_in_vain_ends_at_once() -> None:
    """Nothing was changed, so nothing need be read first: also where the domain cannot be read now."""
    async with World(DAEMON) as world:
        (listener,) = await blocked(world, 1)
        world.sim.faults.add(Rule(verb="read", uuid=listener.job.uuid, wedge=True))
        await world.jobs.cancel(listener.job.id)
        began = asyncio.get_running_loop().time()
        assert (await world.end(listener)).state is JobState.CANCELLED
        assert asyncio.get_running_loop().time() == began
        world.sim.faults.clear()


@virtual
async def test_who_waits_in_vain_is_not_sent_once_more() -> None:
    """Its time is over before anybody has asked whether the other's job is: also where its timer fires the fraction early that timers may."""
    async with World(DAEMON) as world:
        uuid, loop = world.guest().uuid, asyncio.get_running_loop()
        world.sim.foreign_job(uuid)
        listener = world.accept(op.Suspend(uuid=uuid), wait_limit=1.5)
        # Timers that are due within the clock's resolution fire together.
        loop.call_at(loop.time() + 1.5 - 1e-10, lambda: None)
        ended = await world.end(listener)
        assert ended.problem is not None
        assert (ended.problem.reason, calls_of(world, listener)) == ("WAIT_TIMEOUT", 1)


@virtual
async def test_a_blocked_job_keeps_its_domain() -> None:
    """Others on it are told that it holds the domain and waits for somebody else's job itself."""
    async with World(DAEMON) as world:
        (listener,) = await blocked(world, 1)
        behind = world.accept(op.Resume(uuid=listener.job.uuid), wait_limit=300.0)
        await until(lambda: behind.job.holders)
        (holder,) = behind.job.holders
        assert (holder.job_id, holder.waiting_for) == (listener.job.id, WaitingFor.BLOCKED_BY_OTHER)
        world.sim.end_foreign_jobs(listener.job.uuid)
        assert (await world.end(behind)).state is JobState.SUCCEEDED


@virtual
async def test_a_blocked_job_is_cancelled_at_once() -> None:
    """Nothing of it is out: it is withdrawn, and is not sent again when the other's job is over."""
    async with World(DAEMON) as world:
        (listener,) = await blocked(world, 1)
        assert (await world.jobs.cancel(listener.job.id))[1] is CancelOutcome.WITHDRAWN
        assert (await world.end(listener)).state is JobState.CANCELLED
        world.sim.end_foreign_jobs(listener.job.uuid)
        await asyncio.sleep(10)
        assert calls_of(world, listener) == 1
        assert world.guest(1).state is not None


@virtual
async def test_a_destroy_preempts_a_blocked_job() -> None:
    """It is queued like any other."""
    async with World(DAEMON) as world:
        (listener,) = await blocked(world, 1)
        destroy = world.accept(op.Destroy(uuid=listener.job.uuid))
        assert (await world.end(listener)).state is JobState.PREEMPTED
        assert (await world.end(destroy)).state is JobState.SUCCEEDED


@virtual
async def test_a_driver_that_cannot_say_whether_a_domain_is_free() -> None:
    """Then the call itself is tried again, a second later each time, within wait_timeout."""
    async with World(DAEMON) as world:
        world.sim.faults.add(Rule(verb="probe", reason=Reason.UNSUPPORTED))
        (listener,) = await blocked(world, 1)
        await asyncio.sleep(20)
        assert 5 <= calls_of(world, listener) <= 12
        world.sim.end_foreign_jobs(listener.job.uuid)
        assert (await world.end(listener)).state is JobState.SUCCEEDED


@virtual
async def test_a_cancel_while_the_domain_is_read_changes_nothing() -> None:
    """The call is over: the answer says that nothing can be aborted any more, and the job ends as its call did."""
    async with World("sim://a/?domains=1&running=1&save_seconds=2") as world:
        save = world.accept(op.ManagedSave(uuid=world.guest().uuid))
        await until(lambda: save.job.progress is not None)
        world.sim.faults.add(Rule(verb="read", seconds=3.0))
        await until(lambda: save.job.phase is not None and save.job.phase.value == "refreshing")
        job, outcome = await world.jobs.cancel(save.job.id)
        assert (outcome, job.abortable) == (CancelOutcome.NOT_ABORTABLE, False)
        ended = await world.end(save)
        assert (ended.state, ended.cancel_reason) == (JobState.SUCCEEDED, job.cancel_reason)


@virtual
async def test_a_destroy_while_the_domain_is_read_does_not_rewrite_an_end() -> None:
    """A call that failed before the destroy was sent failed for its own reasons."""
    async with World("sim://a/?domains=1&running=1") as world:
        uuid = world.guest().uuid
        world.sim.faults.add(Rule(verb="Suspend", uuid=uuid, reason=Reason.RESOURCE_LACKING))
        world.sim.faults.add(Rule(verb="read", seconds=3.0))
        suspend = world.accept(op.Suspend(uuid=uuid))
        await until(lambda: suspend.job.phase is not None and suspend.job.phase.value == "refreshing")
        destroy = world.accept(op.Destroy(uuid=uuid))
        ended = await world.end(suspend)
        assert ended.problem is not None
        assert ended.problem.reason == "RESOURCE_LACKING"
        await world.end(destroy)


@virtual
async def test_a_blocked_job_outlives_a_driver_process() -> None:
    """Nothing of it is out. The next process says when the domain is free, also where the other's job ended meanwhile."""
    async with World(f"{DAEMON}&reconnect_seconds=5") as world:
        first, second = await blocked(world, 1, 2)
        world.drivers["a"].lose()
        world.sim.end_foreign_jobs(first.job.uuid)
        assert (await world.end(first)).state is JobState.SUCCEEDED
        assert second.job.waiting_for is WaitingFor.BLOCKED_BY_OTHER
        world.sim.end_foreign_jobs(second.job.uuid)
        assert (await world.end(second)).state is JobState.SUCCEEDED
        assert [calls_of(world, listener) for listener in (first, second)] == [2, 2]
