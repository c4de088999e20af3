"""The cache: what a reading may change, and what it may not."""

from __future__ import annotations

import asyncio
import random

import pytest

from tests.server.fake_driver import listing, only, reading, stamp, uuid
from tests.virtual_time import on_virtual_time
from virtrpc_drivers.values import CpuStats, Group, Listed, Listing, MemoryStats, Missing, State, StatsReading
from virtrpc_server.domains import Domains, Entry

HOST = "h"


def entry(domains: Domains, number: int = 1) -> Entry:
    """The entry of a domain that is there."""
    found = domains.get((HOST, uuid(number)))
    assert found is not None
    return found


def state(domains: Domains, number: int = 1) -> State:
    """Its state as last read."""
    held = entry(domains, number).state
    assert held is not None
    return held.value.state


async def test_a_late_reading_does_not_overwrite_a_newer_one() -> None:
    """An answer whose call began earlier changes nothing that a later call has read."""
    domains = Domains()
    domains.read(HOST, reading(1, 2.0, state=State.PAUSED))
    domains.read(HOST, reading(1, 1.0, state=State.RUNNING))
    assert state(domains) is State.PAUSED


async def test_groups_are_replaced_apart() -> None:
    """A new state beside an old configuration, each with its own time; neither goes back because the other is newer."""
    domains = Domains()
    domains.read(HOST, reading(1, 1.0))
    domains.read(HOST, only(reading(1, 5.0, state=State.SHUTOFF), Group.STATE))
    domains.read(HOST, only(reading(1, 3.0, autostart=True), Group.CONFIG))
    held = entry(domains)
    assert held.state is not None
    assert held.config is not None
    assert (held.state.stamp, held.config.stamp) == (stamp(5.0), stamp(3.0))
    assert held.config.value.autostart is True
    assert state(domains) is State.SHUTOFF


async def test_a_later_driver_process_is_newer_whatever_its_clock_says() -> None:
    """Readings of a restarted driver process count, though its monotonic clock began again."""
    domains = Domains()
    domains.read(HOST, reading(1, 1000.0))
    later = reading(1, 1.0, state=State.PAUSED)
    domains.read(HOST, type(later)(uuid=later.uuid, name=later.name, stamp=stamp(1.0, process=1), state=later.state))
    assert state(domains) is State.PAUSED


async def test_a_listing_that_began_before_a_reading_removes_nothing() -> None:
    """Only a list that started later than the last sight of a domain says that it is gone."""
    domains = Domains()
    domains.read(HOST, reading(1, 5.0))
    domains.listed(HOST, listing(4.0, []))
    assert len(domains) == 1
    domains.listed(HOST, listing(6.0, []))
    assert len(domains) == 0


async def test_a_listing_that_shows_a_domain_counts_as_seeing_it() -> None:
    """A "no such domain" from before a listing that showed the domain removes nothing."""
    domains = Domains()
    domains.read(HOST, reading(1, 1.0))
    domains.listed(HOST, listing(5.0, [1]))
    assert not domains.missing(HOST, Missing(uuid=uuid(1), stamp=stamp(4.0)))
    assert domains.missing(HOST, Missing(uuid=uuid(1), stamp=stamp(6.0)))


async def test_a_late_reading_does_not_bring_back_what_is_gone() -> None:
    """A tombstone remembers when: what was read before it stays out, what is read after it is a new domain."""
    domains = Domains()
    domains.read(HOST, reading(1, 1.0))
    before = entry(domains).generation
    domains.missing(HOST, Missing(uuid=uuid(1), stamp=stamp(5.0)))
    assert domains.read(HOST, reading(1, 4.0)) is None
    assert len(domains) == 0
    domains.read(HOST, reading(1, 6.0))
    assert entry(domains).generation != before


async def test_a_late_reading_of_a_gone_domain_does_not_fill_the_one_in_its_place() -> None:
    """A new domain of the same UUID is not shown with its predecessor's state or statistics."""
    domains = Domains()
    domains.read(HOST, reading(1, 1.0))
    domains.missing(HOST, Missing(uuid=uuid(1), stamp=stamp(5.0)))
    domains.listed(HOST, listing(6.0, [1]))
    domains.read(HOST, reading(1, 4.0))
    domains.sampled(HOST, StatsReading(uuid=uuid(1), stamp=stamp(4.0), memory=MemoryStats(rss_bytes=1)))
    held = entry(domains)
    assert held.state is None
    assert held.stats.memory is None


@on_virtual_time
async def test_a_tombstone_lasts_an_hour() -> None:
    """Longer than any answer can be late; then the uuid costs nothing any more."""
    domains = Domains()
    for number in (1, 2):
        domains.missing(HOST, Missing(uuid=uuid(number), stamp=stamp(5.0)))
        await asyncio.sleep(3500.0)
    domains.missing(HOST, Missing(uuid=uuid(3), stamp=stamp(5.0)))
    assert domains.read(HOST, reading(2, 4.0)) is None
    assert domains.read(HOST, reading(1, 4.0)) is not None


@pytest.mark.parametrize(
    ("held", "listed", "different"), [(1, 1, False), (1, 2, True), (1, -1, True), (1, None, False), (None, -1, False), (None, 3, True)]
)
async def test_a_listing_shows_what_was_started_or_stopped(held: int | None, listed: int | None, different: bool) -> None:
    """The number of the running guest is another one, or there is none: read it first. A listing that began before the reading shows nothing."""
    domains = Domains()
    domains.read(HOST, reading(1, 5.0, state=State.RUNNING if held else State.SHUTOFF))
    for moment, unread in ((6.0, different), (4.0, False)):
        row = Listed(uuid=uuid(1), name="guest-1", id=listed)
        assert bool(domains.listed(HOST, Listing(stamp=stamp(moment), domains=(row,)))) is unread


async def test_the_tally_is_kept_as_domains_come_and_go() -> None:
    """It says at any time what counting would."""
    domains = Domains()
    rng = random.Random(7)
    for moment in range(300):
        number = rng.randrange(8)
        if rng.random() < 0.3:
            domains.missing(HOST, Missing(uuid=uuid(number), stamp=stamp(moment)))
        else:
            domains.read(HOST, reading(number, moment - rng.random(), state=rng.choice([State.RUNNING, State.SHUTOFF])))
        held = list(domains.on_host(HOST))
        assert (domains.tally(HOST).domains, domains.tally(HOST).active) == (len(held), sum(one.active for one in held))
    assert domains.tally("elsewhere").domains == 0


async def test_an_older_burial_does_not_shorten_a_newer_one() -> None:
    """Two late answers that a domain is gone leave the later moment on its tombstone."""
    domains = Domains()
    domains.missing(HOST, Missing(uuid=uuid(1), stamp=stamp(9.0)))
    domains.missing(HOST, Missing(uuid=uuid(1), stamp=stamp(3.0)))
    assert domains.read(HOST, reading(1, 5.0)) is None


async def test_a_rename_moves_the_name_and_keeps_the_domain() -> None:
    """The old name finds nothing, the new one the same generation; a listing asks for the read that tells."""
    domains = Domains()
    domains.read(HOST, reading(1, 1.0, "old"))
    before = entry(domains)
    assert domains.listed(HOST, listing(2.0, [1], {1: "new"})) == [uuid(1)]
    domains.read(HOST, reading(1, 3.0, "new"))
    assert domains.by_name("old") == []
    assert [found.generation for found in domains.by_name("new")] == [before.generation]
    assert list(domains.order.after(None)) == [(HOST, "new", uuid(1))]


async def test_a_partial_sample_updates_only_the_groups_it_has() -> None:
    """What a sweep left out keeps its last reading and that reading's time."""
    domains = Domains()
    domains.read(HOST, reading(1, 1.0))
    domains.sampled(HOST, StatsReading(uuid=uuid(1), stamp=stamp(2.0), cpu=CpuStats(time_ns=7), memory=MemoryStats(rss_bytes=1)))
    domains.sampled(HOST, StatsReading(uuid=uuid(1), stamp=stamp(3.0), cpu=CpuStats(time_ns=8)))
    stats = entry(domains).stats
    assert stats.cpu is not None
    assert stats.memory is not None
    assert (stats.cpu.value.time_ns, stats.memory.stamp) == (8, stamp(2.0))


async def test_statistics_and_cpu_time_are_not_announced() -> None:
    """Watchers hear of changes, not of the passing of time."""
    domains = Domains()
    domains.read(HOST, reading(1, 1.0, cpu_time_ns=1))
    revision = domains.feed.revision
    domains.read(HOST, reading(1, 2.0, cpu_time_ns=2))
    domains.sampled(HOST, StatsReading(uuid=uuid(1), stamp=stamp(3.0), cpu=CpuStats(time_ns=3)))
    assert domains.feed.revision == revision
    domains.read(HOST, reading(1, 4.0, memory_bytes=5))
    assert domains.feed.revision > revision


async def test_the_same_uuid_on_two_hosts_is_two_domains() -> None:
    """Removing one leaves the other."""
    domains = Domains()
    domains.read("a", reading(1, 1.0))
    domains.read("b", reading(1, 1.0))
    domains.listed("a", listing(2.0, []))
    assert [found.host for found in domains.by_uuid(uuid(1))] == ["b"]


async def test_a_late_reading_of_one_that_a_listing_lacked_brings_nothing_back() -> None:
    """Also where it had never been seen before: it came and went while its first read was out."""
    domains = Domains()
    domains.listed(HOST, listing(5.0, [2]))
    assert domains.read(HOST, reading(1, 4.0)) is None
    assert domains.get((HOST, uuid(1))) is None
    assert domains.read(HOST, reading(1, 6.0)) is not None


async def test_readings_between_the_slices_of_a_listing_count() -> None:
    """What a later reading saw while a long listing was taken in stays as it saw it, and a late one brings nothing back."""
    domains = Domains()
    for number in range(300):
        domains.read(HOST, reading(number, 1.0))
    slices = domains.take_in(HOST, listing(5.0, range(300, 600)))
    next(slices)
    seen, gone, late = 299, 400, 298
    domains.read(HOST, reading(seen, 6.0))
    domains.missing(HOST, Missing(uuid=uuid(gone), stamp=stamp(7.0)))
    domains.read(HOST, reading(late, 4.0))
    unread = [which for some in slices for which in some]
    assert domains.get((HOST, uuid(seen))) is not None
    assert domains.get((HOST, uuid(gone))) is None
    assert domains.get((HOST, uuid(late))) is None
    assert len(domains) == len(unread) + 1 == 300
