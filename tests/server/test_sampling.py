"""Sampling on virtual time: in shards, past wedged guests, with few calls that hang, and back to all guests once they live."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

import pytest

from tests.server.fake_driver import FakeDriver, reading, uuid
from tests.server.test_hosts import start
from tests.server.world import World, until, virtual
from tests.virtual_time import on_virtual_time, wall
from virtrpc_drivers import operations as ops
from virtrpc_drivers.values import CpuStats, DomainReading, Pulse, Pulses, Samples, StatsReading
from virtrpc_server.domains import Domains
from virtrpc_server.hosts import Freshness, Host, HostConfig
from virtrpc_server.sampling import HANG_SECONDS, LARGEST_SHARD, MAX_HUNG, SHARDS, TRIALS


class Watched:
    """Counts the calls of a world's driver."""

    def __init__(self, world: World) -> None:
        self._driver = world.drivers["a"]
        self._sample, self._pulses = self._driver.sample, self._driver.pulses
        self.out = self.most_out = self.pulses = 0
        self.largest = 0
        self._driver.sample = self.sample  # type: ignore[method-assign] # to count what goes through it
        self._driver.pulses = self.pulse  # type: ignore[method-assign] # see above

    async def sample(self, uuids: Sequence[str]) -> Samples:
        """See Driver.sample."""
        self.out += 1
        self.most_out, self.largest = max(self.most_out, self.out), max(self.largest, len(uuids))
        try:
            return await self._sample(uuids)
        finally:
            self.out -= 1

    async def pulse(self, uuids: Sequence[str]) -> Pulses:
        """See Driver.pulses."""
        self.pulses += 1
        return await self._pulses(uuids)


def ages(world: World, numbers: Sequence[int]) -> list[float]:
    """How old each guest's memory statistics are."""
    host, found = world.hosts["a"], [world.guest(number).stats.memory for number in numbers]
    return [host.age(memory.stamp) if memory is not None else float("inf") for memory in found]


async def oldest(world: World, numbers: Sequence[int], seconds: float) -> float:
    """The greatest age that any of these guests' statistics reached in this time."""
    worst, end = 0.0, asyncio.get_running_loop().time() + seconds
    while asyncio.get_running_loop().time() < end:
        worst = max(worst, *ages(world, numbers))
        await asyncio.sleep(0.05)
    return worst


@pytest.mark.parametrize(("running", "stopped"), [(25, 20), (25, 5), (6, 1), (200, 150)])
@on_virtual_time
async def test_guests_wedged_while_idle_leave_the_others_within_three_periods(running: int, stopped: int) -> None:
    """However many are wedged at once, the others stay LIVE, and few calls hang; all are sampled again once they go on."""
    async with World(f"sim://a/?domains={running}&running={running}") as world:
        calls, sampler = Watched(world), world.hosts["a"].sampler
        await asyncio.sleep(20)
        assert (calls.pulses, sampler.quarantined, sampler.hung) == (0, set(), 0)
        wedged, well = range(1, stopped + 1), range(stopped + 1, running + 1)
        for number in wedged:
            world.sim.stop_guest(world.guest(number).uuid)
        assert await oldest(world, well, 60) < 3 * sampler.period
        assert sampler.quarantined == {world.guest(number).uuid for number in wedged}
        assert calls.out == sampler.hung == min(stopped, TRIALS)
        assert calls.most_out <= TRIALS + 1
        assert min(ages(world, wedged)) > 50
        for number in wedged:
            world.sim.continue_guest(world.guest(number).uuid)
        await asyncio.sleep(3 * sampler.period)
        assert (sampler.quarantined, sampler.hung) == (set(), 0)
        assert max(ages(world, range(1, running + 1))) < 2 * sampler.period
        pulses = calls.pulses
        await asyncio.sleep(60)
        assert calls.pulses == pulses


@virtual
async def test_a_paused_guest_stands_still_and_is_sampled_all_the_same() -> None:
    """It is tried alone, answers, and is trusted from then on, while another guest's call hangs."""
    async with World("sim://a/?domains=6&running=6") as world:
        await world.run(ops.Suspend(uuid=world.guest(2).uuid))
        await asyncio.sleep(5)
        world.sim.stop_guest(world.guest(1).uuid)
        await asyncio.sleep(20)
        assert await oldest(world, [2], 30) < 3 * world.hosts["a"].sampler.period


@virtual
async def test_guests_that_are_wedged_one_after_another() -> None:
    """Each that hangs a call costs one of four; then statistics go STALE, and come back with the first guest that goes on."""
    async with World("sim://a/?domains=10&running=10") as world:
        calls, sampler = Watched(world), world.hosts["a"].sampler
        for number in range(1, 8):
            await asyncio.sleep(10)
            world.sim.stop_guest(world.guest(number).uuid)
        await asyncio.sleep(60)
        assert calls.most_out <= MAX_HUNG
        for number in range(1, 8):
            world.sim.continue_guest(world.guest(number).uuid)
        await asyncio.sleep(10)
        assert sampler.quarantined == set()
        assert max(ages(world, range(1, 11))) < 2 * sampler.period


@virtual
async def test_wedged_guests_are_left_alone_after_the_driver_was_lost() -> None:
    """A daemon's stuck calls outlive their caller: a new driver process does not add to them."""
    async with World("sim://a/?domains=25&running=25") as world:
        calls, sampler = Watched(world), world.hosts["a"].sampler
        for number in range(1, 21):
            world.sim.stop_guest(world.guest(number).uuid)
        await asyncio.sleep(30)
        world.drivers["a"].kill()
        await until(lambda: not world.hosts["a"].connected)
        await until(lambda: world.hosts["a"].connected)
        assert await oldest(world, range(21, 26), 30) < 3 * sampler.period
        assert (calls.out, sampler.hung) == (0, 0)
        assert len(sampler.quarantined) == 20


@on_virtual_time
async def test_the_log_names_guests_once_when_they_are_left_out_and_once_when_they_are_back(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever reads it knows which guest to look at."""
    caplog.set_level(logging.INFO)
    async with World("sim://a/?domains=6&running=6") as world:
        await asyncio.sleep(5)
        world.sim.stop_guest(world.guest(1).uuid)
        await asyncio.sleep(60)
        world.sim.continue_guest(world.guest(1).uuid)
        await asyncio.sleep(10)
    told = [(record.levelname, record.getMessage()) for record in caplog.records if "guest-1 " in record.getMessage()]
    assert [level for level, text in told if "sign of life" in text] == ["WARNING"]
    assert [level for level, text in told if "lives" in text] == ["INFO"]


class Slow(FakeDriver):
    """A hypervisor without CPU times, each of whose samples takes a while; it counts how many guests each asks for."""

    seconds = 0.0
    cut: list[int]
    wedged = ""

    def __init__(self, *readings: DomainReading) -> None:
        super().__init__(*readings)
        self.sampled = Domains()

    async def sample(self, uuids: Sequence[str]) -> Samples:
        """See Driver.sample."""
        self.cut.append(len(uuids))
        began = self._now()
        await asyncio.sleep(1e9 if self.wedged in uuids else self.seconds * len(uuids))
        return Samples(stats=tuple(StatsReading(uuid=which, stamp=began, cpu=CpuStats(time_ns=1)) for which in uuids))

    async def pulses(self, uuids: Sequence[str]) -> Pulses:
        """See Driver.pulses."""
        return Pulses(pulses=tuple(Pulse(uuid=which) for which in uuids))


async def slow(guests: int, seconds: float = 0.0) -> tuple[Slow, Host]:
    """Such a host with so many running guests."""
    driver = Slow(*(reading(number, 0.0) for number in range(1, guests + 1)))
    driver.cut, driver.seconds = [], seconds
    host = Host(HostConfig("h", "fake:"), driver, driver.sampled, clock=wall)
    await start(host)
    await asyncio.sleep(5)
    driver.cut.clear()
    return driver, host


@pytest.mark.parametrize(("guests", "calls"), [(3, 3), (25, SHARDS), (800, 13)])
@on_virtual_time
async def test_guests_are_sampled_in_shards_spread_over_the_period(guests: int, calls: int) -> None:
    """One call for each, none larger than a bound, every guest once in a period."""
    driver, host = await slow(guests)
    await asyncio.sleep(10 * host.sampler.period)
    assert sum(driver.cut) == pytest.approx(10 * guests, rel=0.1)
    assert len(driver.cut) == pytest.approx(10 * calls, rel=0.1)
    assert max(driver.cut) <= LARGEST_SHARD
    await host.close()


@on_virtual_time
async def test_a_slow_hypervisor_does_not_hang() -> None:
    """What a guest usually costs is learnt: a call that takes its usual time is no hang, however long that is."""
    driver, host = await slow(40, seconds=0.02)
    assert host.sampler.hung == 0
    for _ in range(40):
        driver.seconds *= 1.05
        await asyncio.sleep(5)
    assert driver.seconds * 5 > 0.5 * HANG_SECONDS
    await asyncio.sleep(60)
    assert (host.sampler.hung, host.sampler.quarantined) == (0, set())
    await host.close()


@on_virtual_time
async def test_without_cpu_times_guests_are_tried_one_a_call() -> None:
    """Where nothing shows who lives, each guest answers for itself; those that do are sampled together again."""
    driver, host = await slow(10)
    driver.wedged = uuid(3)
    await asyncio.sleep(60)
    assert host.sampler.quarantined == {uuid(3)}
    assert host.sampler.hung <= TRIALS
    memory = {entry.uuid: host.age(entry.stats.cpu.stamp) for entry in driver.sampled.all() if entry.stats.cpu is not None}
    assert max(age for which, age in memory.items() if which != uuid(3)) < 3 * host.sampler.period
    await host.close()


@on_virtual_time
async def test_statistics_are_live_for_three_periods() -> None:
    """The period is the target age that the host states."""
    driver, host = await slow(25)
    assert (host.sampler.period, host.sampler.live_seconds) == (1.25, 3.75)
    assert all(host.stats_freshness(entry.stats.cpu) is Freshness.LIVE for entry in driver.sampled.all())
    await host.close()
