"""The hosts: one driver each, what it says, and what is read from it. One bad host never touches another."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from virtrpc_drivers.errors import DriverError, Fault
from virtrpc_drivers.protocol import (
    AnyNotice,
    Change,
    DomainChanged,
    Driver,
    EventsLost,
    HostDown,
    HostUp,
    Report,
    SpanRecord,
    Spans,
    StuckCalls,
)
from virtrpc_drivers.values import Group, HostInfo, Slot, Stamp, VerbSupport
from virtrpc_server.budgets import Budget, Budgets, keep_learning
from virtrpc_server.domains import Domains, Entry, Observed, Tally
from virtrpc_server.errors import refuse
from virtrpc_server.host_sampling import LIVE_SECONDS as HOST_LIVE_SECONDS
from virtrpc_server.host_sampling import HostSampler
from virtrpc_server.probing import Probes
from virtrpc_server.refresh import Refresher
from virtrpc_server.rereading import Attention, Audit, Poll
from virtrpc_server.sampling import SAMPLE_PERIOD, Sampler
from virtrpc_server.slots import Slots
from virtrpc_server.verbs import KINDS, Kind

log = logging.getLogger(__name__)

AUDIT_PERIOD = 60.0
AUDIT_LIVE_SECONDS = 120.0
NEVER = float("-inf")
FIRST_READ_SECONDS = 10.0
RETRY_SECONDS = 1.0
DESTROYS_AT_ONCE = 3


class Freshness(StrEnum):
    """How far a reading can be trusted to be the present."""

    LIVE = "live"
    STALE = "stale"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class HostConfig:
    """What is configured for one host. `migrations` and `saves` run at once; `workers` overrides what the daemon says it guarantees."""

    name: str
    uri: str
    read_only: bool = False
    migrations: int = 4
    saves: int = 4
    workers: int | None = None
    audit_seconds: float = AUDIT_PERIOD
    sample_seconds: float = SAMPLE_PERIOD
    migration_uri: str = ""
    """The URI by which other hosts' daemons reach this one, where that is not `uri`."""


class Host:
    """One configured host: its driver, its connection's state, and the readers that keep its part of the cache."""

    def __init__(
        self,
        config: HostConfig,
        driver: Driver,
        domains: Domains,
        budgets: Budgets | None = None,
        clock: Callable[[], float] = time.time,
        read_workers: Callable[[], Awaitable[int | None]] | None = None,
    ) -> None:
        self.config = config
        self.name = config.name
        self.driver = driver
        self.info: HostInfo | None = None
        self.fault: Fault | None = None
        self.since = clock()
        self.known = asyncio.Event()
        """Set once it has been listed."""
        self.connected = False
        self.budget = Budget(clock)
        self.destroys = Slots(DESTROYS_AT_ONCE, clock)
        self.limits = {Kind.MIGRATION: Slots(config.migrations, clock), Kind.SAVE: Slots(config.saves, clock)}
        self.refresher = Refresher(config.name, driver, domains)
        self.sampler = Sampler(config.name, driver, domains, config.sample_seconds)
        self.own_sampler = HostSampler(config.name, driver)
        self.probes = Probes(driver)
        self.attention = Attention()
        self.back_up = asyncio.Event()
        self._domains = domains
        self._budgets = budgets or Budgets()
        self._clock = clock
        self._read_workers = read_workers
        self._workers: int | None = None
        self._audited = NEVER
        self._audit: Audit | None = None
        self._auditing: asyncio.Task[None] | None = None
        self._learning: asyncio.Task[None] | None = None
        self._closed = False
        self._stuck: dict[str, int] = {}
        self.restarts = 0
        """How often its driver process was lost."""
        self._on_report: Callable[[str, Report], None] = lambda _host, _report: None
        self._on_connection: Callable[[Host], None] = lambda _host: None
        self._on_spans: Callable[[tuple[SpanRecord, ...]], None] = lambda _spans: None
        self._on_move: Callable[[Slots], None] = lambda _slots: None

    def tell_queues(self, on_move: Callable[[Slots], None]) -> None:
        """Call this whenever one of this host's queues moves."""
        self._on_move = on_move
        for slots in (self.budget, self.destroys, *self.limits.values()):
            slots.on_move = on_move

    async def start(
        self,
        on_report: Callable[[str, Report], None],
        on_connection: Callable[[Host], None],
        on_spans: Callable[[tuple[SpanRecord, ...]], None],
    ) -> None:
        """Begin to connect; reports of running calls, changes of the connection and finished spans go to these."""
        self._on_report, self._on_connection, self._on_spans = on_report, on_connection, on_spans
        await self.driver.start(self._deliver)

    async def close(self) -> None:
        """Stop reading and close the driver; what runs at the hypervisor goes on."""
        # What the driver says from now on begins nothing.
        self._closed = True
        tasks = [task for task in (self._auditing, self._learning) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.sampler.stop()
        await self.own_sampler.stop()
        await self.refresher.close()
        await self.driver.close()

    def limit_of(self, verb: str, slot: Slot) -> Slots | None:
        """The host's limit that a verb waits for, if any."""
        if slot is Slot.DESTROY:
            return self.destroys
        kind = KINDS.get(verb)
        return None if kind is None else self.limits[kind]

    def require(self, name: str) -> VerbSupport | None:
        """The row of a verb or read; None where the host has never said what it can do. Raises Refusal (UNSUPPORTED_BY_HYPERVISOR)."""
        if self.info is None:
            return None
        support = self.info.support(name)
        if support is None or not support.supported:
            message = f"{self.info.hypervisor} on host {self.name} has no {name}; GetHost shows what it can do"
            raise refuse("UNSUPPORTED_BY_HYPERVISOR", message, host=self.name, method=name)
        return support

    @property
    def listed(self) -> bool:
        """Whether it has ever said which domains it has."""
        return self.known.is_set()

    @property
    def stuck(self) -> dict[str, int]:
        """How many calls have not come back in time, by what they are for: as the driver counts, or as is seen here where it does not."""
        seen = {"reads": self.refresher.stuck, "stats": self.sampler.hung}
        return self._stuck | {lane: max(count, self._stuck.get(lane, 0)) for lane, count in seen.items()}

    @property
    def tally(self) -> Tally:
        """Its domains in numbers, as last read."""
        return self._domains.tally(self.name)

    @property
    def freshness(self) -> Freshness:
        """LIVE while connected, listed and audited in time; UNKNOWN before the first listing."""
        if not self.listed:
            return Freshness.UNKNOWN
        audited = asyncio.get_running_loop().time() - self._audited < max(AUDIT_LIVE_SECONDS, 2 * self.config.audit_seconds)
        return Freshness.LIVE if self.connected and audited else Freshness.STALE

    @property
    def read_within(self) -> float:
        """Seconds in which every domain's state and configuration is read once, whatever is announced."""
        return self.config.audit_seconds if self._audit is None else self._audit.read_within

    def group_freshness(self, entry: Entry, group: Group) -> Freshness:
        """Of a domain's state or configuration."""
        own = self.own_freshness(entry, group)
        return Freshness.STALE if own is Freshness.LIVE and self.freshness is not Freshness.LIVE else own

    def own_freshness(self, entry: Entry, group: Group) -> Freshness:
        """The same without the host's part: what a watch tells with each domain, as it tells of the host apart."""
        reading: Observed[object] | None = getattr(entry, group.value)
        if reading is None:
            return Freshness.UNKNOWN
        # Each audit reads everything: what is older was passed over, for instance because its guest is wedged.
        old = self.connected and self.age(reading.stamp) >= max(AUDIT_LIVE_SECONDS, 2 * self.read_within)
        return Freshness.STALE if old or self.refresher.is_dirty(entry.uuid, group) else Freshness.LIVE

    def stats_freshness(self, reading: Observed[object] | None) -> Freshness:
        """Of a group of statistics, by its age."""
        if reading is None:
            return Freshness.UNKNOWN
        return Freshness.LIVE if self.connected and self.age(reading.stamp) <= self.sampler.live_seconds else Freshness.STALE

    @property
    def own_stats_freshness(self) -> Freshness:
        """LIVE, STALE or UNKNOWN, for the statistics of the host itself."""
        reading = self.own_sampler.reading
        if reading is None:
            return Freshness.UNKNOWN
        return Freshness.LIVE if self.connected and self.age(reading.stamp) <= HOST_LIVE_SECONDS else Freshness.STALE

    def age(self, stamp: Stamp) -> float:
        """Seconds since the call that made a reading began."""
        return self._clock() - stamp.wall

    def _deliver(self, notice: AnyNotice) -> None:
        match notice:
            case _ if self._closed:
                pass
            case DomainChanged(uuid=uuid, change=change, stamp=stamp):
                self.refresher.heard(uuid, (Group.STATE,) if change is Change.BALLOON else (Group.STATE, Group.CONFIG), stamp)
            case Report():
                self._on_report(self.name, notice)
            case EventsLost():
                self._lost_events()
            case HostUp(info=info):
                self._up(info)
            case HostDown(fault=fault, process_lost=lost):
                if lost:
                    self.restarts += 1
                    self._stuck = {}
                self._down(fault)
            case StuckCalls(lanes=lanes):
                self._stuck = lanes
            case Spans(spans=spans):
                self._on_spans(spans)

    def _up(self, info: HostInfo) -> None:
        log.info("host %s: connected (%s)", self.name, info.hypervisor)
        self.info, self.fault, self.since = info, None, self._clock()
        self.connected = True
        # What happened meanwhile raised no event: STALE until everything is listed again.
        self._audited = NEVER
        self._set_budget(info)
        self._learn()
        self.refresher.go_on()
        self.sampler.start()
        self._sample_host()
        self._begin_audit()
        self._on_connection(self)
        self.back_up.set()

    def _sample_host(self) -> None:
        support = self.info.support("GetHostStats") if self.info is not None else None
        if support is not None and support.supported:
            self.own_sampler.start()

    def _lost_events(self) -> None:
        before = self.freshness
        # Any domain may have changed unheard: STALE until everything is listed again.
        self._audited = NEVER
        self._begin_audit()
        if self.freshness is not before:
            self._on_connection(self)

    def _set_budget(self, info: HostInfo) -> None:
        workers = self.config.workers or self._workers or info.min_workers
        budget = self._budgets.of(self.name, info, workers)
        if not self.budget.claimed:
            # Which daemon's it is was not known when the calls of an earlier life took their places.
            budget.inherit(self.budget)
        self.budget = budget
        self.budget.on_move = self._on_move

    def _learn(self) -> None:
        if self._read_workers is not None and self.info is not None and self.info.daemon is not None and self._learning is None:
            self._learning = asyncio.get_running_loop().create_task(keep_learning(self._read_workers, lambda: self.budget, self._learnt))

    def _learnt(self, workers: int | None) -> None:
        self._workers = workers
        if self.info is not None:
            self._set_budget(self.info)

    def _down(self, fault: Fault) -> None:
        if self.connected or self.fault is None:
            log.warning("host %s: unreachable: %s", self.name, fault.message)
            self.since = self._clock()
        self.fault = fault
        self.connected = False
        self.back_up.clear()
        self.refresher.pause()
        self.sampler.pause()
        self.own_sampler.pause()
        if self._auditing is not None:
            self._auditing.cancel()
        self._on_connection(self)

    def _begin_audit(self) -> None:
        if self._auditing is not None:
            self._auditing.cancel()
        self._auditing = asyncio.get_running_loop().create_task(self._audit_for_ever())

    async def _audit_for_ever(self) -> None:
        """List and read everything at once, then again and again; until the connection is lost."""
        polled = self.info is not None and not self.info.pushes_events
        parts = (self.name, self.driver, self._domains, self.refresher)
        self._audit = Poll(*parts, self.attention) if polled else Audit(*parts, self.config.audit_seconds)
        look = self._audit.everything
        while True:
            try:
                await look()
                await self._was_audited()
                look, pause = self._audit.again, self._audit.pause
            except DriverError as error:
                log.info("host %s: listing failed: %s", self.name, error)
                pause = RETRY_SECONDS
            except Exception:
                log.exception("host %s: a fault of this server ended an audit", self.name)
                pause = RETRY_SECONDS
            await asyncio.sleep(pause)

    async def _was_audited(self) -> None:
        if not self.listed:
            # A domain that cannot be read must not keep the others unknown.
            await self.refresher.drained(FIRST_READ_SECONDS)
        before = self.freshness
        self.known.set()
        self._audited = asyncio.get_running_loop().time()
        if self.freshness is not before:
            self._on_connection(self)


class Hosts:
    """All configured hosts by name."""

    def __init__(self, hosts: list[Host]) -> None:
        self._hosts = {host.name: host for host in hosts}

    def __iter__(self) -> Iterator[Host]:
        return iter(self._hosts.values())

    def __contains__(self, name: object) -> bool:
        return name in self._hosts

    def get(self, name: str) -> Host | None:
        """The host of this name."""
        return self._hosts.get(name)

    def limits(self, verb: str, slot: Slot, *names: str) -> list[Slots]:
        """The limits that a verb waits for at the hosts that it touches, in the one order that everybody takes them in: else two migrations in
        opposite directions would wait for each other."""
        hosts = [host for name in sorted({*names}) if (host := self.get(name)) is not None]
        return [limit for host in hosts if (limit := host.limit_of(verb, slot)) is not None]

    def __getitem__(self, name: str) -> Host:
        return self._hosts[name]

    @property
    def not_live(self) -> list[Host]:
        """The hosts whose data may be out of date or missing."""
        return [host for host in self if host.freshness is not Freshness.LIVE]

    @property
    def unlisted(self) -> list[Host]:
        """The hosts that have not been listed yet."""
        return [host for host in self if not host.listed]
