"""Starts that hang: the guest is there before any event says so, and DestroyDomain is the way out. On virtual time."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace

from tests.server.world import World, until, virtual
from virtrpc.v1 import types_pb2
from virtrpc_drivers import operations as op
from virtrpc_drivers.sim.faults import Rule
from virtrpc_server.lookup import Lookup
from virtrpc_server.records import JobState
from virtrpc_server.starting import FIRST_PAUSE

UUID = "5d3f0f0e-0000-4000-8000-000000000001"
XML = f"<domain type='sim'><name>new</name><uuid>{UUID}</uuid><memory>1024</memory></domain>"


@virtual
async def test_a_start_that_hangs_is_seen_and_can_be_destroyed() -> None:
    """Its guest is shown as not off, though nothing announced it; the destroy is accepted, and the start ends PREEMPTED."""
    async with World() as world:
        off = world.guest(4)
        world.sim.faults.add(Rule(verb="Start", uuid=off.uuid, step=1, wedge=True))
        start = world.accept(op.Start(uuid=off.uuid))
        await until(lambda: world.guest(4).active)
        assert start.job.state is JobState.RUNNING
        assert (await world.run(op.Destroy(uuid=off.uuid))).state is JobState.SUCCEEDED
        assert (await world.end(start)).state is JobState.PREEMPTED
        assert not world.guest(4).active


@virtual
async def test_a_new_domain_whose_start_hangs_is_found() -> None:
    """A transient one that is only being made goes by its name before the call that makes it is over, and is gone once it was destroyed."""
    async with World() as world:
        world.sim.faults.add(Rule(verb="Create", uuid=UUID, step=1, wedge=True))
        create = world.accept(op.Create(uuid=UUID, name="new", xml=XML))
        await until(lambda: world.domains.by_name("new"))
        found = Lookup(world.hosts, world.domains).domain(types_pb2.DomainRef(name="new"))
        assert (await world.run(op.Destroy(uuid=found.uuid))).state is JobState.SUCCEEDED
        assert (await world.end(create)).state is JobState.PREEMPTED
        assert not world.domains.by_name("new")


@pytest.mark.parametrize(
    "operation",
    [
        op.Create(uuid=UUID, name="new", xml=XML),
        op.Restore(uuid=UUID, name="new", path="/images/one.save"),
        op.RevertToSnapshot(uuid=UUID, name="one"),
        op.Start(uuid=UUID),
    ],
    ids=lambda operation: operation.verb,
)
def test_whatever_may_start_a_guest_is_looked_at_meanwhile(operation: op.AnyOperation) -> None:
    """Its domain's state is of after the call was sent, though no event came and no audit was due."""

    @virtual
    async def hanging() -> None:
        async with World() as world:
            off = world.guest(4)
            assert off.state is not None
            world.sim.faults.add(Rule(verb=operation.verb, uuid=off.uuid, wedge=True))
            before = off.state.stamp
            run = world.accept(replace(operation, uuid=off.uuid))
            await asyncio.sleep(2 * FIRST_PAUSE)
            read = world.guest(4).state
            assert read is not None
            assert (read.stamp > before, run.job.state) == (True, JobState.RUNNING)

    hanging()
