"""The guests' statistics from the cache, under the names that the exporters for libvirt use, so that nothing here can hang as they do.

Names are those of the most widespread ones, and so are the labels `domain`, `target_device` and `vcpu`; `host` and `uuid` are added.
What is out of date is left out and not shown as if it were the present: a counter that stands still looks like an idle guest.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, NamedTuple

from virtrpc_drivers.values import DomainConfig, Group, State
from virtrpc_server.domains import Entry, Observed
from virtrpc_server.hosts import AUDIT_LIVE_SECONDS, Host
from virtrpc_server.telemetry.points import Family, Kind, Labels, Metric, Point

KEPT_SECONDS = 60.0
"""How old statistics may be and still be shown, or as long as they count as LIVE where that is longer."""
PIECE = 400
"""Points that are made in one go: about a millisecond."""
DOMAINS = 40
"""Domains that are looked at in one go: as long."""
PAUSE_SECONDS = 0.001
"""After each. In a pause of no length the next piece would come between any two steps of a query, of which there are eight."""
NANO = 1e9

DOMAIN = ("host", "domain", "uuid")
DISK = (*DOMAIN, "target_device")
VCPU = (*DOMAIN, "vcpu")
STATES = {
    State.NOSTATE: 0, State.RUNNING: 1, State.BLOCKED: 2, State.PAUSED: 3,
    State.SHUTDOWN: 4, State.SHUTOFF: 5, State.CRASHED: 6, State.PMSUSPENDED: 7,
}  # fmt: skip
"""virDomainState."""
VCPU_STATES = {"offline": 0, "running": 1, "blocked": 2}
"""virVcpuState."""


class Row(NamedTuple):
    """A reading of one thing (a domain, a disk, a virtual processor) with its labels."""

    labels: Labels
    value: Any


@dataclass(frozen=True)
class Shown:
    """A metric of all rows of a part, and how its number is got from a row's value; None where the hypervisor does not tell it."""

    part: str
    metric: Metric
    number: Callable[[Any], float | None]


def _shown(part: str, labels: tuple[str, ...], name: str, unit: str, text: str, number: str | Callable[[Any], float | None]) -> Shown:
    kind = Kind.COUNTER if name.endswith("_total") else Kind.GAUGE
    return Shown(part, Metric(f"libvirt_domain_{name}", kind, unit, text, labels), attrgetter(number) if isinstance(number, str) else number)


def _seconds(name: str) -> Callable[[Any], float | None]:
    get = attrgetter(name)

    def seconds(value: Any) -> float | None:
        nanoseconds: int | None = get(value)
        return None if nanoseconds is None else nanoseconds / NANO

    return seconds


def _used_percent(memory: Any) -> float | None:
    if not memory.available_bytes or memory.usable_bytes is None:
        return None
    return float(100 * (memory.available_bytes - memory.usable_bytes) / memory.available_bytes)


def _one(_value: object) -> int:
    return 1


SHOWN: tuple[Shown, ...] = (
    _shown("age", DOMAIN, "stats_age_seconds", "s", "How old the oldest statistics of the domain are that are shown here.", lambda age: age),
    _shown("state", DOMAIN, "info_state", "", "The domain's state, a number of virDomainState.", lambda state: STATES[state.state]),
    _shown("state", DOMAIN, "info_vstate", "", "The same under another exporter's name.", lambda state: STATES[state.state]),
    _shown("state", DOMAIN, "info_maximum_memory_bytes", "By", "How much memory the domain may have.", "max_memory_bytes"),
    _shown("state", DOMAIN, "info_memory_usage_bytes", "By", "How much memory the domain has.", "memory_bytes"),
    _shown("state", DOMAIN, "info_virtual_cpus", "{cpu}", "How many virtual processors the domain has.", "vcpus"),
    _shown("info", (*DOMAIN, "os_type"), "info", "", "1 for each domain.", _one),
    _shown("info", (*DOMAIN, "os_type"), "info_meta", "", "The same under another exporter's name.", _one),
    _shown("config", DOMAIN, "vcpu_current", "{cpu}", "How many virtual processors are online.", "vcpus_live"),
    _shown("config", DOMAIN, "vcpu_maximum", "{cpu}", "How many virtual processors may be online.", "vcpus_maximum"),
    _shown("cpu", DOMAIN, "info_cpu_time_seconds_total", "s", "Processor time that the domain has used.", _seconds("time_ns")),
    _shown("memory", DOMAIN, "memory_stats_actual_balloon_bytes", "By", "The balloon's size.", "actual_bytes"),
    _shown("memory", DOMAIN, "memory_stats_available_bytes", "By", "Memory that the guest sees.", "available_bytes"),
    _shown("memory", DOMAIN, "memory_stats_unused_bytes", "By", "Memory that the guest uses for nothing at all.", "unused_bytes"),
    _shown("memory", DOMAIN, "memory_stats_usable_bytes", "By", "Memory that the guest could give without swapping.", "usable_bytes"),
    _shown("memory", DOMAIN, "memory_stats_disk_cache_bytes", "By", "Memory that caches the guest's files.", "disk_caches_bytes"),
    _shown("memory", DOMAIN, "memory_stats_rss_bytes", "By", "Memory of the host that the domain's process holds.", "rss_bytes"),
    _shown("memory", DOMAIN, "memory_stats_swap_in_bytes", "By", "Memory that the guest has read from its swap space.", "swap_in_bytes"),
    _shown("memory", DOMAIN, "memory_stats_swap_out_bytes", "By", "Memory that the guest has written to its swap space.", "swap_out_bytes"),
    _shown("memory", DOMAIN, "memory_stats_major_fault_total", "{fault}", "Page faults of the guest that needed its disk.", "major_faults"),
    _shown("memory", DOMAIN, "memory_stats_minor_fault_total", "{fault}", "Page faults of the guest that did not.", "minor_faults"),
    _shown("memory", DOMAIN, "memory_stats_used_percent", "%", "Memory that the guest could not give, of what it sees.", _used_percent),
    _shown("disk", (*DISK, "source_file"), "block_stats_info", "", "1 for each disk.", _one),
    _shown("block", DISK, "block_stats_read_bytes_total", "By", "Bytes read.", "read_bytes"),
    _shown("block", DISK, "block_stats_read_requests_total", "{request}", "Reads.", "read_requests"),
    _shown("block", DISK, "block_stats_read_time_seconds_total", "s", "Time that reads took.", _seconds("read_time_ns")),
    _shown("block", DISK, "block_stats_write_bytes_total", "By", "Bytes written.", "write_bytes"),
    _shown("block", DISK, "block_stats_write_requests_total", "{request}", "Writes.", "write_requests"),
    _shown("block", DISK, "block_stats_write_time_seconds_total", "s", "Time that writes took.", _seconds("write_time_ns")),
    _shown("block", DISK, "block_stats_flush_requests_total", "{request}", "Flushes.", "flush_requests"),
    _shown("block", DISK, "block_stats_flush_time_seconds_total", "s", "Time that flushes took.", _seconds("flush_time_ns")),
    _shown("block", DISK, "block_stats_errors_total", "{error}", "Requests that failed.", "errors"),
    _shown("block", DISK, "block_stats_allocation", "By", "The highest byte that was written.", "allocation_bytes"),
    _shown("block", DISK, "block_stats_capacity_bytes", "By", "The size that the guest sees.", "capacity_bytes"),
    _shown("block", DISK, "block_stats_physicalsize_bytes", "By", "What its image takes.", "physical_bytes"),
    _shown("card", (*DISK, "mac_address"), "interface_stats_info", "", "1 for each network interface.", _one),
    _shown("interfaces", DISK, "interface_stats_receive_bytes_total", "By", "Bytes that the guest received.", "rx_bytes"),
    _shown("interfaces", DISK, "interface_stats_receive_packets_total", "{packet}", "Packets that the guest received.", "rx_packets"),
    _shown("interfaces", DISK, "interface_stats_receive_errors_total", "{error}", "Errors in receiving.", "rx_errors"),
    _shown("interfaces", DISK, "interface_stats_receive_drops_total", "{packet}", "Packets to the guest that were dropped.", "rx_drops"),
    _shown("interfaces", DISK, "interface_stats_transmit_bytes_total", "By", "Bytes that the guest sent.", "tx_bytes"),
    _shown("interfaces", DISK, "interface_stats_transmit_packets_total", "{packet}", "Packets that the guest sent.", "tx_packets"),
    _shown("interfaces", DISK, "interface_stats_transmit_errors_total", "{error}", "Errors in sending.", "tx_errors"),
    _shown("interfaces", DISK, "interface_stats_transmit_drops_total", "{packet}", "Packets of the guest that were dropped.", "tx_drops"),
    _shown("vcpus", VCPU, "vcpu_state", "", "A virtual processor's state, a number of virVcpuState.", lambda vcpu: VCPU_STATES.get(vcpu.state)),
    _shown("vcpus", VCPU, "vcpu_time_seconds_total", "s", "Time that a virtual processor has used.", _seconds("time_ns")),
)  # fmt: skip

Find = Callable[[str], Host]


@dataclass
class Guests:
    """All domains as they are shown in one answer: their rows by part, and how old the oldest reading of each group is."""

    rows: dict[str, list[Row]] = field(default_factory=lambda: {shown.part: [] for shown in SHOWN})
    ages: dict[tuple[str, str], float] = field(default_factory=dict)
    """In seconds, by host and group."""

    async def gather(self, entries: Iterable[Entry], host: Find) -> None:
        """Take in the domains, a few at a time."""
        for number, entry in enumerate(list(entries), 1):
            self._take(entry, host(entry.host))
            if number % DOMAINS == 0:
                await asyncio.sleep(PAUSE_SECONDS)

    async def families(self) -> AsyncIterator[Family]:
        """Every metric's points, a few at a time."""
        made = 0
        for shown in SHOWN:
            rows = self.rows[shown.part]
            for start in range(0, len(rows), PIECE):
                points = list(_points(shown.number, rows[start : start + PIECE]))
                yield Family(shown.metric, points)
                made += len(points)
                if made >= PIECE:
                    made = 0
                    await asyncio.sleep(PAUSE_SECONDS)

    def _take(self, entry: Entry, host: Host) -> None:
        labels = Labels(host=entry.host, domain=entry.name, uuid=entry.uuid)
        audited = max(AUDIT_LIVE_SECONDS, 2 * host.read_within)
        if self._is_fresh(entry, host, Group.STATE, entry.state, audited) and entry.state is not None:
            self.rows["state"].append(Row(labels, entry.state.value))
        if self._is_fresh(entry, host, Group.CONFIG, entry.config, audited) and entry.config is not None:
            self._configured(labels, entry.config.value)
        if entry.active:
            self._sampled(labels, entry, host)

    def _configured(self, labels: Labels, config: DomainConfig) -> None:
        rows = self.rows
        rows["config"].append(Row(labels, config))
        rows["info"].append(Row(labels.more(os_type=config.os_type or ""), None))
        rows["disk"] += [Row(labels.more(target_device=disk.target, source_file=disk.source or ""), None) for disk in config.disks]
        rows["card"] += [Row(labels.more(target_device=card.target or card.mac, mac_address=card.mac), None) for card in config.interfaces]

    def _sampled(self, labels: Labels, entry: Entry, host: Host) -> None:
        rows, stats, kept = self.rows, entry.stats, max(KEPT_SECONDS, host.sampler.live_seconds)
        ages = []
        for group in ("cpu", "memory", "block", "interfaces", "vcpus"):
            reading: Observed[Any] | None = getattr(stats, group)
            if not self._is_fresh(entry, host, group, reading, kept) or reading is None:
                continue
            ages.append(host.age(reading.stamp))
            if group in ("cpu", "memory"):
                rows[group].append(Row(labels, reading.value))
            elif group == "vcpus":
                rows[group] += [Row(labels.more(vcpu=str(vcpu.number)), vcpu) for vcpu in reading.value]
            else:
                rows[group] += [Row(labels.more(target_device=part.target), part) for part in reading.value]
        if ages:
            rows["age"].append(Row(labels, max(0.0, *ages)))

    def _is_fresh(self, entry: Entry, host: Host, group: str, reading: Observed[Any] | None, kept: float) -> bool:
        """Whether a reading is young enough to be shown; its age is noted all the same."""
        if reading is None:
            return False
        age = max(0.0, host.age(reading.stamp))
        key = (entry.host, str(group))
        self.ages[key] = max(age, self.ages.get(key, 0.0))
        return age <= (kept if host.connected else KEPT_SECONDS)


def _points(number: Callable[[Any], float | None], rows: list[Row]) -> Iterator[Point]:
    for labels, value in rows:
        found = number(value)
        if found is not None:
            yield Point(labels, found)
