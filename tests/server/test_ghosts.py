"""Calls that do not return: what they keep, what is told of them, and how they end. On a simulated hypervisor, on virtual time."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from tests.server.world import World, until, virtual
from virtrpc_drivers import operations as op
from virtrpc_drivers.errors import Reason, failure
from virtrpc_drivers.protocol import Call
from virtrpc_drivers.sim.driver import SimDriver
from virtrpc_drivers.sim.faults import Rule
from virtrpc_drivers.values import CancelAnswer, Outcome
from virtrpc_server.calls import ABORT_LONGEST_PAUSE, BACK_UP_SECONDS, LOST_SECONDS, PROBE_LONGEST_PAUSE
from virtrpc_server.history import Retention
from virtrpc_server.records import Job, JobState, WaitingFor

GIB = 1 << 30


async def ghost(world: World, number: int = 1, verb: op.AnyOperation | None = None) -> tuple[Job, int]:
    """A job that ended with its call out, and the fault that holds the call."""
    uuid = world.guest(number).uuid
    operation = verb or op.Suspend(uuid=uuid)
    held = world.sim.faults.add(Rule(verb=operation.verb, uuid=uuid, step=1, wedge=True))
    job = await world.run(operation, run_limit=1.0)
    assert (job.state, job.may_still_apply) == (JobState.OUTCOME_UNKNOWN, True)
    return job, held


@virtual
async def test_a_ghost_keeps_all_that_its_job_had() -> None:
    """The domain, the place among the saves and the place at the daemon, until the call returns; who waits for them is told that it is a ghost."""
    async with World("sim://a/?domains=4&running=4&workers=3", saves=1) as world:
        uuid = world.guest(1).uuid
        job, held = await ghost(world, verb=op.ManagedSave(uuid=uuid))
        waiting = {
            WaitingFor.CONDITION: world.accept(op.SetMemory(uuid=uuid, memory_bytes=GIB // 2), wait_limit=500.0),
            WaitingFor.HOST_LIMIT: world.accept(op.ManagedSave(uuid=world.guest(2).uuid), wait_limit=500.0),
            WaitingFor.DAEMON_BUDGET: world.accept(op.Suspend(uuid=world.guest(3).uuid), wait_limit=500.0),
        }
        for waiting_for, listener in waiting.items():
            await until(lambda listener=listener: listener.job.waiting_for)  # type: ignore[misc]
            (holder,) = listener.job.holders
            assert (listener.job.waiting_for, holder.job_id, holder.ghost) == (waiting_for, job.id, True)
        world.sim.faults.remove(held)
        for listener in waiting.values():
            assert (await world.end(listener)).state is JobState.SUCCEEDED


@virtual
async def test_a_ghost_is_not_forgotten() -> None:
    """However many jobs have ended since: who waits for it is told whose call it is. Once it is over it is history like others."""
    async with World(retention=Retention(jobs=2)) as world:
        job, held = await ghost(world)
        others = [await world.run(op.SetMemory(uuid=world.guest(2).uuid, memory_bytes=GIB // 2)) for _ in range(3)]
        waiting = world.accept(op.SetMemory(uuid=job.uuid, memory_bytes=GIB // 2))
        await until(lambda: waiting.job.waiting_for)
        (holder,) = waiting.job.holders
        assert (holder.job_id, holder.ghost) == (job.id, True)
        assert world.jobs.ids()[::-1] == [waiting.job.id, others[2].id, others[1].id, job.id]
        world.sim.faults.remove(held)
        await world.end(waiting)
        await until(lambda: world.jobs.ids()[::-1] == [waiting.job.id, job.id])


@virtual
async def test_a_ghost_of_a_lost_driver_process_is_probed_by_the_next() -> None:
    """The call is out of everybody's hands: the domain is kept until the hypervisor's job on it can be taken, and not longer."""
    async with World("sim://a/?domains=1&running=1&remembers=0&lock_seconds=1000") as world:
        uuid = world.guest().uuid
        job, held = await ghost(world)
        world.drivers["a"].lose()
        await until(lambda: not world.hosts["a"].connected)
        await until(lambda: world.hosts["a"].connected)
        behind = world.accept(op.SetMemory(uuid=uuid, memory_bytes=GIB // 2), wait_limit=500.0)
        await asyncio.sleep(60)
        assert [holder.job_id for holder in behind.job.holders] == [job.id]
        world.sim.faults.remove(held)
        assert (await world.end(behind)).state is JobState.SUCCEEDED
        assert not world.sim.violations


@virtual
async def test_a_destroy_ends_a_ghost_of_a_lost_driver_process() -> None:
    """What the guest's end frees is free afterwards."""
    async with World("sim://a/?domains=1&running=1&remembers=0") as world:
        uuid = world.guest().uuid
        await ghost(world)
        world.drivers["a"].lose()
        await until(lambda: not world.hosts["a"].connected)
        await until(lambda: world.hosts["a"].connected)
        assert (await world.run(op.Destroy(uuid=uuid))).state is JobState.SUCCEEDED
        assert (await world.run(op.Start(uuid=uuid))).state is JobState.SUCCEEDED
        assert list(world.jobs.conditions) == []


@virtual
async def test_probes_that_fail_are_repeated_ever_more_rarely() -> None:
    """One after another, never side by side; and one that succeeds in the end frees the domain."""
    async with World("sim://a/?domains=1&running=1&remembers=0") as world:
        uuid = world.guest().uuid
        driver, times, out = world.drivers["a"], [], 0
        probe = driver.probe

        async def counted(uuid: str) -> None:
            nonlocal out
            times.append(asyncio.get_running_loop().time())
            assert out == 0
            out += 1
            try:
                await probe(uuid)
            finally:
                out -= 1

        driver.probe = counted  # type: ignore[method-assign]
        _, held = await ghost(world)
        refusing = world.sim.faults.add(Rule(verb="probe", reason=Reason.FAILED))
        driver.lose()
        await asyncio.sleep(300)
        pauses = [later - earlier for earlier, later in itertools.pairwise(times)]
        assert pauses[:3] == pytest.approx([1.0, 2.0, 4.0])
        assert pauses[-1] == pytest.approx(PROBE_LONGEST_PAUSE)
        world.sim.faults.remove(refusing)
        world.sim.faults.remove(held)
        assert (await world.run(op.SetMemory(uuid=uuid, memory_bytes=GIB // 2), wait_limit=100.0)).state is JobState.SUCCEEDED


@virtual
async def test_a_probe_that_hangs_is_not_repeated() -> None:
    """It is the answer: it comes when the domain is free."""
    async with World("sim://a/?domains=1&running=1&remembers=0") as world:
        _, held = await ghost(world)
        hanging = world.sim.faults.add(Rule(verb="probe", wedge=True))
        world.drivers["a"].lose()
        await asyncio.sleep(120)
        assert len([one for one in world.sim.faults.wedged if one.verb == "probe"]) == 1
        world.sim.faults.remove(held)
        world.sim.faults.remove(hanging)
        await until(lambda: list(world.jobs.conditions) == [])


@virtual
async def test_run_timeout_goes_on_while_the_driver_process_is_away() -> None:
    """Its expiry during the outage is a cancel: the job ends in the time that a cancelled call has, not when the host has been away too long."""
    async with World("sim://a/?domains=1&running=1&save_seconds=500&reconnect_seconds=400") as world:
        save = world.accept(op.ManagedSave(uuid=world.guest().uuid), run_limit=20.0)
        began = asyncio.get_running_loop().time()
        await world.running(save)
        await asyncio.sleep(5)
        world.drivers["a"].lose()
        ended = await world.end(save)
        assert ended.state is JobState.OUTCOME_UNKNOWN
        assert 20 <= asyncio.get_running_loop().time() - began <= 20 + LOST_SECONDS + 1


@virtual
async def test_run_timeout_that_passed_during_an_outage_aborts_what_goes_on() -> None:
    """The host is back before the job is given up: the call is aborted then, and the job ends with its reason."""
    async with World("sim://a/?domains=1&running=1&save_seconds=500&reconnect_seconds=10") as world:
        save = world.accept(op.ManagedSave(uuid=world.guest().uuid), run_limit=8.0)
        await world.running(save)
        await asyncio.sleep(5)
        world.drivers["a"].lose()
        ended = await world.end(save)
        assert ended.problem is not None
        assert ended.problem.reason == "RUN_TIMEOUT"
        assert world.guest().active


@virtual
async def test_a_driver_process_that_dies_of_every_question_keeps_no_job_for_ever() -> None:
    """Its returns do not start the clocks again: neither that of a job that was to stop, nor that of one whose host is away."""
    for run_limit, longest in ((20.0, 20 + LOST_SECONDS + 1), (None, 5 + BACK_UP_SECONDS + 1)):
        async with World("sim://a/?domains=1&running=1&save_seconds=500&reconnect_seconds=1") as world:
            driver = world.drivers["a"]

            async def dies(call: Call, driver: SimDriver = driver) -> Outcome:
                driver.lose()
                raise failure(Reason.DRIVER_LOST, "died again")

            driver.resume = dies  # type: ignore[method-assign]
            save = world.accept(op.ManagedSave(uuid=world.guest().uuid), run_limit=run_limit)
            began = asyncio.get_running_loop().time()
            await world.running(save)
            await asyncio.sleep(5)
            driver.lose()
            assert (await world.end(save)).state is JobState.OUTCOME_UNKNOWN
            assert asyncio.get_running_loop().time() - began <= longest


@virtual
async def test_a_call_that_was_lost_is_never_sent_again() -> None:
    """What holds the domain when the next driver process asks may be the call itself: that is no other's job to wait for."""
    async with World("sim://a/?domains=1&running=1&save_seconds=20") as world:
        driver = world.drivers["a"]

        async def refused(call: Call) -> Outcome:
            raise failure(Reason.FOREIGN_JOB, "cannot acquire state change lock")

        driver.resume = refused  # type: ignore[method-assign]
        save = world.accept(op.ManagedSave(uuid=world.guest().uuid))
        await world.running(save)
        driver.lose()
        assert (await world.end(save)).state is JobState.OUTCOME_UNKNOWN
        assert (save.job.host, save.job.uuid) in list(world.jobs.conditions)
        await until(lambda: list(world.jobs.conditions) == [])
        assert list(world.sim.jobs) == [f"{save.job.id}.1"]


@virtual
async def test_a_ghost_is_aborted_ever_more_rarely() -> None:
    """The wish stays; but what is asked for many ghosts must leave the abort lane to those whose operations can be aborted."""
    async with World("sim://a/?domains=1&running=1") as world:
        asked = 0

        async def not_now(call_id: str) -> CancelAnswer:
            nonlocal asked
            asked += 1
            return CancelAnswer(sent=False, message="not shown now")

        world.drivers["a"].cancel = not_now  # type: ignore[method-assign]
        await ghost(world, verb=op.ManagedSave(uuid=world.guest().uuid))
        before = asked
        await asyncio.sleep(100)
        assert 1 <= asked - before <= 100 / ABORT_LONGEST_PAUSE + 1


@virtual
async def test_ghosts_leave_no_task_behind() -> None:
    """A server that ends waits for none of them, whatever they wait for themselves."""
    before = len(asyncio.all_tasks())
    async with World("sim://a/?domains=3&running=3&remembers=0") as world:
        for number in (1, 2):
            await ghost(world, number)
        world.drivers["a"].lose(stay_down=True)
        await asyncio.sleep(5)
    await asyncio.sleep(0)
    assert len(asyncio.all_tasks()) == before
