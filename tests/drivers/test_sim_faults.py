"""Faults of the simulated hypervisor on virtual time: each does what it says, and is over when it is switched off."""

from __future__ import annotations

import asyncio

import pytest

from tests.drivers.bed import call_of
from tests.drivers.simulated import World, reason, world
from tests.virtual_time import on_virtual_time, run, wall
from virtrpc_drivers import operations as ops
from virtrpc_drivers.errors import Reason
from virtrpc_drivers.protocol import Call, HostDown, HostUp, Report
from virtrpc_drivers.sim import control
from virtrpc_drivers.sim.events import EventRule
from virtrpc_drivers.sim.faults import Rule
from virtrpc_drivers.values import Control, Group, State


@on_virtual_time
async def test_slow_calls() -> None:
    """A rule with seconds makes calls slow, as often as it says."""
    async with world() as sim:
        sim.hypervisor.faults.add(Rule(verb="list", seconds=5, times=1))
        began = asyncio.get_running_loop().time()
        await sim.driver.list()
        await sim.driver.list()
        assert asyncio.get_running_loop().time() - began == pytest.approx(5)


@on_virtual_time
async def test_a_wedged_call_waits_until_it_is_released() -> None:
    """A wedged call does not come back and does not hear an abort; released, it goes on."""
    async with world() as sim:
        sim.hypervisor.faults.add(Rule(verb="ManagedSave", step=1, wedge=True, times=1))
        call, saving = sim.begin(ops.ManagedSave(uuid=sim.uuid))
        await asyncio.sleep(1000)
        assert [(held.verb, held.step) for held in sim.hypervisor.faults.wedged] == [("ManagedSave", 1)]
        assert (await sim.driver.cancel(call.id)).sent is False
        assert sim.hypervisor.faults.release(sim.uuid) == 1
        await saving


@on_virtual_time
async def test_destroy_frees_what_its_guest_held() -> None:
    """The end of a guest frees a wedged call, which fails; a stubborn one stays, and fails once released."""
    async with world(running=2) as sim:
        one, other = list(sim.hypervisor.domains)[:2]
        sim.hypervisor.faults.add(Rule(verb="Suspend", uuid=one, wedge=True))
        sim.hypervisor.faults.add(Rule(verb="Suspend", uuid=other, wedge=True, stubborn=True))
        _, freed = sim.begin(ops.Suspend(uuid=one))
        _, stuck = sim.begin(ops.Suspend(uuid=other))
        await asyncio.sleep(1)
        await sim.run(ops.Destroy(uuid=one))
        await sim.run(ops.Destroy(uuid=other))
        assert await reason(freed) is Reason.FAILED
        await asyncio.sleep(1000)
        assert not stuck.done()
        sim.hypervisor.faults.release()
        assert await reason(stuck) is Reason.WRONG_STATE


@pytest.mark.parametrize("step", [1, 2])
@on_virtual_time
async def test_a_save_that_fails_leaves_the_guest_running(step: int) -> None:
    """A save that fails, before or after its memory was written, lets the guest go on and leaves no image."""
    async with world() as sim:
        sim.hypervisor.faults.add(Rule(verb="ManagedSave", step=step, reason=Reason.FAILED, message="disk full"))
        assert await sim.refused(ops.ManagedSave(uuid=sim.uuid)) is Reason.FAILED
        state = await sim.state()
        assert (state.state, state.reason, state.has_managed_save) == (State.RUNNING, "save_canceled", False)


@on_virtual_time
async def test_a_lost_answer() -> None:
    """A call can be applied and never answered."""
    async with world() as sim:
        sim.hypervisor.faults.add(Rule(verb="Suspend", step=-1, wedge=True))
        _, suspending = sim.begin(ops.Suspend(uuid=sim.uuid))
        await asyncio.sleep(1000)
        assert not suspending.done()
        assert (await sim.state()).state is State.PAUSED
        await sim.run(ops.Destroy(uuid=sim.uuid))
        await suspending


@on_virtual_time
async def test_a_late_answer_to_a_read() -> None:
    """A read answered late has the old state and the old stamp."""
    async with world() as sim:
        sim.hypervisor.faults.add(Rule(verb="read", step=-1, seconds=10, times=1))
        late = asyncio.ensure_future(sim.driver.read([sim.uuid], Group.STATE))
        await asyncio.sleep(1)
        await sim.run(ops.Suspend(uuid=sim.uuid))
        fresh = (await sim.driver.read([sim.uuid], Group.STATE)).found[0]
        old = (await late).found[0]
        assert (old.state and old.state.state, fresh.state and fresh.state.state) == (State.RUNNING, State.PAUSED)
        assert old.stamp < fresh.stamp


@on_virtual_time
async def test_a_stopped_guest() -> None:
    """It hangs changes and sweeps, not state reads, and uses no CPU. Once a call hangs its monitor is OCCUPIED; sweeps pass by, destroy ends it."""
    async with world(kill_seconds=12) as sim:
        sim.hypervisor.stop_guest(sim.uuid)
        before = (await sim.driver.pulses([sim.uuid])).pulses[0]
        assert before.control is Control.OK
        sweep = asyncio.ensure_future(sim.driver.sample([sim.uuid]))
        _, suspending = sim.begin(ops.Suspend(uuid=sim.uuid))
        await asyncio.sleep(1000)
        assert not sweep.done()
        assert not suspending.done()
        after = (await sim.driver.pulses([sim.uuid])).pulses[0]
        assert (after.control, after.cpu_time_ns) == (Control.OCCUPIED, before.cpu_time_ns)
        (partial,) = (await sim.driver.sample([sim.uuid])).stats
        assert partial.memory is None
        assert (await sim.state()).state is State.RUNNING
        await sim.run(ops.Destroy(uuid=sim.uuid))
        assert await reason(suspending) is Reason.FAILED
        assert (await sweep).stats == ()


@on_virtual_time
async def test_a_stopped_guest_that_goes_on() -> None:
    """SIGCONT lets everything go on; a probe returns then, and not before."""
    async with world() as sim:
        _, saving = sim.begin(ops.ManagedSave(uuid=sim.uuid))
        await asyncio.sleep(0.5)
        sim.hypervisor.stop_guest(sim.uuid)
        probe = asyncio.ensure_future(sim.driver.probe(sim.uuid))
        await asyncio.sleep(1000)
        assert not saving.done()
        assert not probe.done()
        sim.hypervisor.continue_guest(sim.uuid)
        await saving
        await probe


@on_virtual_time
async def test_anothers_job_is_waited_for() -> None:
    """An operation waits for another's job, and fails with FOREIGN_JOB after `lock_seconds`; libvirt's text names it."""
    async with world(lock_seconds=30) as sim:
        job = sim.hypervisor.foreign_job(sim.uuid)
        assert await sim.refused(ops.Suspend(uuid=sim.uuid)) is Reason.FOREIGN_JOB
        sim.hypervisor.foreign_job(sim.uuid, seconds=10)
        job.end()
        await sim.run(ops.Suspend(uuid=sim.uuid))
        assert not job.aborted


@on_virtual_time
async def test_an_abort_by_domain_can_hit_the_wrong_job() -> None:
    """With abort=domain an abort that is on its way when its job ends hits the next one: that is what it is there to show."""
    async with world(abort="domain", abort_seconds=5, save_seconds=2) as sim:
        call, saving = sim.begin(ops.ManagedSave(uuid=sim.uuid))
        await asyncio.sleep(1)
        cancelling = asyncio.ensure_future(sim.driver.cancel(call.id))
        await saving
        await sim.run(ops.Start(uuid=sim.uuid))
        job = sim.hypervisor.foreign_job(sim.uuid)
        assert (await cancelling).sent
        assert job.aborted
        assert sim.hypervisor.violations != []


@on_virtual_time
async def test_an_abort_by_handle_hits_its_own_job() -> None:
    """With abort=handle an abort that comes too late hits nothing."""
    async with world(abort="handle", abort_seconds=5, save_seconds=2) as sim:
        call, saving = sim.begin(ops.ManagedSave(uuid=sim.uuid))
        await asyncio.sleep(1)
        cancelling = asyncio.ensure_future(sim.driver.cancel(call.id))
        await saving
        await sim.run(ops.Start(uuid=sim.uuid))
        job = sim.hypervisor.foreign_job(sim.uuid)
        assert not (await cancelling).sent
        assert not job.aborted


@on_virtual_time
async def test_abort_by_domain_is_not_sent_for_anothers_job() -> None:
    """With abort=domain nothing is sent while the statistics show another's job."""
    async with world(abort="domain") as sim:
        job = sim.hypervisor.foreign_job(sim.uuid)
        call, saving = sim.begin(ops.ManagedSave(uuid=sim.uuid))
        await asyncio.sleep(1)
        assert not (await sim.driver.cancel(call.id)).sent
        job.end()
        await saving
        assert sim.hypervisor.violations == []


@pytest.mark.parametrize(
    ("rule", "details"),
    [
        (EventRule(action="drop", times=1), ["resumed unpaused"]),
        (EventRule(action="repeat", times=1), ["resumed unpaused", "suspended paused", "suspended paused"]),
        (EventRule(action="delay", seconds=60, times=1), ["resumed unpaused", "suspended paused"]),
        (EventRule(action="reorder", times=1), ["resumed unpaused", "suspended paused"]),
    ],
)
@on_virtual_time
async def test_event_faults(rule: EventRule, details: list[str]) -> None:
    """Events can be dropped, repeated, delayed and reordered."""
    async with world() as sim:
        sim.hypervisor.events.rules.append(rule)
        await sim.run(ops.Suspend(uuid=sim.uuid))
        await asyncio.sleep(1)
        await sim.run(ops.Resume(uuid=sim.uuid))
        await asyncio.sleep(100)
        seen = [detail for _, detail in sim.events()]
        assert sorted(seen) == details
        if rule.action == "delay":
            assert seen[-1] == "suspended paused"


def test_a_seed_decides_the_order_of_events() -> None:
    """Under virtual time one seed gives the same order of events each time, and seeds differ."""

    async def order(seed: int) -> list[str]:
        async with world(seed=seed, running=20, domains=20) as sim:
            for uuid in sim.hypervisor.domains:
                await sim.driver.simulate(control.Stranger(action="pause", uuid=uuid))
            await asyncio.sleep(1)
            return [uuid[-2:] for uuid in (event.uuid for event in sim.notices.seen if hasattr(event, "uuid"))]

    first, again, other = run(order(1)), run(order(1)), run(order(2))
    assert first == again
    assert sorted(first) == sorted(other)
    assert first != other


@on_virtual_time
async def test_operations_outlive_the_process_that_began_them() -> None:
    """A save goes on when the driver process dies; resumed, it is followed with progress and can be cancelled."""
    async with world(save_seconds=60) as sim:
        call = await _lost(sim)
        resumed = asyncio.ensure_future(sim.driver.resume(call))
        mark = len(sim.notices.seen)
        await sim.notices.until(Report, lambda report: report.call_id == call.id, since=mark)
        assert (await sim.driver.cancel(call.id)).sent
        assert await reason(resumed) is Reason.ABORTED


@pytest.mark.parametrize("remembers", [True, False])
@on_virtual_time
async def test_resume_of_what_ended_meanwhile(remembers: bool) -> None:
    """A save that ended while nobody looked is a success when resumed, remembered or proven."""
    async with world(save_seconds=5, reconnect_seconds=20, remembers=remembers) as sim:
        call = await _lost(sim)
        await sim.driver.resume(call)
        assert (await sim.driver.list()).stamp.process == 1


@on_virtual_time
async def test_resume_of_what_cannot_be_proven() -> None:
    """Where the hypervisor forgets, a reboot cannot be proven, and a call that may be on its way is OUTCOME_UNKNOWN."""
    async with world(remembers=False) as sim:
        call = call_of(ops.Reboot(uuid=sim.uuid))
        await sim.driver.run(call)
        assert await reason(sim.driver.resume(call)) is Reason.INTERRUPTED
        sim.hypervisor.faults.add(Rule(verb="Suspend", wedge=True))
        call, suspending = sim.begin(ops.Suspend(uuid=sim.uuid))
        await asyncio.sleep(1)
        sim.driver.kill()
        assert await reason(suspending) is Reason.DRIVER_LOST
        await sim.notices.until(HostUp, since=len(sim.notices.seen))
        assert await reason(sim.driver.resume(call)) is Reason.OUTCOME_UNKNOWN


@on_virtual_time
async def test_an_older_snapshot_proves_nothing() -> None:
    """A snapshot of that name which was there before the call is not the one that the call was to make; one of the same second may be."""
    async with world(remembers=False) as sim:
        snapshot = ops.CreateSnapshot(uuid=sim.uuid, name="s", xml="<domainsnapshot/>")
        began = wall()
        await sim.run(snapshot)
        outcome = await sim.driver.resume(call_of(snapshot, began=began))
        assert outcome.snapshot is not None
        assert await reason(sim.driver.resume(call_of(snapshot, began=wall() + 1))) is Reason.INTERRUPTED


@on_virtual_time
async def test_resume_of_a_call_that_its_process_carried() -> None:
    """Where calls end with their process, resuming one finds nothing that runs and no proof."""
    async with world(shape="esx", start_seconds=60) as sim:
        call, starting = sim.begin(ops.Start(uuid=sim.off))
        await asyncio.sleep(1)
        sim.driver.kill()
        assert await reason(starting) is Reason.DRIVER_LOST
        await sim.notices.until(HostUp, since=1)
        assert await reason(sim.driver.resume(call)) is Reason.INTERRUPTED


@on_virtual_time
async def test_a_connection_that_stays_down() -> None:
    """A lost connection can stay down until it is mended; the process number does not change."""
    async with world() as sim:
        sim.driver.lose(process=False, stay_down=True)
        await asyncio.sleep(1000)
        assert not (await sim.notices.until(HostDown)).process_lost
        assert await reason(sim.driver.list()) is Reason.HOST_UNREACHABLE
        sim.driver.mend()
        await sim.notices.until(HostUp, since=2)
        assert (await sim.driver.list()).stamp.process == 0


@on_virtual_time
async def test_a_host_that_cannot_be_reached() -> None:
    """While connecting fails, HostDown says why; afterwards the host comes up."""
    async with world() as sim:
        rule = sim.hypervisor.faults.add(Rule(verb="connect", reason=Reason.HOST_UNREACHABLE, message="no route"))
        sim.driver.lose()
        mark = len(sim.notices.seen)
        assert (await sim.notices.until(HostDown, since=mark)).fault.message == "no route"
        sim.hypervisor.faults.remove(rule)
        await sim.notices.until(HostUp, since=mark)


@on_virtual_time
async def test_a_fault_that_kills_the_process() -> None:
    """A rule that ends the process fails what is out with DRIVER_LOST; the operation itself goes on inside."""
    async with world() as sim:
        sim.hypervisor.faults.add(Rule(verb="Suspend", step=1, dies=True, times=1))
        assert await sim.refused(ops.Suspend(uuid=sim.uuid)) is Reason.DRIVER_LOST
        await sim.notices.until(HostUp, since=1)
        assert (await sim.state()).state is State.PAUSED


async def _lost(sim: World) -> Call:
    """Begin a save, lose the process a second later, and wait until the host is up again; returns the call."""
    call, saving = sim.begin(ops.ManagedSave(uuid=sim.uuid))
    await asyncio.sleep(1)
    mark = len(sim.notices.seen)
    sim.driver.kill()
    assert await reason(saving) is Reason.DRIVER_LOST
    await sim.notices.until(HostUp, since=mark)
    return call


@on_virtual_time
async def test_a_rule_that_was_switched_off_strikes_no_more() -> None:
    """Also where another rule of the same call took its time when that happened."""
    async with world() as sim:
        sim.hypervisor.faults.add(Rule(verb="list", seconds=5))
        sim.hypervisor.faults.add(Rule(verb="list", wedge=True))
        listing = asyncio.ensure_future(sim.driver.list())
        await asyncio.sleep(1)
        sim.hypervisor.faults.clear()
        await listing


@on_virtual_time
async def test_a_call_whose_guest_ends_before_its_first_step_fails() -> None:
    """It says so as any other call does, and is not merely cancelled."""
    async with world() as sim:
        _, suspending = sim.begin(ops.Suspend(uuid=sim.uuid))
        while not sim.hypervisor.running_jobs(sim.uuid):  # noqa: ASYNC110 # the very moment, before it can take a step
            await asyncio.sleep(0)
        await sim.driver.simulate(control.Stranger(action="stop", uuid=sim.uuid))
        assert await reason(suspending) is Reason.FAILED


@on_virtual_time
async def test_a_foreign_job_that_ends_as_the_lock_times_out() -> None:
    """The operation fails with FOREIGN_JOB and the holder's name, or goes on: nothing in between."""
    async with world(lock_seconds=5) as sim:
        foreign = sim.hypervisor.foreign_job(sim.uuid)
        _, suspending = sim.begin(ops.Suspend(uuid=sim.uuid))
        asyncio.get_running_loop().call_later(5, foreign.end)
        await asyncio.wait([suspending])
        assert suspending.exception() is None or await reason(suspending) is Reason.FOREIGN_JOB
