"""A host's connection as the server sees it, on virtual time: coming, going, and what is read in between."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pytest

from tests.server.fake_driver import FakeDriver, reading
from tests.virtual_time import on_virtual_time, wall
from virtrpc_drivers.protocol import EventsLost
from virtrpc_drivers.values import DomainReading, Listing, Samples
from virtrpc_server.budgets import Budgets
from virtrpc_server.domains import Domains
from virtrpc_server.hosts import Freshness, Host, HostConfig


class SlowDriver(FakeDriver):
    """Counts lists and samples; a list takes as long as a test says, and a read as the gate says."""

    lists = 0
    samples = 0

    def __init__(self, *readings: DomainReading) -> None:
        super().__init__(*readings)
        self.listable = asyncio.Event()
        """Lists wait for it."""
        self.listable.set()

    async def list(self) -> Listing:
        """See FakeDriver.list."""
        self.lists += 1
        await self.listable.wait()
        return await super().list()

    async def sample(self, uuids: Sequence[str]) -> Samples:
        """See FakeDriver.sample."""
        self.samples += len(uuids)
        return await super().sample(uuids)


def host_of(driver: FakeDriver, *, sample_seconds: float = 1.0, **more: Any) -> Host:
    """A host that is not connected yet."""
    return Host(HostConfig("h", "fake:", sample_seconds=sample_seconds), driver, Domains(), Budgets(), clock=wall, **more)


async def start(host: Host, on_connection: Callable[[Host], None] = lambda _host: None) -> None:
    """Connect it."""
    await host.start(lambda _host, _report: None, on_connection, lambda _spans: None)


def tasks() -> int:
    """How many there are besides the test's own."""
    return len(asyncio.all_tasks()) - 1


@on_virtual_time
async def test_a_host_that_is_lost_during_its_first_listing_is_not_listed() -> None:
    """Its domains could not be read: everything about it stays UNKNOWN until it is back."""
    driver = SlowDriver(reading(1, 0.0))
    opened = asyncio.Event()

    async def gate(_group: object, _uuids: object) -> None:
        await opened.wait()

    driver.gate = gate
    host = host_of(driver)
    await start(host)
    await asyncio.sleep(1)
    driver.down()
    await asyncio.sleep(60)
    assert (host.listed, host.freshness) == (False, Freshness.UNKNOWN)
    opened.set()
    driver.up()
    await asyncio.sleep(1)
    assert (host.listed, host.freshness) == (True, Freshness.LIVE)
    await host.close()


@on_virtual_time
async def test_a_host_that_is_down_is_not_asked() -> None:
    """Neither lists nor sweeps go to a host that is known to be away."""
    driver = SlowDriver(reading(1, 0.0))
    host = host_of(driver)
    await start(host)
    await asyncio.sleep(5)
    driver.down()
    await asyncio.sleep(0)
    lists = driver.lists
    await asyncio.sleep(600)
    assert driver.lists == lists
    assert tasks() == 0
    await host.close()


@pytest.mark.parametrize(("guests", "period"), [(1, 0.25), (5, 0.25), (100, 5.0)])
@on_virtual_time
async def test_sampling_keeps_to_the_configured_period(guests: int, period: float) -> None:
    """And says so as the target age; 50 ms for each guest where that is longer."""
    driver = SlowDriver(*(reading(number, 0.0) for number in range(1, guests + 1)))
    host = host_of(driver, sample_seconds=0.25)
    await start(host)
    await asyncio.sleep(60)
    before = driver.samples
    await asyncio.sleep(60)
    assert (driver.samples - before, host.sampler.period) == (guests * 60 / period, period)
    await host.close()


@on_virtual_time
async def test_up_twice_in_a_row_is_up() -> None:
    """The libvirt driver says so again once it knows more: one audit and one sampler of each kind go on."""
    driver = SlowDriver(reading(1, 0.0))
    host = host_of(driver)
    await start(host)
    driver.up(cpus=8)
    await asyncio.sleep(5)
    assert host.info is not None
    assert host.info.cpus == 8
    assert host.freshness is Freshness.LIVE
    assert tasks() == 3
    await host.close()


@on_virtual_time
async def test_a_host_whose_events_were_lost_is_stale_until_it_is_listed() -> None:
    """Anything may have changed unheard, for as long as the listing takes; both turns are told, each once."""
    driver = SlowDriver(reading(1, 0.0))
    host = host_of(driver)
    told: list[Freshness] = []
    await start(host, lambda changed: told.append(changed.freshness))
    await asyncio.sleep(5)
    told.clear()
    driver.listable.clear()
    driver.deliver(EventsLost())
    driver.deliver(EventsLost())
    assert (host.freshness, told) == (Freshness.STALE, [Freshness.STALE])
    await asyncio.sleep(50)
    assert host.freshness is Freshness.STALE
    driver.listable.set()
    await asyncio.sleep(0.1)
    assert (host.freshness, told) == (Freshness.LIVE, [Freshness.STALE, Freshness.LIVE])
    await host.close()


@on_virtual_time
async def test_what_a_driver_says_while_it_is_closed_begins_nothing() -> None:
    """It may have been about to come back."""
    driver = SlowDriver(reading(1, 0.0))
    host = host_of(driver)
    await start(host)
    await asyncio.sleep(1)
    closing: Coroutine[Any, Any, None] = host.close()
    asyncio.get_running_loop().call_soon(driver.up)
    await closing
    driver.up()
    await asyncio.sleep(0)
    assert tasks() == 0


@on_virtual_time
async def test_the_daemons_workers_are_learnt_again() -> None:
    """An administrator raises them while the server runs: the budget follows, at once where somebody waits for it; else it is asked seldom."""
    workers, read = 5, 0

    async def read_workers() -> int:
        nonlocal read
        read += 1
        return workers

    driver = SlowDriver(reading(1, 0.0))
    host = host_of(driver, read_workers=read_workers)
    await start(host)
    driver.up(daemon="/run/libvirt-sock")
    await asyncio.sleep(1)
    tickets = [host.budget.take(str(number)) for number in range(10)]
    assert sum(ticket.granted.is_set() for ticket in tickets) == 3
    workers = 20
    await asyncio.sleep(3)
    assert all(ticket.granted.is_set() for ticket in tickets)
    workers, read = 5, 0
    await asyncio.sleep(120)
    assert host.budget.limit == 3
    assert read <= 2
    await host.close()
