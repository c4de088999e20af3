"""FinishBlockJob and SetJobSpeed below the transport, on virtual time: what a block job says that is over, or that cannot be finished."""

from __future__ import annotations

import asyncio

import pytest

from tests.server.world import World, until, virtual
from virtrpc_drivers import operations as op
from virtrpc_drivers.errors import Fault, Reason
from virtrpc_drivers.sim.faults import Rule
from virtrpc_drivers.values import Phase, Steering
from virtrpc_server.errors import Refusal
from virtrpc_server.listening import Listener
from virtrpc_server.messages.jobs import job_message
from virtrpc_server.records import JobState
from virtrpc_server.steering import steer

COPY = "<disk type='file'><source file='/images/copy'/><driver type='raw'/></disk>"
SPEED = Steering(bandwidth_bytes_per_second=1 << 20)
PIVOT = Steering(finish="pivot")


async def refused(world: World, listener: Listener, steering: Steering) -> Refusal:
    """The refusal of a steering."""
    with pytest.raises(Refusal) as caught:
        await steer(world.jobs, listener.job.id, steering)
    return caught.value


@virtual
async def test_a_block_job_that_has_just_ended_says_so() -> None:
    """Its call is still out, the job is RUNNING, and the disk has no block job any more: NOT_READY, with the job's state."""
    async with World() as world:
        world.sim.faults.add(Rule(verb="PullBlock", step=-1, wedge=True))
        pull = world.accept(op.PullBlock(uuid=world.guest().uuid, disk="vda"))
        await until(lambda: world.sim.faults.wedged)
        problem = (await refused(world, pull, SPEED)).problem
        assert (problem.reason, problem.metadata["state"], problem.metadata["phase"]) == ("NOT_READY", "running", "background")
        assert "its block job is over" in problem.message
        world.sim.faults.clear()
        assert (await world.end(pull)).state is JobState.SUCCEEDED


@virtual
async def test_a_mirror_that_has_just_ended_says_so() -> None:
    """A second finish of a mirror that has pivoted is refused in the same way."""
    async with World() as world:
        copy = world.accept(op.CopyBlock(uuid=world.guest().uuid, disk="vda", xml=COPY, finish="wait"))
        await until(lambda: copy.job.phase is Phase.READY)
        world.sim.faults.add(Rule(verb="CopyBlock", step=-1, wedge=True))
        await steer(world.jobs, copy.job.id, PIVOT)
        await until(lambda: world.sim.faults.wedged)
        problem = (await refused(world, copy, PIVOT)).problem
        assert (problem.reason, problem.metadata["state"]) == ("NOT_READY", "running")
        assert "its block job is over" in problem.message
        world.sim.faults.clear()
        assert (await world.end(copy)).state is JobState.SUCCEEDED


@virtual
async def test_a_job_that_is_over_says_how_it_ended() -> None:
    """A finished job is NOT_READY with its final state."""
    async with World() as world:
        copy = world.accept(op.CopyBlock(uuid=world.guest().uuid, disk="vda", xml=COPY, finish="pivot"))
        await world.end(copy)
        for steering in (SPEED, PIVOT):
            problem = (await refused(world, copy, steering)).problem
            assert (problem.reason, problem.metadata["state"]) == ("NOT_READY", "succeeded")
            assert "it is over: SUCCEEDED" in problem.message


REFUSED = Rule(verb="CopyBlock", step=3, reason=Reason.FAILED, message="not ready for pivot yet")
HELD = Rule(verb="CopyBlock", step=3, reason=Reason.FOREIGN_JOB, message="held by virsh")


async def refused_copy(world: World, rule: Rule) -> Listener:
    """A copy that is READY, and that this rule keeps from being finished."""
    world.sim.faults.add(rule)
    copy = world.accept(op.CopyBlock(uuid=world.guest().uuid, disk="vda", xml=COPY, finish="pivot"))
    await until(lambda: copy.job.trouble is not None)
    assert (copy.job.phase, copy.job.abortable) == (Phase.READY, True)
    return copy


@virtual
async def test_a_finish_that_is_refused_for_ever_ends_the_job() -> None:
    """The job says why while it lasts, ends FAILED after a minute with that and what became of the mirror, and its disk is free."""
    async with World() as world:
        copy = await refused_copy(world, REFUSED)
        trouble = job_message(copy.job, world.hosts).trouble
        assert (trouble.reason, trouble.message, trouble.metadata["domain"]) == ("OPERATION_FAILED", REFUSED.message, copy.job.uuid)
        ended = await world.end(copy)
        assert ended.problem is not None
        assert (ended.state, ended.problem.reason, ended.trouble) == (JobState.FAILED, "OPERATION_FAILED", None)
        assert "not ready for pivot yet; it was broken off" in ended.problem.message
        assert 60 <= (ended.ended or 0.0) - (ended.started or 0.0) < 70
        assert not job_message(ended, world.hosts).HasField("trouble")
        assert (await world.end(world.accept(op.PullBlock(uuid=copy.job.uuid, disk="vda")))).state is JobState.SUCCEEDED


@virtual
async def test_a_finish_that_anothers_job_holds_up_is_waited_for() -> None:
    """However long that takes; once the domain is free the mirror is finished, and nothing is in its way any more."""
    async with World() as world:
        copy = await refused_copy(world, HELD)
        await asyncio.sleep(300)
        assert copy.job.trouble == Fault(reason=Reason.FOREIGN_JOB, message=HELD.message)
        assert job_message(copy.job, world.hosts).trouble.reason == "BUSY"
        world.sim.faults.clear()
        ended = await world.end(copy)
        assert (ended.state, ended.trouble, ended.outcome and ended.outcome.finish) == (JobState.SUCCEEDED, None, "pivot")


@virtual
async def test_a_finish_that_is_refused_can_be_had_otherwise() -> None:
    """While it is tried again, FinishBlockJob and CancelJob do what they do with any mirror."""
    async with World() as world:
        copy = await refused_copy(world, HELD)
        await steer(world.jobs, copy.job.id, Steering(finish="stop"))
        ended = await world.end(copy)
        assert (ended.state, ended.outcome and ended.outcome.finish) == (JobState.SUCCEEDED, "stop")
        again = await refused_copy(world, HELD)
        await world.jobs.cancel(again.job.id)
        assert (await world.end(again)).state is JobState.CANCELLED
