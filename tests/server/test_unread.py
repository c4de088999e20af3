"""A domain that a job has made, or renamed, and that cannot be read in time."""

from __future__ import annotations

from tests.server.world import World, until, virtual
from virtrpc.v1 import types_pb2
from virtrpc_drivers import operations as op
from virtrpc_drivers.sim.faults import Rule
from virtrpc_drivers.values import Group
from virtrpc_server.hosts import Freshness
from virtrpc_server.lookup import Lookup
from virtrpc_server.records import JobState

UUID = "5d3f0f0e-0000-4000-8000-000000000001"
DEFINITION = f"<domain type='sim'><name>new</name><uuid>{UUID}</uuid><memory>1024</memory></domain>"


@virtual
async def test_a_domain_is_found_as_soon_as_it_was_made() -> None:
    """While its first reading hangs, a new domain is found by name, with nothing known of it; the next verb is accepted; then it is read."""
    async with World() as world:
        hang = world.sim.faults.add(Rule(verb="read", uuid=UUID, wedge=True))
        assert (await world.run(op.Define(uuid=UUID, name="new", xml=DEFINITION))).state is JobState.SUCCEEDED
        entry = Lookup(world.hosts, world.domains).domain(types_pb2.DomainRef(name="new"))
        assert (entry.uuid, entry.state, entry.config) == (UUID, None, None)
        assert world.hosts["a"].group_freshness(entry, Group.STATE) is Freshness.UNKNOWN
        assert (await world.run(op.Start(uuid=UUID))).state is JobState.SUCCEEDED
        world.sim.faults.remove(hang)
        await until(lambda: world.domains.by_name("new")[0].active)


@virtual
async def test_a_listing_that_began_before_does_not_hide_what_was_made() -> None:
    """A listing that was out while the domain was made lacks it, and removes nothing when it comes back late."""
    async with World(audit_seconds=1.0) as world:
        world.sim.faults.add(Rule(verb="read", uuid=UUID, wedge=True))
        late = world.sim.faults.add(Rule(verb="list", step=-1, wedge=True))
        await until(lambda: world.sim.faults.wedged)
        await world.run(op.Define(uuid=UUID, name="new", xml=DEFINITION))
        world.sim.faults.remove(late)
        await until(lambda: not any(held.verb == "list" for held in world.sim.faults.wedged))
        assert [entry.uuid for entry in world.domains.by_name("new")] == [UUID]


@virtual
async def test_a_domain_that_is_gone_before_it_was_read_stays_gone() -> None:
    """Somebody else takes the new domain away before it can be read: the reading says so, whenever it comes."""
    async with World() as world:
        hang = world.sim.faults.add(Rule(verb="read", uuid=UUID, wedge=True))
        await world.run(op.Define(uuid=UUID, name="new", xml=DEFINITION))
        assert (await world.run(op.Undefine(uuid=UUID))).state is JobState.SUCCEEDED
        world.sim.faults.remove(hang)
        await until(lambda: not world.domains.by_name("new"))


@virtual
async def test_a_domain_is_found_by_its_new_name() -> None:
    """A renamed domain goes by its new name, although it cannot be read."""
    async with World() as world:
        off = world.guest(4)
        world.sim.faults.add(Rule(verb="read", uuid=off.uuid, wedge=True))
        assert (await world.run(op.Rename(uuid=off.uuid, name="other"))).state is JobState.SUCCEEDED
        assert [entry.uuid for entry in world.domains.by_name("other")] == [off.uuid]
        assert not world.domains.by_name(off.name)


@virtual
async def test_a_guest_is_found_where_it_was_moved_to() -> None:
    """Although it cannot be read there yet: by its new name, with nothing known of it, and the next verb is accepted."""
    async with World("sim://a/?domains=1&running=1", "sim://b/?domains=0&seed=7") as world:
        uuid = world.guest().uuid
        hang = world.sims["b"].faults.add(Rule(verb="read", uuid=uuid, wedge=True))
        moved = await world.run(op.Migrate(uuid=uuid, destination_uri="sim://b/", new_name="there"), destination_host="b")
        assert moved.state is JobState.SUCCEEDED
        entry = Lookup(world.hosts, world.domains).domain(types_pb2.DomainRef(name="there"))
        assert (entry.host, entry.uuid, entry.state) == ("b", uuid, None)
        assert (await world.run(op.Suspend(uuid=uuid), "b")).state is JobState.SUCCEEDED
        world.sims["b"].faults.remove(hang)
        await until(lambda: world.domains.by_name("there")[0].active)
