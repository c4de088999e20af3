"""FinishBlockJob and SetJobSpeed below the transport, on virtual time: what a block job that is over answers."""

from __future__ import annotations

import pytest

from tests.server.world import World, until, virtual
from virtrpc_drivers import operations as op
from virtrpc_drivers.sim.faults import Rule
from virtrpc_drivers.values import Phase, Steering
from virtrpc_server.errors import Refusal
from virtrpc_server.listening import Listener
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
