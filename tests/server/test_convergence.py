"""Whether a migration gets on, what its schedule does about it, and what can be tuned: as a value, and on simulated hosts in virtual time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.server.world import World, until, virtual
from virtrpc_drivers.migration import Step, Tuning
from virtrpc_drivers.operations import Migrate, Suspend
from virtrpc_drivers.sim.faults import Rule
from virtrpc_drivers.values import Phase, State
from virtrpc_server.calls import LOST_SECONDS
from virtrpc_server.convergence import Convergence
from virtrpc_server.errors import Refusal
from virtrpc_server.listening import Listener
from virtrpc_server.records import CancelOutcome, CancelReason, Job, JobState
from virtrpc_server.tuning import tune

MIB = 1 << 20
HOSTS = ("sim://a/?domains=1&running=1&memory_mib=64&progress_seconds=0.5", "sim://b/?domains=0&running=0")


def readings(*pairs: tuple[float, int, int]) -> Convergence:
    """How a move got on: (when, what was left, in which pass)."""
    state = Convergence()
    for now, left, iteration in pairs:
        state = state.after(now, left, iteration)
    return state


@pytest.mark.parametrize(
    ("pairs", "stalled"),
    [
        ([(0, 100, 1), (1, 80, 1), (2, 60, 1)], 0),
        ([(0, 100, 1), (1, 80, 1), (2, 80, 1), (3, 85, 1)], 2),
        ([(0, 100, 1), (1, 10, 1), (2, 50, 2), (3, 20, 2)], 0),
        ([(0, 100, 1), (1, 10, 1), (2, 50, 2), (3, 45, 3), (4, 20, 3)], 0),
        ([(0, 100, 1), (1, 10, 1), (2, 50, 2), (3, 46, 3), (4, 20, 3), (5, 1, 3)], 3),
        ([(0, 100, 1), (1, 10, 1), (2, 50, 2), (3, 50, 3), (4, 40, 4), (5, 20, 4)], 0),
        ([(0, 100, 1), (100, 100, 1)], 2),
        ([(0, 40, 0), (1, 20, 0), (2, 100, 1), (3, 90, 1)], 0),
    ],
    ids=["falls", "stands", "a-smaller-pass", "a-tenth-smaller", "not-a-tenth-smaller", "smaller-later", "no-readings", "disks-first"],
)
def test_getting_on(pairs: list[tuple[float, int, int]], stalled: float) -> None:
    """A move gets on with less left in a pass that began a tenth smaller; time without readings hardly counts."""
    assert readings(*pairs).stalled == stalled


def test_steps_have_their_time() -> None:
    """A step is due after its time without getting on, and the next one no sooner than its own time after that."""
    schedule = (Step(after=2), Step(after=1))
    state = readings((0, 100, 1), (1, 100, 1))
    assert state.due(schedule) is None
    state = state.after(2, 100, 1)
    assert state.due(schedule) is schedule[0]
    state = state.took(0.0)
    assert state.due(schedule) is None
    state = state.after(3, 100, 1)
    assert (state.due(schedule), state.stalled) == (schedule[1], 3)
    assert state.took(0.0).after(60, 100, 1).due(schedule) is None


def begin(world: World, *, writes: int = 32 * MIB, **settings: Any) -> Listener:
    """Begin to move a guest of 64 MiB at 16 MiB a second, while it writes this much."""
    world.sim.domain(world.guest().uuid).dirty_rate = writes
    wanted = {"bandwidth_bytes_per_second": 16 * MIB, **settings}
    return world.accept(Migrate(uuid=world.guest().uuid, destination_uri="sim://b/", **wanted), destination_host="b")


async def copying(world: World, listener: Listener) -> Job:
    """The job once its memory is under way."""
    await until(lambda: listener.job.phase is Phase.MIGRATION_COPY)
    return listener.job


@virtual
async def test_a_schedule_in_its_order() -> None:
    """Each step is taken once, in its order, until the move gets on; what was done last, and when, is told."""
    steps = (Step(after=5, tuning=Tuning(bandwidth_bytes_per_second=24 * MIB)), Step(after=5, tuning=Tuning(max_downtime_seconds=10.0)))
    async with World(*HOSTS) as world:
        listener = begin(world, schedule=steps)
        await listener.stored()
        seen = [job async for job in listener.updates()]
        assert seen[-1].state is JobState.SUCCEEDED
        taken = [job.convergence.taken for job in seen if job.convergence is not None]
        assert taken == sorted(taken)
        assert set(taken) == {0, 1, 2}
        assert seen[-1].migration is not None
        assert (seen[-1].migration.bandwidth_bytes_per_second, seen[-1].migration.max_downtime_seconds) == (24 * MIB, 10.0)
        first = next(job for job in seen if job.convergence is not None and job.convergence.taken == 1)
        assert first.convergence is not None
        assert 5 <= first.convergence.stalled < 6


@virtual
async def test_a_guest_that_gets_on_is_left_alone() -> None:
    """A guest that writes less with every pass arrives without a step of its schedule."""
    async with World(*HOSTS) as world:
        job = await world.end(begin(world, writes=4 * MIB, schedule=(Step(after=1, abort=True),)))
        assert job.state is JobState.SUCCEEDED
        assert job.convergence is not None
        assert job.convergence.taken == 0
        assert job.migration is not None
        assert (job.migration.memory_iteration or 0) > 1


@virtual
async def test_a_schedule_gives_up() -> None:
    """An abort of the schedule ends the job CANCELLED, with its own reason, and the guest runs on."""
    async with World(*HOSTS) as world:
        job = await world.end(begin(world, schedule=(Step(after=5, abort=True),)))
        assert (job.state, job.cancel_reason) == (JobState.CANCELLED, CancelReason.NOT_CONVERGING)
        assert world.sim.domain(world.guest().uuid).state is State.RUNNING


@virtual
async def test_a_schedule_goes_over_to_post_copy() -> None:
    """Post-copy is a phase of its own: it cannot be aborted, and comes to an end."""
    async with World(*HOSTS) as world:
        listener = begin(world, post_copy=True, schedule=(Step(after=5, tuning=Tuning(start_post_copy=True)),))
        await listener.stored()
        seen = [job async for job in listener.updates()]
        late = [job for job in seen if job.phase is Phase.MIGRATION_POST_COPY]
        assert late
        assert not any(job.abortable for job in late)
        assert seen[-1].state is JobState.SUCCEEDED


@virtual
async def test_a_cancel_in_post_copy() -> None:
    """A cancel in post-copy is told why it cannot be; the move goes on for as long as it takes, and is no ghost."""
    async with World(*HOSTS) as world:
        listener = begin(world, post_copy=True, post_copy_bandwidth_bytes_per_second=MIB)
        await copying(world, listener)
        await tune(world.jobs, listener.job.id, Tuning(start_post_copy=True))
        await until(lambda: listener.job.phase is Phase.MIGRATION_POST_COPY)
        job, outcome = await world.jobs.cancel(listener.job.id)
        assert (outcome, "runs at the destination" in job.abort_reason) == (CancelOutcome.NOT_ABORTABLE, True)
        began = asyncio.get_running_loop().time()
        assert (await world.end(listener)).state is JobState.SUCCEEDED
        assert asyncio.get_running_loop().time() - began > 2 * LOST_SECONDS


@virtual
async def test_a_guest_that_hangs_in_post_copy() -> None:
    """A cancelled move in post-copy of which nothing is heard any more is a ghost, as every call is."""
    async with World(*HOSTS) as world:
        listener = begin(world, post_copy=True, post_copy_bandwidth_bytes_per_second=MIB)
        await copying(world, listener)
        await tune(world.jobs, listener.job.id, Tuning(start_post_copy=True))
        await until(lambda: listener.job.phase is Phase.MIGRATION_POST_COPY)
        await world.jobs.cancel(listener.job.id)
        world.sim.stop_guest(listener.job.uuid)
        job = await world.end(listener)
        world.sim.continue_guest(listener.job.uuid)
        assert job.state is JobState.OUTCOME_UNKNOWN


@virtual
async def test_a_guest_paused_to_arrive_runs_there() -> None:
    """A guest that its schedule holds still goes on at the destination."""
    async with World(*HOSTS) as world:
        uuid = world.guest().uuid
        assert (await world.end(begin(world, schedule=(Step(after=5, tuning=Tuning(pause=True)),)))).state is JobState.SUCCEEDED
        assert world.sims["b"].domain(uuid).state is State.RUNNING


@virtual
async def test_a_step_in_vain_is_told() -> None:
    """A step that the hypervisor refuses says why, and the next one is taken all the same."""
    async with World(*HOSTS) as world:
        steps = (Step(after=5, tuning=Tuning(start_post_copy=True)), Step(after=5, abort=True))
        listener = begin(world, schedule=steps)
        await listener.stored()
        seen = [job async for job in listener.updates()]
        assert any("post-copy" in job.convergence.last_step_error for job in seen if job.convergence is not None)
        assert seen[-1].cancel_reason is CancelReason.NOT_CONVERGING


@virtual
async def test_a_schedule_outlives_the_driver_process() -> None:
    """After the driver process was lost the schedule goes on with the move, and the time without readings did not count."""
    async with World(*HOSTS) as world:
        listener = begin(world, schedule=(Step(after=30, abort=True),))
        await copying(world, listener)
        world.drivers["a"].lose(stay_down=True)
        await until(lambda: not world.hosts["a"].connected)
        await asyncio.sleep(40)
        world.drivers["a"].mend()
        await until(lambda: listener.job.convergence is not None and listener.job.convergence.taken == 1)
        assert (await world.end(listener)).cancel_reason is CancelReason.NOT_CONVERGING


@virtual
async def test_tuning() -> None:
    """A migration that runs takes other limits; one that is not there, not yet, or no more, says so."""
    async with World(*HOSTS) as world:
        listener = begin(world)
        job = await copying(world, listener)
        told = await tune(world.jobs, job.id, Tuning(bandwidth_bytes_per_second=512 * MIB, compression_cache_bytes=MIB))
        assert told.id == job.id
        ended = await world.end(listener)
        assert ended.migration is not None
        assert (ended.migration.bandwidth_bytes_per_second, ended.migration.compression_cache_bytes) == (512 * MIB, MIB)
        assert await refused(world, job.id, Tuning(bandwidth_bytes_per_second=MIB)) == "NOT_READY"
        assert await refused(world, "nobody", Tuning(bandwidth_bytes_per_second=MIB)) == "JOB_NOT_FOUND"


@virtual
async def test_what_cannot_be_tuned() -> None:
    """A job that is no migration, one that is queued, and post-copy where it was not allowed are refused; a guest whose monitor hangs is told."""
    async with World(*HOSTS) as world:
        uuid = world.guest().uuid
        world.sim.faults.add(Rule(verb="Suspend", uuid=uuid, seconds=5))
        suspending = world.accept(Suspend(uuid=uuid))
        queued = begin(world)
        await world.running(suspending)
        await queued.stored()
        assert await refused(world, queued.job.id, Tuning(bandwidth_bytes_per_second=MIB)) == "NOT_READY"
        assert await refused(world, suspending.job.id, Tuning(bandwidth_bytes_per_second=MIB)) == "INVALID_ARGUMENT"
        await copying(world, queued)
        assert await refused(world, queued.job.id, Tuning(start_post_copy=True)) == "INVALID_ARGUMENT"
        world.sim.stop_guest(uuid)
        assert await refused(world, queued.job.id, Tuning(bandwidth_bytes_per_second=MIB)) == "MONITOR_UNRESPONSIVE"
        world.sim.continue_guest(uuid)
        assert (await world.end(queued)).state is JobState.SUCCEEDED


async def refused(world: World, job_id: str, tuning: Tuning) -> str:
    """Why a migration cannot be tuned."""
    with pytest.raises(Refusal) as caught:
        await tune(world.jobs, job_id, tuning)
    return caught.value.problem.reason
