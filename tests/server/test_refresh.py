"""Reading what was announced, on virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

from tests import virtual_time
from tests.server.fake_driver import FakeDriver, reading, uuid
from virtrpc_drivers.errors import Reason, failure
from virtrpc_drivers.values import Control, Group, State
from virtrpc_server.domains import Domains
from virtrpc_server.due import BATCH
from virtrpc_server.hosts import Freshness, Host, HostConfig
from virtrpc_server.refresh import HANG_SECONDS, RETRY_SECONDS

Gate = Callable[[Group, Sequence[str]], Awaitable[None]]


@asynccontextmanager
async def connected(driver: FakeDriver, audit_seconds: float = 1e6) -> AsyncIterator[tuple[Host, Domains]]:
    """A host that has been listed and read; its audits are far apart."""
    domains = Domains()
    host = Host(HostConfig("h", "fake:", audit_seconds=audit_seconds), driver, domains, clock=virtual_time.wall)
    await host.start(lambda _host, _report: None, lambda _host: None, lambda _spans: None)
    # The first audit begins at once, and looks at a first slice.
    while not host.listed:  # noqa: ASYNC110 # a host does not announce it
        await asyncio.sleep(0.01)
    await asyncio.sleep(1.0)
    await host.refresher.drained(60.0)
    driver.reads.clear()
    try:
        yield host, domains
    finally:
        await host.close()


def held_up(event: asyncio.Event, which: str | None = None, group: Group | None = None) -> Gate:
    """A gate that reads wait at: all, or those of one domain or group."""

    async def gate(asked: Group, uuids: Sequence[str]) -> None:
        if (which is None or which in uuids) and group in (None, asked):
            await event.wait()

    return gate


def test_a_change_while_a_read_is_out_means_another_read() -> None:
    """What was announced after a read began is not settled by it: the domain stays STALE until a later read is back."""

    async def work() -> None:
        driver = FakeDriver(reading(1, 0.0))
        async with connected(driver) as (host, domains):
            opened = asyncio.Event()
            driver.gate = held_up(opened)
            driver.changed(1)
            await asyncio.sleep(1.0)
            assert len(driver.reads) == len(Group)
            driver.domains[uuid(1)] = reading(1, 0.0, state=State.PAUSED)
            driver.changed(1)
            entry = domains.get(("h", uuid(1)))
            assert entry is not None
            assert host.group_freshness(entry, Group.STATE) is Freshness.STALE
            opened.set()
            await host.refresher.drained(60.0)
            assert len(driver.reads) == 2 * len(Group)
            entry = domains.get(("h", uuid(1)))
            assert entry is not None
            assert entry.state is not None
            assert entry.state.value.state is State.PAUSED
            assert host.group_freshness(entry, Group.STATE) is Freshness.LIVE

    virtual_time.run(work())


def test_many_changes_while_a_read_is_out_mean_one_more_read() -> None:
    """A storm of events costs two reads, not one each."""

    async def work() -> None:
        driver = FakeDriver(reading(1, 0.0))
        async with connected(driver) as (host, _):
            opened = asyncio.Event()
            driver.gate = held_up(opened)
            for _ in range(50):
                driver.changed(1)
                await asyncio.sleep(0.001)
            opened.set()
            await host.refresher.drained(60.0)
            assert len(driver.reads) == 2 * len(Group)

    virtual_time.run(work())


def test_a_group_that_hangs_leaves_the_other_fresh() -> None:
    """State is LIVE again while a read of the configuration is stuck."""

    async def work() -> None:
        driver = FakeDriver(reading(1, 0.0))
        async with connected(driver) as (host, domains):
            never = asyncio.Event()
            driver.gate = held_up(never, group=Group.CONFIG)
            driver.changed(1)
            await asyncio.sleep(1.0)
            entry = domains.get(("h", uuid(1)))
            assert entry is not None
            assert host.group_freshness(entry, Group.STATE) is Freshness.LIVE
            assert host.group_freshness(entry, Group.CONFIG) is Freshness.STALE

    virtual_time.run(work())


def test_a_read_that_hangs_leaves_other_domains_going() -> None:
    """One stuck read takes one of two places; what is marked later is read by the other."""

    async def work() -> None:
        driver = FakeDriver(reading(1, 0.0), reading(2, 0.0))
        async with connected(driver) as (host, _):
            driver.gate = held_up(asyncio.Event(), which=uuid(1))
            driver.changed(1)
            await asyncio.sleep(0.1)
            assert await host.refresher.refresh(uuid(2), 5.0)
            assert not await host.refresher.refresh(uuid(1), 5.0)

    virtual_time.run(work())


def test_reads_that_hang_are_left_behind() -> None:
    """Two guests that hang every read they are in hold up the others once and for seconds; they are read again when theirs come back."""

    async def work() -> None:
        stuck = {uuid(1), uuid(2)}
        opened = asyncio.Event()

        async def gate(_group: Group, uuids: Sequence[str]) -> None:
            if stuck & {*uuids}:
                await opened.wait()

        driver = FakeDriver(*(reading(number, 0.0) for number in range(1, 40)))
        async with connected(driver) as (host, domains):
            driver.gate = gate
            host.refresher.mark(uuid(number) for number in range(1, 40))
            await asyncio.sleep(3 * HANG_SECONDS)
            assert {uuid(number) for number in range(1, 40) if host.refresher.is_dirty(uuid(number), Group.STATE)} == stuck
            assert await host.refresher.refresh(uuid(3), 0.1)
            assert not await host.refresher.refresh(uuid(1), 0.1)
            driver.domains[uuid(1)] = reading(1, 0.0, state=State.PAUSED)
            opened.set()
            assert await host.refresher.refresh(uuid(1), 0.1)
            entry = domains.get(("h", uuid(1)))
            assert entry is not None
            assert entry.state is not None
            assert entry.state.value.state is State.PAUSED
            assert await host.refresher.drained(1.0)

    virtual_time.run(work())


def test_a_refresh_does_not_settle_for_a_read_that_began_before_it() -> None:
    """A job that ended is told by a read that saw its effect."""

    async def work() -> None:
        driver = FakeDriver(reading(1, 0.0))
        async with connected(driver) as (host, domains):
            opened = asyncio.Event()
            driver.gate = held_up(opened)
            driver.changed(1)
            await asyncio.sleep(1.0)
            refreshed = asyncio.ensure_future(host.refresher.refresh(uuid(1), 60.0))
            await asyncio.sleep(1.0)
            began = virtual_time.wall()
            opened.set()
            assert await refreshed
            entry = domains.get(("h", uuid(1)))
            assert entry is not None
            assert entry.state is not None
            assert entry.state.stamp.wall >= began

    virtual_time.run(work())


def test_a_refresh_whose_read_fails_says_so_and_the_read_is_tried_again() -> None:
    """Failing is not reading; the domain is STALE until a later try succeeds."""

    async def work() -> None:
        driver = FakeDriver(reading(1, 0.0))
        async with connected(driver) as (host, domains):
            broken = True

            async def gate(_group: Group, _uuids: Sequence[str]) -> None:
                if broken:
                    raise failure(Reason.FAILED, "no")

            driver.gate = gate
            assert not await host.refresher.refresh(uuid(1), 60.0)
            entry = domains.get(("h", uuid(1)))
            assert entry is not None
            assert host.group_freshness(entry, Group.STATE) is Freshness.STALE
            broken = False
            await asyncio.sleep(2 * RETRY_SECONDS)
            assert host.group_freshness(entry, Group.STATE) is Freshness.LIVE

    virtual_time.run(work())


def test_domains_that_fail_do_not_delay_the_others() -> None:
    """What cannot be read rests between its tries and holds no place meanwhile."""

    async def work() -> None:
        count = 2 * BATCH
        driver = FakeDriver(*(reading(number, 0.0) for number in range(count + 1)))
        async with connected(driver) as (host, _):

            async def gate(_group: Group, uuids: Sequence[str]) -> None:
                if uuid(count) not in uuids:
                    raise failure(Reason.FAILED, "no")

            driver.gate = gate
            host.refresher.mark(uuid(number) for number in range(count))
            await asyncio.sleep(RETRY_SECONDS / 4)
            began = virtual_time.wall()
            assert await host.refresher.refresh(uuid(count), 60.0)
            assert virtual_time.wall() - began < RETRY_SECONDS / 4

    virtual_time.run(work())


def test_an_audit_does_not_make_a_domain_stale() -> None:
    """Looking again at what may well be right says nothing against it; what an audit finds changed is taken in."""

    async def work() -> None:
        driver = FakeDriver(reading(1, 0.0))
        async with connected(driver, audit_seconds=20.0) as (host, domains):
            slow = asyncio.Event()
            driver.gate = held_up(slow)
            await asyncio.sleep(30.0)
            assert driver.reads
            entry = domains.get(("h", uuid(1)))
            assert entry is not None
            assert host.group_freshness(entry, Group.CONFIG) is Freshness.LIVE
            driver.domains[uuid(1)] = reading(1, 0.0, autostart=True)
            slow.set()
            await asyncio.sleep(30.0)
            entry = domains.get(("h", uuid(1)))
            assert entry is not None
            assert entry.config is not None
            assert entry.config.value.autostart is True

    virtual_time.run(work())


def test_what_no_audit_could_read_for_too_long_is_stale() -> None:
    """A wedged guest of which no event tells is not LIVE for ever; its neighbour is."""

    async def work() -> None:
        driver = FakeDriver(reading(1, 0.0), reading(2, 0.0))
        async with connected(driver, audit_seconds=20.0) as (host, domains):

            async def gate(_group: Group, uuids: Sequence[str]) -> None:
                if uuid(1) in uuids:
                    raise failure(Reason.FAILED, "wedged")

            driver.gate = gate
            await asyncio.sleep(200.0)
            wedged, well = domains.get(("h", uuid(1))), domains.get(("h", uuid(2)))
            assert wedged is not None
            assert well is not None
            assert host.group_freshness(wedged, Group.STATE) is Freshness.STALE
            assert host.group_freshness(well, Group.STATE) is Freshness.LIVE

    virtual_time.run(work())


def test_a_host_that_came_back_is_stale_until_it_is_listed_again() -> None:
    """Its domains are kept while it is away, and not called LIVE before everything was listed anew."""

    async def work() -> None:
        driver = FakeDriver(reading(1, 0.0), reading(2, 0.0))
        async with connected(driver) as (host, domains):
            seen = [(host.freshness, len(domains))]
            driver.down()
            seen.append((host.freshness, len(domains)))
            del driver.domains[uuid(2)]
            driver.up()
            seen.append((host.freshness, len(domains)))
            await asyncio.sleep(1.0)
            seen.append((host.freshness, len(domains)))
            assert seen == [(Freshness.LIVE, 2), (Freshness.STALE, 2), (Freshness.STALE, 2), (Freshness.LIVE, 1)]

    virtual_time.run(work())


def test_who_is_closed_leaves_no_timer() -> None:
    """Not for a domain whose control channel was in use, and not for one that could not be read: nothing keeps the host once it is closed."""

    async def work() -> None:
        driver = FakeDriver(reading(1, 0.0, control=Control.OCCUPIED), reading(2, 0.0))
        async with connected(driver):

            async def fails(_group: Group, uuids: Sequence[str]) -> None:
                if uuid(2) in uuids:
                    raise failure(Reason.FAILED, "no")

            driver.gate = fails
            driver.changed(1)
            await asyncio.sleep(0.5)
            driver.changed(2)
            await asyncio.sleep(0.5)
        loop = cast("Any", asyncio.get_running_loop())
        assert [timer for timer in loop._scheduled if not timer.cancelled()] == []

    virtual_time.run(work())
