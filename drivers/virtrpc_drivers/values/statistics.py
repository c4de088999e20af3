"""What guests and their host use, as a sweep saw it."""

from __future__ import annotations

from virtrpc_drivers.values.base import Stamp, Value
from virtrpc_drivers.values.state import Control


class MemoryStats(Value, frozen=True):
    """virDomainMemoryStats in bytes; faults are counts, `last_update` seconds since the epoch by the guest's driver."""

    actual_bytes: int | None = None
    swap_in_bytes: int | None = None
    swap_out_bytes: int | None = None
    major_faults: int | None = None
    minor_faults: int | None = None
    unused_bytes: int | None = None
    available_bytes: int | None = None
    usable_bytes: int | None = None
    rss_bytes: int | None = None
    disk_caches_bytes: int | None = None
    hugetlb_page_allocations: int | None = None
    hugetlb_page_failures: int | None = None
    last_update: int | None = None


class BlockStats(Value, frozen=True):
    """virDomainBlockStatsFlags of one disk: counts, bytes and nanoseconds since the guest's start."""

    target: str
    path: str | None = None
    read_requests: int | None = None
    read_bytes: int | None = None
    read_time_ns: int | None = None
    write_requests: int | None = None
    write_bytes: int | None = None
    write_time_ns: int | None = None
    flush_requests: int | None = None
    flush_time_ns: int | None = None
    errors: int | None = None
    allocation_bytes: int | None = None
    threshold_bytes: int | None = None
    capacity_bytes: int | None = None
    physical_bytes: int | None = None
    error: str | None = None
    """Why it stopped its guest: io or no_space (virDomainGetDiskErrors)."""


class InterfaceStats(Value, frozen=True):
    """virDomainInterfaceStats of one interface, as the host counts it."""

    target: str
    mac: str | None = None
    rx_bytes: int | None = None
    rx_packets: int | None = None
    rx_errors: int | None = None
    rx_drops: int | None = None
    tx_bytes: int | None = None
    tx_packets: int | None = None
    tx_errors: int | None = None
    tx_drops: int | None = None


class VcpuStats(Value, frozen=True):
    """One virtual CPU (virDomainGetVcpus): `state` is offline, running or blocked; `cpu` the host CPU it was last seen on; `affinity` those that
    it may run on, as "0-3,8"."""

    number: int
    state: str | None = None
    time_ns: int | None = None
    cpu: int | None = None
    affinity: str | None = None


class CpuStats(Value, frozen=True):
    """CPU time of the whole domain since its start, in nanoseconds; user and system time where the hypervisor tells them apart."""

    time_ns: int
    user_ns: int | None = None
    system_ns: int | None = None


class StatsReading(Value, frozen=True):
    """The statistics of one domain as one sweep saw them; a group that the answer lacked is None and keeps its old reading."""

    uuid: str
    stamp: Stamp
    cpu: CpuStats | None = None
    memory: MemoryStats | None = None
    block: tuple[BlockStats, ...] | None = None
    interfaces: tuple[InterfaceStats, ...] | None = None
    vcpus: tuple[VcpuStats, ...] | None = None


class Samples(Value, frozen=True):
    """The answer to a sweep."""

    stats: tuple[StatsReading, ...] = ()


class Pulse(Value, frozen=True):
    """A sign of life of one running domain. A process that is stopped uses no CPU, and its monitor is OCCUPIED once a call hangs on it."""

    uuid: str
    control: Control | None = None
    cpu_time_ns: int | None = None


class Pulses(Value, frozen=True):
    """The answer to a look at many running domains; asks no monitor and takes no job, so it does not hang."""

    pulses: tuple[Pulse, ...] = ()


class HostStats(Value, frozen=True):
    """virNodeGetCPUStats of all CPUs together, in nanoseconds, and virNodeGetMemoryStats, in bytes."""

    stamp: Stamp
    user_ns: int | None = None
    system_ns: int | None = None
    idle_ns: int | None = None
    iowait_ns: int | None = None
    memory_bytes: int | None = None
    free_bytes: int | None = None
    buffers_bytes: int | None = None
    cached_bytes: int | None = None


class DirtyRate(Value, frozen=True):
    """How fast a guest changes its memory: whether that is being measured, for how long it is or was, and the last result."""

    measuring: bool = False
    seconds: int | None = None
    bytes_per_second: int | None = None
