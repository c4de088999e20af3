"""The domain cache: what every query answers from.

Entries are immutable and replaced whole, group by group. A reading is stamped with the moment its call began, and an older one
never overwrites a newer one. Nothing but a reading sets anything here; an event only asks for one.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Generic, TypeVar

import msgspec
from msgspec.structs import replace

from virtrpc_drivers.values import (
    BlockStats,
    CpuStats,
    DomainConfig,
    DomainReading,
    DomainState,
    Group,
    InterfaceStats,
    Listed,
    Listing,
    MemoryStats,
    Missing,
    Stamp,
    StatsReading,
    VcpuStats,
)
from virtrpc_server.feed import Feed
from virtrpc_server.order import Order
from virtrpc_server.policy.labels import NONE, Labels, labels_of
from virtrpc_server.slices import ROWS

T_co = TypeVar("T_co", covariant=True)
Key = tuple[str, str]
"""(host, uuid)."""

MAX_TOMBSTONES = 10_000
TOMBSTONE_SECONDS = 3600.0
OFF = -1
"""What a listing says for the number of a domain that does not run."""


class Observed(msgspec.Struct, Generic[T_co], frozen=True):
    """A value and when the call that read it began."""

    value: T_co
    stamp: Stamp


class Stats(msgspec.Struct, frozen=True):
    """The groups of statistics, each with its own age; None before the first reading."""

    cpu: Observed[CpuStats] | None = None
    memory: Observed[MemoryStats] | None = None
    block: Observed[tuple[BlockStats, ...]] | None = None
    interfaces: Observed[tuple[InterfaceStats, ...]] | None = None
    vcpus: Observed[tuple[VcpuStats, ...]] | None = None


class Entry(msgspec.Struct, frozen=True):
    """One domain as it was last read. `generation` changes when another domain takes its place."""

    host: str
    uuid: str
    name: str
    generation: int
    seen: Stamp
    """The newest reading that showed it, or the listing that showed it first."""
    state: Observed[DomainState] | None = None
    config: Observed[DomainConfig] | None = None
    stats: Stats = Stats()

    @property
    def key(self) -> Key:
        """(host, uuid)."""
        return (self.host, self.uuid)

    @property
    def active(self) -> bool:
        """Whether it ran when it was last read."""
        return self.state is not None and self.state.value.active


@dataclass(frozen=True, slots=True)
class LastListing:
    """A host's newest listing: which domains it showed, and when it began."""

    stamp: Stamp
    uuids: frozenset[str]


@dataclass(slots=True)
class Tally:
    """A host's domains in numbers, and the newest reading that showed one of them."""

    domains: int = 0
    active: int = 0
    heard: Stamp | None = None


class Domains:
    """All domains of all hosts, with their indexes.

    `feed` carries changes of state and configuration to watchers, `order` has all domains as (host, name, uuid). Generations
    count up from `generation`: a number that grows from one life of the server to the next tells them apart across lives.
    """

    def __init__(self, generation: int = 0) -> None:
        self.feed: Feed[Key, Entry] = Feed(topics=lambda entry: (entry.uuid,))
        self.order: Order[tuple[str, str, str]] = Order()
        self._entries: dict[Key, Entry] = {}
        self._names: dict[tuple[str, str], set[str]] = {}
        self._hosts: dict[str, dict[str, Entry]] = {}
        self._listings: dict[str, LastListing] = {}
        self._tallies: dict[str, Tally] = {}
        self._tombstones: OrderedDict[Key, tuple[Stamp, float]] = OrderedDict()
        self._generation = generation
        self.identities = 0
        """Grows whenever a domain is called or labelled otherwise than before: rules may tell it apart then."""
        self.on_identity: Callable[[], None] = lambda: None
        """Called then."""

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: Key) -> Entry | None:
        """The entry of a domain."""
        return self._entries.get(key)

    def on_host(self, host: str) -> Iterable[Entry]:
        """The entries of one host, in no order."""
        return self._hosts.get(host, {}).values()

    def tally(self, host: str) -> Tally:
        """How many domains a host has; the same however many there are."""
        return self._tallies.get(host, Tally())

    def all(self) -> Iterator[Entry]:
        """Every entry, in no order."""
        return iter(self._entries.values())

    def was_read_after(self, key: Key, group: Group, moment: Stamp) -> bool:
        """Whether a reading of this group that began after this moment is held, or one that said that there is no such domain."""
        entry = self._entries.get(key)
        if entry is None:
            return key in self._tombstones and self._tombstones[key][0] > moment
        held: Observed[object] | None = getattr(entry, group.value)
        return held is not None and held.stamp > moment

    def by_uuid(self, uuid: str) -> list[Entry]:
        """The entries with this uuid, on any host: several during a migration."""
        return [entries[uuid] for entries in self._hosts.values() if uuid in entries]

    def by_name(self, name: str, host: str = "") -> list[Entry]:
        """The entries with this name, on one host or on any."""
        hosts = [host] if host else list(self._hosts)
        return [self._entries[at, uuid] for at in hosts for uuid in sorted(self._names.get((at, name), ()))]

    def read(self, host: str, reading: DomainReading) -> Entry | None:
        """Take in a reading; None where a later listing has already said that the domain is gone."""
        entry = self._present(host, reading.uuid, reading.name, reading.stamp)
        if entry is None:
            return None
        state, config = entry.state, entry.config
        if reading.state is not None and _newer(reading.stamp, state):
            state = Observed(reading.state, reading.stamp)
        if reading.config is not None and _newer(reading.stamp, config):
            config = Observed(reading.config, reading.stamp)
        name = reading.name if reading.stamp >= entry.seen else entry.name
        return self._store(replace(entry, name=name, seen=max(entry.seen, reading.stamp), state=state, config=config))

    def sampled(self, host: str, reading: StatsReading) -> None:
        """Take in statistics: only the groups that the answer had. They are not announced to watchers."""
        entry = self._entries.get((host, reading.uuid))
        if entry is None or self._is_buried(entry.key, reading.stamp):
            return
        groups = {name: getattr(reading, name) for name in ("cpu", "memory", "block", "interfaces", "vcpus")}
        changes = {
            name: Observed(value, reading.stamp)
            for name, value in groups.items()
            if value is not None and _newer(reading.stamp, getattr(entry.stats, name))
        }
        if changes:
            self._keep(replace(entry, stats=replace(entry.stats, **changes)))

    def listed(self, host: str, listing: Listing) -> list[str]:
        """Take in a listing: removes what it lacks, unless a later reading has seen it. Returns the uuids to read first."""
        return list(chain.from_iterable(self.take_in(host, listing)))

    def take_in(self, host: str, listing: Listing) -> Iterator[list[str]]:
        """The same in slices, each step one. Readings may come in between: each domain is judged by what is held when its turn comes."""
        present = frozenset(row.uuid for row in listing.domains)
        if host not in self._listings or listing.stamp > self._listings[host].stamp:
            self._listings[host] = LastListing(listing.stamp, present)
        gone = [uuid for uuid in self._hosts.get(host, {}) if uuid not in present]
        for start in range(0, len(gone), ROWS):
            for uuid in gone[start : start + ROWS]:
                self.missing(host, Missing(uuid=uuid, stamp=listing.stamp))
            yield []
        for start in range(0, len(listing.domains), ROWS):
            rows = listing.domains[start : start + ROWS]
            yield [row.uuid for row in rows if self._is_unread(host, row, listing.stamp)]

    def _is_unread(self, host: str, row: Listed, stamp: Stamp) -> bool:
        entry = self._present(host, row.uuid, row.name, stamp)
        if entry is None:
            return False
        return entry.state is None or entry.config is None or entry.name != row.name or _runs_otherwise(row, stamp, entry.state)

    def missing(self, host: str, gone: Missing) -> bool:
        """The hypervisor had no such domain when this call began: removes it unless it was seen by a later one."""
        key = (host, gone.uuid)
        entry = self._entries.get(key)
        if entry is not None and self._seen(entry) >= gone.stamp:
            return False
        self._bury(key, gone.stamp)
        if entry is None:
            return False
        tally = self._tallies[host]
        tally.domains, tally.active = tally.domains - 1, tally.active - entry.active
        del self._entries[key]
        del self._hosts[host][gone.uuid]
        self._unname(entry)
        # Who it was, without the texts of its definition.
        self.feed.remove(key, replace(entry, state=None, config=None, stats=Stats()))
        return True

    def _seen(self, entry: Entry) -> Stamp:
        listing = self._listings.get(entry.host)
        shown = listing is not None and entry.uuid in listing.uuids
        return max(entry.seen, listing.stamp) if listing is not None and shown else entry.seen

    def _present(self, host: str, uuid: str, name: str, stamp: Stamp) -> Entry | None:
        key = (host, uuid)
        # Asked first, and kept beside a new entry: a late reading of the one that is gone must not fill the one in its place.
        if self._is_buried(key, stamp):
            return None
        entry = self._entries.get(key)
        if entry is not None:
            return entry
        if self._was_unlisted(key, stamp):
            return None
        self._generation += 1
        return self._store(Entry(host, uuid, name, self._generation, stamp))

    def _store(self, entry: Entry) -> Entry:
        before = self._entries.get(entry.key)
        self._keep(entry)
        if before is None or before.name != entry.name:
            if before is not None:
                self._unname(before)
            self._names.setdefault((entry.host, entry.name), set()).add(entry.uuid)
            self.order.add((entry.host, entry.name, entry.uuid))
        if before is None or _visible(before) != _visible(entry):
            self.feed.put(entry.key, entry)
        if before is not None and (before.name != entry.name or _labels(before) != _labels(entry)):
            self.identities += 1
            self.on_identity()
        return entry

    def _keep(self, entry: Entry) -> None:
        tally = self._tallies.setdefault(entry.host, Tally())
        before = self._entries.get(entry.key)
        if before is None:
            tally.domains += 1
        tally.active += entry.active - (before is not None and before.active)
        if tally.heard is None or tally.heard < entry.seen:
            tally.heard = entry.seen
        self._entries[entry.key] = entry
        self._hosts.setdefault(entry.host, {})[entry.uuid] = entry

    def _unname(self, entry: Entry) -> None:
        self.order.discard((entry.host, entry.name, entry.uuid))
        uuids = self._names.get((entry.host, entry.name))
        if uuids is not None:
            uuids.discard(entry.uuid)
            if not uuids:
                del self._names[entry.host, entry.name]

    def _is_buried(self, key: Key, stamp: Stamp) -> bool:
        buried = self._tombstones.get(key)
        return buried is not None and buried[0] >= stamp

    def _was_unlisted(self, key: Key, stamp: Stamp) -> bool:
        """Whether a listing that is not older lacked it: one that was never seen here has no tombstone."""
        listing = self._listings.get(key[0])
        return listing is not None and listing.stamp >= stamp and key[1] not in listing.uuids

    def _bury(self, key: Key, stamp: Stamp) -> None:
        if self._is_buried(key, stamp):
            return
        now = asyncio.get_running_loop().time()
        self._tombstones[key] = (stamp, now)
        self._tombstones.move_to_end(key)
        while len(self._tombstones) > MAX_TOMBSTONES or next(iter(self._tombstones.values()))[1] < now - TOMBSTONE_SECONDS:
            self._tombstones.popitem(last=False)


def _newer(stamp: Stamp, held: Observed[object] | None) -> bool:
    return held is None or stamp > held.stamp


def _runs_otherwise(row: Listed, stamp: Stamp, held: Observed[DomainState]) -> bool:
    """Whether a listing shows that a domain was started or stopped since its state was read."""
    number = OFF if held.value.id is None else held.value.id
    return row.id is not None and row.id != number and stamp > held.stamp


def _labels(entry: Entry) -> Labels:
    return labels_of(entry.config.value) if entry.config is not None else NONE


def _visible(entry: Entry) -> tuple[object, ...]:
    # CPU time and the monitor's state move with every reading; a watcher is told of changes, not of the passing of time.
    state = entry.state.value if entry.state else None
    if state is not None:
        state = msgspec.structs.replace(state, cpu_time_ns=None, control=None)
    return (entry.name, entry.generation, state, entry.config.value if entry.config else None)
