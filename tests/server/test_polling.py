"""Hypervisors without events, on virtual time: what is looked at when, and what that costs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import pairwise

import pytest

from tests.server.fake_driver import FakeDriver, reading, uuid
from tests.server.world import World, until, virtual
from tests.virtual_time import on_virtual_time, wall
from virtrpc_drivers import operations as ops
from virtrpc_drivers.sim import effects
from virtrpc_drivers.values import DomainReading, Group, Listed, Listing, Readings, State
from virtrpc_server.domains import Domains
from virtrpc_server.hosts import Freshness, Host, HostConfig
from virtrpc_server.rereading import CLOSE_SECONDS, LONGEST_POLL_SECONDS, POLL_SECONDS, ROTATION_SECONDS, SHARE


class Silent(FakeDriver):
    """Says nothing unasked. A list takes `list_seconds`, a read `read_seconds` for each domain; it keeps book of both."""

    def __init__(self, *readings: DomainReading, list_seconds: float = 0.0, read_seconds: float = 0.0) -> None:
        super().__init__(*readings)
        self.list_seconds, self.read_seconds = list_seconds, read_seconds
        self.lists: list[float] = []
        self.asked = 0.0
        self.looks: dict[str, list[float]] = {which: [] for which in self.domains}

    async def list(self) -> Listing:
        """With the numbers of those that run, as libvirt's lists have them."""
        began = self._now()
        self.lists.append(began.monotonic)
        self.asked += self.list_seconds
        await asyncio.sleep(self.list_seconds)
        numbers = {which: whole.state.id if whole.state is not None and whole.state.id is not None else -1 for which, whole in self.domains.items()}
        rows = (Listed(uuid=which, name=whole.name, id=numbers[which]) for which, whole in self.domains.items())
        return Listing(stamp=began, domains=tuple(rows))

    async def read(self, uuids: Sequence[str], group: Group) -> Readings:
        """See FakeDriver.read."""
        self.asked += self.read_seconds * len(uuids)
        for which in uuids:
            self.looks[which].append(asyncio.get_running_loop().time())
        await asyncio.sleep(self.read_seconds * len(uuids))
        return await super().read(uuids, group)


async def polled(driver: Silent) -> tuple[Host, Domains]:
    """A host without events, once all of it was read and polling has found its pace."""
    domains = Domains()
    host = Host(HostConfig("h", "fake:"), driver, domains, clock=wall)
    await host.start(lambda _host, _report: None, lambda _host: None, lambda _spans: None)
    driver.up(pushes_events=False)
    await until(lambda: host.listed, guard=600)
    assert await host.refresher.drained(600)
    await asyncio.sleep(2 * LONGEST_POLL_SECONDS)
    return host, domains


def share(driver: Silent, seconds: float) -> float:
    """How much of a time is spent on asking."""
    return driver.asked / seconds


@on_virtual_time
async def test_a_quick_hypervisor_is_read_whole_every_two_seconds() -> None:
    """What nobody announces is known after one poll, and all of it is LIVE."""
    driver = Silent(*(reading(number, 0.0) for number in range(20)))
    host, domains = await polled(driver)
    driver.domains[uuid(5)] = reading(5, 0.0, state=State.PAUSED)
    await asyncio.sleep(POLL_SECONDS + 0.1)
    entry = domains.get(("h", uuid(5)))
    assert entry is not None
    assert entry.state is not None
    assert entry.state.value.state is State.PAUSED
    assert {host.group_freshness(one, group) for one in domains.all() for group in Group} == {Freshness.LIVE}
    await host.close()


@on_virtual_time
async def test_a_slow_hypervisor_is_asked_a_tenth_of_the_time() -> None:
    """Each of 50 domains that take 20 ms a read is read within the stated age; lists and reads together cost about a tenth, each."""
    driver = Silent(*(reading(number, 0.0) for number in range(50)), list_seconds=0.05, read_seconds=0.02)
    host, domains = await polled(driver)
    assert host.read_within < 30
    driver.asked, began = 0.0, len(driver.lists)
    for which in driver.looks:
        driver.looks[which] = [asyncio.get_running_loop().time()]
    await asyncio.sleep(600)
    assert share(driver, 600) < 1.3 / SHARE
    assert len(driver.lists) - began > 600 / (POLL_SECONDS + 0.1) - 2
    gaps = [after - before for looks in driver.looks.values() for before, after in pairwise(looks)]
    assert max(gaps) < 1.5 * host.read_within
    assert {host.group_freshness(one, group) for one in domains.all() for group in Group} == {Freshness.LIVE}
    await host.close()


@on_virtual_time
async def test_a_very_slow_hypervisor_has_a_bound() -> None:
    """500 domains, each read 0.2 s: polls go on, a start is seen at the next, each is read within ten minutes, and all is LIVE meanwhile."""
    driver = Silent(*(reading(number, 0.0, state=State.SHUTOFF) for number in range(500)), list_seconds=0.2, read_seconds=0.2)
    host, domains = await polled(driver)
    assert host.read_within == ROTATION_SECONDS
    for which in driver.looks:
        driver.looks[which] = [asyncio.get_running_loop().time()]
    driver.asked, before = 0.0, asyncio.get_running_loop().time()
    driver.domains[uuid(7)] = reading(7, 0.0)
    await asyncio.sleep(LONGEST_POLL_SECONDS + 15)
    entry = domains.get(("h", uuid(7)))
    assert entry is not None
    assert entry.active
    while asyncio.get_running_loop().time() < before + 2 * ROTATION_SECONDS:
        assert host.freshness is Freshness.LIVE
        assert all(host.group_freshness(one, Group.STATE) is Freshness.LIVE for one in domains.all())
        await asyncio.sleep(20)
    assert share(driver, 2 * ROTATION_SECONDS) < 0.5
    gaps = [after - before for looks in driver.looks.values() for before, after in pairwise(looks)]
    assert max(gaps) < 1.3 * ROTATION_SECONDS
    assert max(after - before for before, after in pairwise(driver.lists[-20:])) <= LONGEST_POLL_SECONDS + 1
    await host.close()


@pytest.mark.parametrize("read_seconds", [0.0, 10.0])
@on_virtual_time
async def test_polling_that_does_not_keep_up_is_not_live(read_seconds: float) -> None:
    """A host whose lists hang is STALE after two minutes, however slowly its domains are read at the best of times."""
    driver = Silent(reading(1, 0.0), reading(2, 0.0), read_seconds=read_seconds)
    host, _ = await polled(driver)
    driver.list_seconds = 1e6
    await asyncio.sleep(80)
    seen = [host.freshness]
    await asyncio.sleep(60)
    assert [*seen, host.freshness] == [Freshness.LIVE, Freshness.STALE]
    await host.close()


@virtual
async def test_what_a_job_works_on_is_watched_closely() -> None:
    """While its call is out, and for a while after it; the others wait for their turn."""
    async with World("sim://a/?domains=40&running=2&events=0&read_latency=0.1&save_seconds=60") as world:
        host, uuids = world.hosts["a"], [world.guest(number).uuid for number in (1, 2)]
        await asyncio.sleep(60)
        assert host.read_within > 5 * POLL_SECONDS
        saving = world.accept(ops.ManagedSave(uuid=uuids[0]))
        await world.running(saving)
        await asyncio.sleep(2 * CLOSE_SECONDS - 10)
        for which in uuids:
            effects.pause(world.sim, world.sim.domain(which), "ioerror")
        await asyncio.sleep(2 * POLL_SECONDS)
        assert [world.guest(number).state.value.reason for number in (1, 2)] == ["ioerror", "booted"]  # type: ignore[union-attr] # both were read
        await world.end(saving)
        assert uuids[0] in host.attention.uuids
        await asyncio.sleep(CLOSE_SECONDS + 1)
        assert uuids[0] not in host.attention.uuids
        await until(lambda: world.guest(2).state.value.reason == "ioerror", 1.5 * host.read_within)  # type: ignore[union-attr] # see above


@virtual
async def test_a_simulated_host_without_events_is_polled() -> None:
    """What a stranger starts, makes or removes is known after the next poll."""
    async with World("sim://a/?domains=4&running=1&events=0") as world:
        await asyncio.sleep(10)
        effects.stop(world.sim, world.sim.domain(world.guest(1).uuid), "destroyed")
        effects.undefine(world.sim, world.sim.domain(world.guest(4).uuid))
        await asyncio.sleep(POLL_SECONDS + 0.1)
        assert not world.guest(1).active
        assert world.domains.by_name("guest-4") == []
