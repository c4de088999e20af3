"""Events and readings of one driver process have an order: an event is answered by what was read after it came in."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from tests.server.fake_driver import FakeDriver, reading, uuid
from tests.server.test_refresh import connected, held_up
from tests.server.world import World, virtual
from tests.virtual_time import on_virtual_time
from virtrpc_drivers import operations as ops
from virtrpc_drivers.protocol import Change
from virtrpc_drivers.sim.events import EventRule
from virtrpc_drivers.values import Control, Group, State
from virtrpc_server.domains import Domains
from virtrpc_server.due import BATCH
from virtrpc_server.hosts import Freshness, Host
from virtrpc_server.records import JobState


def now() -> float:
    """The moment that a call which begins now is stamped with."""
    return asyncio.get_running_loop().time()


def freshness(host: Host, domains: Domains, number: int = 1) -> set[Freshness]:
    """Of both groups of a domain."""
    entry = domains.get(("h", uuid(number)))
    assert entry is not None
    return {host.group_freshness(entry, group) for group in Group}


@on_virtual_time
async def test_an_event_that_is_older_than_the_reading_asks_for_nothing() -> None:
    """What it announced has been read: nothing is read again, and nothing is STALE for it."""
    driver = FakeDriver(reading(1, 0.0))
    async with connected(driver) as (host, domains):
        before = now()
        await asyncio.sleep(1)
        assert await host.refresher.refresh(uuid(1), 5.0)
        driver.reads.clear()
        driver.changed(1, came_in=before)
        assert freshness(host, domains) == {Freshness.LIVE}
        await asyncio.sleep(1)
        assert driver.reads == []
        driver.changed(1, came_in=now())
        assert freshness(host, domains) == {Freshness.STALE}
        await asyncio.sleep(1)
        assert len(driver.reads) == len(Group)
        assert freshness(host, domains) == {Freshness.LIVE}


@on_virtual_time
async def test_a_read_that_began_after_the_event_came_in_answers_it() -> None:
    """Also where the server hears of the event while that read is out; one that came in later means another read."""
    driver = FakeDriver(reading(1, 0.0))
    async with connected(driver) as (host, domains):
        before = now()
        await asyncio.sleep(1)
        opened = asyncio.Event()
        driver.gate = held_up(opened)
        host.refresher.mark([uuid(1)])
        await asyncio.sleep(1)
        driver.changed(1, came_in=before)
        opened.set()
        await host.refresher.drained(60.0)
        assert (len(driver.reads), freshness(host, domains)) == (len(Group), {Freshness.LIVE})
        opened.clear()
        host.refresher.mark([uuid(1)])
        await asyncio.sleep(1)
        driver.changed(1, came_in=now())
        opened.set()
        await host.refresher.drained(60.0)
        assert (len(driver.reads), freshness(host, domains)) == (3 * len(Group), {Freshness.LIVE})


@on_virtual_time
async def test_an_event_of_a_domain_that_was_seen_to_be_gone_asks_for_nothing() -> None:
    """The reading that did not find it began later; an event that came in after that does ask: another may have its place."""
    driver = FakeDriver(reading(1, 0.0))
    async with connected(driver) as (host, domains):
        before = now()
        await asyncio.sleep(1)
        gone = driver.domains.pop(uuid(1))
        assert await host.refresher.refresh(uuid(1), 5.0)
        driver.reads.clear()
        driver.domains[uuid(1)] = gone
        driver.changed(1, came_in=before)
        await asyncio.sleep(1)
        assert (driver.reads, len(domains)) == ([], 0)
        driver.changed(1, came_in=now())
        await asyncio.sleep(1)
        assert len(domains) == 1


@on_virtual_time
async def test_an_event_does_not_answer_what_others_asked_for() -> None:
    """A job that waits for a read of its own gets it, whatever an earlier read has answered."""
    driver = FakeDriver(reading(1, 0.0))
    async with connected(driver) as (host, _):
        before = now()
        await asyncio.sleep(1)
        opened = asyncio.Event()
        driver.gate = held_up(opened)
        host.refresher.mark([uuid(1)])
        await asyncio.sleep(1)
        refreshed = asyncio.ensure_future(host.refresher.refresh(uuid(1), 60.0))
        await asyncio.sleep(1)
        driver.changed(1, came_in=before)
        opened.set()
        assert await refreshed
        assert len(driver.reads) == 2 * len(Group)


@on_virtual_time
async def test_a_refresh_looks_again_where_an_event_overtook_it() -> None:
    """Once: who refreshes is told LIVE values where one more look can give them, and a storm of events holds nobody."""
    driver = FakeDriver(reading(1, 0.0))
    async with connected(driver) as (host, domains):
        storm = False

        async def gate(_group: Group, _uuids: Sequence[str]) -> None:
            await asyncio.sleep(0.05)
            if storm or len(driver.reads) <= len(Group):
                driver.changed(1, came_in=now())
            await asyncio.sleep(0.05)

        driver.gate = gate
        assert await host.refresher.refresh(uuid(1), 5.0)
        assert (len(driver.reads), freshness(host, domains)) == (2 * len(Group), {Freshness.LIVE})
        storm, began = True, now()
        assert await host.refresher.refresh(uuid(1), 5.0)
        assert now() - began < 1.0
        assert freshness(host, domains) == {Freshness.STALE}
        storm = False


@virtual
async def test_the_last_message_of_a_job_is_live_though_its_events_come_late() -> None:
    """The events of the job's own change arrive while the read that ends it is out, and after it had begun."""
    async with World("sim://a/?domains=4&running=2&read_latency=0.02") as world:
        world.sim.events.rules.append(EventRule(action="delay", change=Change.LIFECYCLE, seconds=0.005))
        job = await world.run(ops.Suspend(uuid=world.guest(1).uuid))
        assert job.state is JobState.SUCCEEDED
        assert job.domain is not None
        host = world.hosts["a"]
        assert {host.group_freshness(job.domain, group) for group in Group} == {Freshness.LIVE}


@on_virtual_time
async def test_an_audit_asks_no_wedged_domain_for_its_configuration() -> None:
    """Its state is read, its configuration once the channel is free: at once, and without a hang meanwhile. An event asks all the same."""
    driver = FakeDriver(reading(1, 0.0), reading(2, 0.0))
    async with connected(driver, audit_seconds=20.0) as (host, _):

        def asked(group: Group) -> int:
            return sum(uuid(1) in uuids for read, uuids in driver.reads if read is group)

        driver.domains[uuid(1)] = reading(1, 0.0, control=Control.OCCUPIED)
        await asyncio.sleep(30)
        driver.reads.clear()
        await asyncio.sleep(100)
        assert asked(Group.STATE) > 4
        assert asked(Group.CONFIG) == 0
        driver.changed(1, came_in=now())
        await asyncio.sleep(1)
        assert asked(Group.CONFIG) == 1
        await asyncio.sleep(40)
        driver.domains[uuid(1)] = reading(1, 0.0, control=Control.OK)
        await asyncio.sleep(4)
        assert asked(Group.CONFIG) == 2
        await asyncio.sleep(40)
        assert asked(Group.CONFIG) == 4
        assert await host.refresher.drained(1.0)


@on_virtual_time
async def test_a_long_line_is_read_in_order_and_jobs_come_first() -> None:
    """Thousands of due reads cost a job one read, not all of theirs."""
    count = 100 * BATCH
    driver = FakeDriver(*(reading(number, 0.0, state=State.RUNNING) for number in range(count)))
    async with connected(driver) as (host, _):

        async def gate(_group: Group, _uuids: Sequence[str]) -> None:
            await asyncio.sleep(0.1)

        driver.gate = gate
        host.refresher.mark(uuid(number) for number in range(count))
        await asyncio.sleep(0.05)
        began = now()
        assert await host.refresher.refresh(uuid(count - 1), 60.0)
        assert now() - began < 0.3
        assert not await host.refresher.drained(1.0)
