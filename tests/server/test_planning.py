"""What stands in the way of a migration, asked of simulated hosts and of the server itself."""

from __future__ import annotations

import pytest

from tests.server.world import World, all_seen, until, virtual
from virtrpc.v1 import types_pb2 as t
from virtrpc_drivers.operations import Migrate, Suspend
from virtrpc_drivers.sim.faults import Rule
from virtrpc_server.errors import Refusal
from virtrpc_server.migration import Migrations
from virtrpc_server.planning import Plans
from virtrpc_server.slow import SlowReads

HOSTS = ("sim://a/?domains=2&running=1&migrate_seconds=100", "sim://b/?domains=0&running=0")
Rows = list[tuple[str, str, bool]]


async def plan(world: World, number: int = 1, **settings: object) -> Rows:
    """What is found: on which host, why, and whether it is fatal."""
    plans = Plans(world.jobs, all_seen(world.jobs), Migrations(world.hosts, {"sim"}), SlowReads(world.hosts))
    wanted = t.MigrationSettings(**settings)  # type: ignore[arg-type]  # as each test gives them
    answer = await plans.plan(world.guest(number), wanted)
    assert answer.feasible is not any(found.fatal for found in answer.obstacles)
    assert all(found.message for found in answer.obstacles)
    return [(found.host, found.reason, found.fatal) for found in answer.obstacles]


@virtual
async def test_nothing_in_the_way() -> None:
    """A guest that runs can go to another host, by its name or by URI."""
    async with World(*HOSTS) as world:
        assert await plan(world, host="b") == []
        assert await plan(world, uri="sim://b/") == []


@virtual
async def test_the_state_of_the_guest() -> None:
    """One that is off can be moved offline alone."""
    async with World(*HOSTS) as world:
        assert await plan(world, 2, host="b") == [("a", "WRONG_STATE", True)]
        assert await plan(world, 2, host="b", offline=True, persist_destination=True) == []


@virtual
async def test_the_destination() -> None:
    """One that is not configured, not allowed, not there, or not connected is an answer; settings that are wrong are an error."""
    async with World(*HOSTS) as world:
        assert await plan(world, host="c") == [("c", "HOST_NOT_CONFIGURED", True)]
        assert await plan(world, uri="qemu+ext://b/?command=x") == [("", "MIGRATION_TARGET_NOT_ALLOWED", True)]
        assert await plan(world, uri="sim://nowhere/") == [("", "UNSUPPORTED_BY_HYPERVISOR", True)]
        world.drivers["b"].lose(stay_down=True)
        await until(lambda: not world.hosts["b"].connected)
        assert await plan(world, host="b") == [("b", "HOST_UNREACHABLE", True)]
        for wrong in ({}, {"host": "a"}, {"host": "b", "offline": True}):
            with pytest.raises(Refusal) as caught:
                await plan(world, **wrong)
            assert caught.value.problem.reason == "INVALID_ARGUMENT"


@virtual
async def test_the_name_at_the_destination() -> None:
    """A domain of the same name is in the way, unless the guest is renamed."""
    async with World(HOSTS[0], "sim://b/?domains=1&running=0") as world:
        assert await plan(world, host="b") == [("b", "ALREADY_EXISTS", True)]
        assert await plan(world, host="b", destination_name="moved") == []


@virtual
async def test_another_hypervisor() -> None:
    """A guest goes to its own kind of hypervisor, and to one that takes domains from others."""
    async with World(HOSTS[0], "sim://b/?domains=0&running=0&shape=vz", "sim://c/?domains=0&running=0&shape=test") as world:
        assert await plan(world, host="b") == [("b", "UNSUPPORTED_BY_HYPERVISOR", True)]
        assert await plan(world, host="c") == [("c", "UNSUPPORTED_BY_HYPERVISOR", True)]


@virtual
async def test_what_it_would_wait_for() -> None:
    """A job on the domain and a limit that is reached make it queue, and are not fatal; both ends are looked at."""
    async with World(*HOSTS, migrations=1) as world:
        uuid = world.guest().uuid
        world.sim.faults.add(Rule(verb="Suspend", uuid=uuid, seconds=5))
        suspending = world.accept(Suspend(uuid=uuid))
        await world.running(suspending)
        assert await plan(world, host="b") == [("a", "BUSY", False)]
        await world.end(suspending)
        moving = world.accept(Migrate(uuid=uuid, destination_uri="sim://b/"), destination_host="b")
        await world.running(moving)
        found = await plan(world, 2, host="b", offline=True, persist_destination=True)
        assert set(found) == {("a", "BUSY", False)}


@virtual
async def test_a_read_only_source() -> None:
    """From a host that is configured read-only nothing is moved, and to it neither."""
    async with World(*HOSTS, read_only=True) as world:
        assert await plan(world, host="b") == [("b", "HOST_READ_ONLY", True)]
        assert ("a", "HOST_READ_ONLY", True) in await plan(world, uri="sim://elsewhere/")
