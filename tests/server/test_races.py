"""Jobs in each other's way, on virtual time: what a cancel, a leaving caller, a destroy, a slow or failing store and a drain do in the middle."""

from __future__ import annotations

import asyncio

import pytest

from tests.server.test_jobs import SlowStore
from tests.server.world import World, until, virtual
from virtrpc_drivers import operations as op
from virtrpc_drivers.errors import Reason
from virtrpc_drivers.sim.control import Stranger
from virtrpc_drivers.sim.faults import Rule
from virtrpc_server.calls import LOST_SECONDS
from virtrpc_server.history import Retention
from virtrpc_server.hosts import Freshness
from virtrpc_server.records import CancelOutcome, Job, JobState, OnDisconnect, WaitingFor
from virtrpc_server.store import MemoryStore

GIB = 1 << 30
MIB = 1 << 20
SAVING = "sim://a/?domains=2&running=2&save_seconds=100"


class BrokenStore(MemoryStore):
    """Fails while it is broken, a second after it was asked."""

    broken = False

    async def put(self, job: Job) -> None:
        """Write, or fail."""
        if self.broken:
            await asyncio.sleep(1)
            raise OSError("no space left")
        await super().put(job)


@virtual
async def test_no_change_is_told_before_it_is_stored_itself() -> None:
    """A cancel that is being stored does not carry a state with it that the store has not seen."""
    store = SlowStore()
    async with World(store=store) as world:
        listener = world.accept(op.Suspend(uuid=world.guest().uuid))
        await listener.stored()
        told: list[Job] = []
        publish = world.jobs.publish

        def listening(job: Job) -> None:
            told.append(job)
            publish(job)

        world.jobs.publish = listening  # type: ignore[method-assign]
        await until(lambda: listener.job.state is JobState.RUNNING and not listener.job.finished)
        await world.jobs.cancel(listener.job.id)
        await world.end(listener)
        for job in told:
            assert any((kept.state, kept.cancel_reason) == (job.state, job.cancel_reason) for kept in store.written if kept.revision <= job.revision)


@virtual
async def test_a_job_that_the_store_refuses_stays_refused() -> None:
    """Its caller left while it was being stored: no trace of it is left, in the list, in the store or in what is waited for."""
    store = BrokenStore()
    async with World(store=store) as world:
        uuid = world.guest().uuid
        store.broken = True
        listener = world.accept(op.Suspend(uuid=uuid), request_id="r", owner="me")
        with listener:
            pass
        with pytest.raises(OSError, match="no space"):
            await listener.stored()
        store.broken = False
        await asyncio.sleep(10)
        assert world.jobs.ids() == []
        assert await store.load() == []
        again = await world.run(op.Suspend(uuid=uuid), request_id="r", owner="me")
        assert again.state is JobState.SUCCEEDED
        assert again.id != listener.job.id


@virtual
async def test_refused_jobs_are_no_history() -> None:
    """What the store refused pushes nothing out of the history, and takes nobody's place in the list."""
    store = BrokenStore()
    async with World(store=store, retention=Retention(jobs=2)) as world:
        uuid = world.guest().uuid
        kept = [(await world.run(op.SetMemory(uuid=uuid, memory_bytes=GIB // 2))).id for _ in range(2)]
        store.broken = True
        for _ in range(3):
            with pytest.raises(OSError, match="no space"):
                await world.accept(op.SetMemory(uuid=uuid, memory_bytes=GIB // 2)).stored()
        store.broken = False
        assert world.jobs.ids()[::-1] == kept[::-1]
        newest = await world.run(op.SetMemory(uuid=uuid, memory_bytes=GIB // 2))
        assert world.jobs.ids()[::-1] == [newest.id, kept[1]]


@virtual
async def test_a_caller_that_leaves_as_its_job_begins_does_not_stop_it() -> None:
    """Whether a job is still queued is judged, and acted on, in the same moment: it is withdrawn before its call, or goes on."""
    ends = set()
    for ticks in range(12):
        async with World("sim://a/?domains=1&running=1&latency=0.5") as world:
            uuid = world.guest().uuid
            first, save = world.accept(op.SetMemory(uuid=uuid, memory_bytes=GIB // 2)), world.accept(op.ManagedSave(uuid=uuid))
            await until(lambda: save.job.waiting_for)  # noqa: B023
            await world.end(first)
            for _ in range(ticks):
                await asyncio.sleep(0)
            with save:
                pass
            ended = await world.end(save)
            assert ended.state is (JobState.CANCELLED if ended.started is None else JobState.SUCCEEDED)
            assert (ended.cancel_reason is None) == (ended.started is not None)
            ends.add(ended.state)
    assert len(ends) == 2


@virtual
async def test_who_only_watches_has_no_say() -> None:
    """A queued job whose caller leaves is withdrawn, although somebody else watches it."""
    async with World(SAVING) as world:
        uuid = world.guest().uuid
        save, queued = world.accept(op.ManagedSave(uuid=uuid)), world.accept(op.Suspend(uuid=uuid))
        await world.running(save)
        watched = world.jobs.watch(queued.job.id)
        assert (await anext(watched)).state is JobState.QUEUED
        with queued:
            pass
        assert [job async for job in watched][-1].state is JobState.CANCELLED


@virtual
async def test_a_destroy_that_is_never_sent_preempts_nothing() -> None:
    """It waits for its turn and is withdrawn: what was queued on its domain runs after all."""
    async with World("sim://a/?domains=4&running=4&kill_seconds=12&save_seconds=5") as world:
        for number in (2, 3, 4):
            world.sim.stop_guest(world.guest(number).uuid)
            await world.running(world.accept(op.Destroy(uuid=world.guest(number).uuid)))
        uuid = world.guest().uuid
        save, memory = world.accept(op.ManagedSave(uuid=uuid)), world.accept(op.SetMemory(uuid=uuid, memory_bytes=GIB // 2))
        destroy = world.accept(op.Destroy(uuid=uuid))
        await until(lambda: destroy.job.waiting_for is WaitingFor.HOST_LIMIT)
        _, outcome = await world.jobs.cancel(destroy.job.id)
        assert outcome is CancelOutcome.WITHDRAWN
        assert (await world.end(destroy)).state is JobState.CANCELLED
        assert (await world.end(save)).state is JobState.SUCCEEDED
        assert (await world.end(memory)).state is JobState.SUCCEEDED


@virtual
async def test_a_job_whose_destroy_failed_ends_for_its_own_reason() -> None:
    """The destroy was refused and the guest runs on: a save that fails later says why, and not that the domain was destroyed."""
    async with World("sim://a/?domains=1&running=1&save_seconds=5") as world:
        uuid = world.guest().uuid
        world.sim.faults.add(Rule(verb="Destroy", uuid=uuid, step=1, reason=Reason.PERMISSION_DENIED))
        world.sim.faults.add(Rule(verb="ManagedSave", uuid=uuid, step=2, reason=Reason.RESOURCE_LACKING))
        save = world.accept(op.ManagedSave(uuid=uuid))
        await world.running(save)
        assert (await world.run(op.Destroy(uuid=uuid))).state is JobState.FAILED
        ended = await world.end(save)
        assert ended.state is JobState.FAILED
        assert ended.problem is not None
        assert ended.problem.reason == "RESOURCE_LACKING"


@virtual
async def test_a_destroy_that_failed_marks_nobody_for_later() -> None:
    """Long after it somebody else stops the guest: the save that this ends was not preempted."""
    async with World("sim://a/?domains=1&running=1&save_seconds=500") as world:
        uuid = world.guest().uuid
        world.sim.faults.add(Rule(verb="Destroy", uuid=uuid, step=1, reason=Reason.PERMISSION_DENIED))
        save = world.accept(op.ManagedSave(uuid=uuid))
        await world.running(save)
        assert (await world.run(op.Destroy(uuid=uuid))).state is JobState.FAILED
        await asyncio.sleep(60)
        await world.drivers["a"].simulate(Stranger(action="stop", uuid=uuid))
        assert (await world.end(save)).state is JobState.FAILED
        assert not world.guest().active


@virtual
async def test_a_destroy_that_failed_marks_nobody_who_was_being_cancelled() -> None:
    """The abort takes its time, and somebody else stops the guest meanwhile: that is no destroy's work."""
    async with World("sim://a/?domains=1&running=1&save_seconds=500") as world:
        uuid = world.guest().uuid
        world.sim.faults.add(Rule(verb="Destroy", uuid=uuid, step=1, reason=Reason.PERMISSION_DENIED))
        world.sim.faults.add(Rule(verb="cancel", seconds=8, times=1))
        save = world.accept(op.ManagedSave(uuid=uuid))
        await world.running(save)
        await world.jobs.cancel(save.job.id)
        assert (await world.run(op.Destroy(uuid=uuid))).state is JobState.FAILED
        await asyncio.sleep(1)
        await world.drivers["a"].simulate(Stranger(action="stop", uuid=uuid))
        ended = await world.end(save)
        assert ended.state is not JobState.PREEMPTED, ended.problem


@virtual
async def test_a_destroy_of_which_nothing_was_heard_marks_nobody_once_it_has_failed() -> None:
    """Its job ended OUTCOME_UNKNOWN; its call came back later, and the guest runs on."""
    async with World("sim://a/?domains=1&running=1&save_seconds=500") as world:
        uuid = world.guest().uuid
        held = world.sim.faults.add(Rule(verb="Destroy", uuid=uuid, step=1, wedge=True, reason=Reason.PERMISSION_DENIED))
        save = world.accept(op.ManagedSave(uuid=uuid))
        await world.running(save)
        assert (await world.run(op.Destroy(uuid=uuid), run_limit=1.0)).state is JobState.OUTCOME_UNKNOWN
        world.sim.faults.remove(held)
        await asyncio.sleep(60)
        await world.drivers["a"].simulate(Stranger(action="stop", uuid=uuid))
        assert (await world.end(save)).state is JobState.FAILED


@virtual
async def test_of_two_destroys_the_one_that_worked_preempts() -> None:
    """The other one failed, and the guest ran on for a moment."""
    async with World("sim://a/?domains=1&running=1&save_seconds=500&kill_seconds=5") as world:
        uuid = world.guest().uuid
        save = world.accept(op.ManagedSave(uuid=uuid))
        await world.running(save)
        world.sim.stop_guest(uuid)
        world.sim.faults.add(Rule(verb="Destroy", uuid=uuid, step=1, reason=Reason.PERMISSION_DENIED, times=1))
        refused, works = (world.accept(op.Destroy(uuid=uuid)) for _ in range(2))
        assert (await world.end(refused)).state is JobState.FAILED
        assert (await world.end(works)).state is JobState.SUCCEEDED
        ended = await world.end(save)
        assert ended.problem is not None
        assert (ended.state, ended.problem.metadata["job_id"]) == (JobState.PREEMPTED, works.job.id)


@virtual
async def test_a_cancel_while_the_end_is_being_stored_answers_with_the_end() -> None:
    """It says that the job is over: so is the job that comes with it."""
    async with World(store=SlowStore()) as world:
        listener = world.accept(op.Suspend(uuid=world.guest().uuid))
        await until(lambda: listener.job.finished)
        assert not world.jobs.known(listener.job.id).finished
        job, outcome = await world.jobs.cancel(listener.job.id)
        assert (outcome, job.state) == (CancelOutcome.ALREADY_FINISHED, JobState.SUCCEEDED)


@virtual
async def test_a_fault_of_ours_after_the_call_ends_the_job() -> None:
    """It says so, and holds nothing."""
    async with World() as world:
        uuid = world.guest().uuid
        refresher = world.hosts["a"].refresher
        sound = refresher.refresh

        async def broken(uuid: str, limit: float) -> bool:
            raise KeyError(uuid, limit)

        refresher.refresh = broken  # type: ignore[method-assign]  # no input that is known makes it fail
        ended = await world.run(op.Suspend(uuid=uuid))
        assert ended.problem is not None
        assert (ended.state, ended.problem.reason) == (JobState.FAILED, "INTERNAL")
        refresher.refresh = sound  # type: ignore[method-assign]  # as it was
        assert (await world.run(op.SetMemory(uuid=uuid, memory_bytes=GIB // 2), wait_limit=0.0)).state is JobState.SUCCEEDED


@virtual
async def test_two_destroys_of_one_domain_both_succeed() -> None:
    """The second finds the guest gone; neither preempts the other."""
    async with World("sim://a/?domains=1&running=1&kill_seconds=12") as world:
        uuid = world.guest().uuid
        world.sim.stop_guest(uuid)
        destroys = [world.accept(op.Destroy(uuid=uuid)) for _ in range(2)]
        assert [(await world.end(destroy)).state for destroy in destroys] == [JobState.SUCCEEDED] * 2


@virtual
async def test_nothing_is_sent_to_a_domain_that_went_away_while_its_job_was_being_stored() -> None:
    """The job was about to run: it ends DOMAIN_NOT_FOUND without a call."""
    store = SlowStore()
    async with World(store=store) as world:
        guest = world.guest(3)
        memory = world.accept(op.SetMemory(uuid=guest.uuid, memory_bytes=GIB // 2))
        await until(lambda: memory.job.state is JobState.RUNNING)
        await world.drivers["a"].simulate(Stranger(action="undefine", uuid=guest.uuid))
        ended = await world.end(memory)
        assert ended.problem is not None
        assert ended.problem.reason == "DOMAIN_NOT_FOUND"
        assert world.sim.jobs == {}


@virtual
async def test_an_abort_that_does_not_return_hides_no_end() -> None:
    """The job ends as its call did; the domain is kept until the abort has returned, since it would hit whatever runs there."""
    async with World("sim://a/?domains=1&running=1&save_seconds=5") as world:
        uuid = world.guest().uuid
        rule = world.sim.faults.add(Rule(verb="cancel", uuid=uuid, wedge=True, stubborn=True))
        save = world.accept(op.ManagedSave(uuid=uuid))
        await world.running(save)
        await world.jobs.cancel(save.job.id)
        ended = await world.end(save)
        assert ended.state is JobState.SUCCEEDED
        assert not ended.may_still_apply
        start = world.accept(op.Start(uuid=uuid))
        await until(lambda: start.job.holders)
        assert start.job.holders[0].job_id == save.job.id
        world.sim.faults.remove(rule)
        assert (await world.end(start)).state is JobState.SUCCEEDED


@virtual
async def test_a_cancel_during_an_outage_is_not_waited_for_longer_than_others() -> None:
    """The driver is lost with the call out and then the job is cancelled: OUTCOME_UNKNOWN within the time that any cancelled call has."""
    async with World("sim://a/?domains=1&running=1&save_seconds=100&reconnect_seconds=50") as world:
        save = world.accept(op.ManagedSave(uuid=world.guest().uuid))
        await world.running(save)
        world.drivers["a"].lose()
        await asyncio.sleep(1)
        await world.jobs.cancel(save.job.id)
        cancelled = asyncio.get_running_loop().time()
        assert (await world.end(save)).state is JobState.OUTCOME_UNKNOWN
        assert asyncio.get_running_loop().time() - cancelled <= LOST_SECONDS + 1
        await until(lambda: not world.jobs._ghosts, 200.0)


@virtual
async def test_the_abort_at_run_timeout_does_not_wait_for_the_store() -> None:
    """A store that fails delays what is told, not what is done."""
    store = BrokenStore()
    async with World(SAVING, store=store) as world:
        save = world.accept(op.ManagedSave(uuid=world.guest().uuid), run_limit=2.0)
        await world.running(save)
        store.broken = True
        await asyncio.sleep(10)
        assert world.sim.domains[world.guest().uuid].state.value == "running"
        assert world.jobs.known(save.job.id).state is JobState.RUNNING
        store.broken = False
        ended = await world.end(save)
        assert ended.problem is not None
        assert ended.problem.reason == "RUN_TIMEOUT"


@virtual
async def test_a_drain_begins_nothing() -> None:
    """Queued jobs end INTERRUPTED all at once: none begins because one before it ended first, however slow the store is."""
    store = SlowStore()
    async with World("sim://a/?domains=3&running=3&save_seconds=30", store=store, saves=1) as world:
        save = world.accept(op.ManagedSave(uuid=world.guest(1).uuid))
        await world.running(save)
        queued = [world.accept(op.ManagedSave(uuid=world.guest(2).uuid)), world.accept(op.Suspend(uuid=world.guest(2).uuid))]
        await until(lambda: queued[1].job.waiting_for is not None and world.jobs.get(queued[1].job.id) is not None)
        await world.jobs.drain(120.0)
        assert save.job.state is JobState.SUCCEEDED
        for listener in queued:
            assert listener.job.state is JobState.INTERRUPTED
            assert listener.job.started is None


@virtual
async def test_a_drain_ends_a_job_that_a_foreign_one_sends_back_to_waiting() -> None:
    """It ran when the drain began and was refused by the hypervisor's lock later: INTERRUPTED, not sent again."""
    async with World("sim://a/?domains=1&running=1&lock_seconds=3") as world:
        world.sim.foreign_job(world.guest().uuid, seconds=30.0)
        suspend = world.accept(op.Suspend(uuid=world.guest().uuid), wait_limit=100.0)
        await world.running(suspend)
        await world.jobs.drain(60.0)
        assert suspend.job.state is JobState.INTERRUPTED


@virtual
async def test_a_drain_is_bounded_although_the_store_fails() -> None:
    """drain_timeout holds whatever the store does."""
    store = BrokenStore()
    async with World(SAVING, store=store) as world:
        uuid = world.guest().uuid
        save, queued = world.accept(op.ManagedSave(uuid=uuid)), world.accept(op.Suspend(uuid=uuid))
        await world.running(save)
        await until(lambda: queued.job.waiting_for)
        store.broken = True
        await asyncio.wait_for(world.jobs.drain(5.0), 6.0)
        store.broken = False


@virtual
async def test_a_migration_reserves_its_name_at_the_destination() -> None:
    """A definition of another domain under that name, there, waits for the migration's end."""
    async with World("sim://a/?domains=1&running=1&migrate_seconds=5", "sim://b/?domains=0&running=0") as world:
        xml = "<domain type='test'><name>guest-1</name><uuid>{0}</uuid><memory unit='MiB'>64</memory><os><type>hvm</type></os></domain>"
        other = "aaaaaaaa-0000-4000-8000-000000000001"
        migrate = world.accept(op.Migrate(uuid=world.guest().uuid, destination_uri="sim://b/"), destination_host="b")
        await world.running(migrate)
        define = world.accept(op.Define(uuid=other, name="guest-1", xml=xml.format(other)), "b")
        await until(lambda: define.job.waiting_for is WaitingFor.CONDITION)
        assert define.job.holders[0].job_id == migrate.job.id
        assert (await world.end(migrate)).state is JobState.SUCCEEDED
        assert (await world.end(define)).state is JobState.FAILED


@virtual
async def test_a_long_queue_is_told_in_turns() -> None:
    """The foremost waiters know their place at once, the others in time: a queue that moves never stops the loop for all of them."""
    async with World("sim://a/?domains=1&running=1&save_seconds=20", saves=1) as world:
        uuid = world.guest().uuid
        save = world.accept(op.ManagedSave(uuid=uuid))
        await world.running(save)
        queue = [world.accept(op.SetMemory(uuid=uuid, memory_bytes=512 * MIB)) for _ in range(200)]
        await until(lambda: queue[-1].job.queue_position == 200)
        await world.jobs.cancel(queue[0].job.id)
        await world.end(queue[0])
        assert queue[1].job.queue_position == 1
        assert queue[-1].job.queue_position == 200
        await until(lambda: queue[-1].job.queue_position == 199)


@virtual
async def test_an_on_disconnect_of_cancel_before_the_job_is_stored() -> None:
    """A caller that leaves before it was told anything still cancels its job, which ends as every other."""
    store = SlowStore()
    async with World(store=store) as world:
        listener = world.accept(op.Suspend(uuid=world.guest().uuid), on_disconnect=OnDisconnect.CANCEL)
        with listener:
            pass
        await listener.stored()
        ended = await world.end(listener)
        assert ended.state is JobState.CANCELLED
        assert ended.started is None


@virtual
async def test_three_guests_that_were_wedged_while_idle_leave_the_others_sampled() -> None:
    """They are not asked; the rest stays LIVE, and all are sampled again once they go on."""
    async with World("sim://a/?domains=6&running=6") as world:
        host, wedged = world.hosts["a"], [world.guest(number).uuid for number in (1, 2, 3)]
        await asyncio.sleep(3)
        for uuid in wedged:
            world.sim.stop_guest(uuid)
        await asyncio.sleep(120)
        assert host.sampler.quarantined == set(wedged)
        assert host.stats_freshness(world.guest(5).stats.memory) is Freshness.LIVE
        assert host.stats_freshness(world.guest(1).stats.memory) is Freshness.STALE
        for uuid in wedged:
            world.sim.continue_guest(uuid)
        await asyncio.sleep(10)
        assert not host.sampler.quarantined
        assert host.stats_freshness(world.guest(1).stats.memory) is Freshness.LIVE
