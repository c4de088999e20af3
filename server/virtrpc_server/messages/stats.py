"""The sampled statistics, each group with its own age. A domain that is off has none: its last ones are of a guest that ended."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TypeVar

from msgspec.structs import replace

from virtrpc.v1 import query_pb2, types_pb2
from virtrpc_drivers import values
from virtrpc_server.domains import Entry, Observed
from virtrpc_server.hosts import Host
from virtrpc_server.messages.common import STATES, duration_ns, identity_message, numbers, observation, timestamp

T = TypeVar("T")
VCPU_STATES = {
    "offline": query_pb2.VCPU_STATE_OFFLINE,
    "running": query_pb2.VCPU_STATE_RUNNING,
    "blocked": query_pb2.VCPU_STATE_BLOCKED,
}
ALL_GROUPS = frozenset({query_pb2.STATS_GROUP_CPU, query_pb2.STATS_GROUP_MEMORY, query_pb2.STATS_GROUP_BLOCK, query_pb2.STATS_GROUP_INTERFACE})

DISK_ERRORS = {"io": query_pb2.DISK_ERROR_IO, "no_space": query_pb2.DISK_ERROR_NO_SPACE}
ADDRESS_SOURCES = {"lease": query_pb2.ADDRESS_SOURCE_LEASE, "arp": query_pb2.ADDRESS_SOURCE_ARP}


def present(entry: Entry, reading: Observed[T] | None) -> Observed[T] | None:
    """A group of statistics as far as it speaks of a guest that runs, by the last reading of its state."""
    off = entry.state is not None and not entry.state.value.active
    return None if off else reading


def stats_observation(entry: Entry, host: Host, reading: Observed[T] | None) -> types_pb2.Observation:
    """When a group was sampled; UNKNOWN while the domain is off."""
    reading = present(entry, reading)
    return observation(host.stats_freshness(reading), reading)


def domain_stats_message(entry: Entry, host: Host, groups: Collection[int] = ALL_GROUPS) -> query_pb2.DomainStats:
    """The groups that are asked for, of one domain."""
    return query_pb2.DomainStats(
        domain=identity_message(entry),
        state=STATES[entry.state.value.state] if entry.state is not None else types_pb2.DOMAIN_STATE_UNSPECIFIED,
        cpu=cpu_message(entry, host) if query_pb2.STATS_GROUP_CPU in groups else None,
        memory=memory_message(entry, host) if query_pb2.STATS_GROUP_MEMORY in groups else None,
        block=block_message(entry, host) if query_pb2.STATS_GROUP_BLOCK in groups else None,
        interface=interface_message(entry, host) if query_pb2.STATS_GROUP_INTERFACE in groups else None,
    )


def cpu_message(entry: Entry, host: Host) -> query_pb2.CpuStats:
    """CPU time."""
    reading = present(entry, entry.stats.cpu)
    observed = observation(host.stats_freshness(reading), reading)
    if reading is None:
        return query_pb2.CpuStats(observation=observed)
    stats = reading.value
    return query_pb2.CpuStats(
        observation=observed,
        cpu_time=duration_ns(stats.time_ns),
        user_time=duration_ns(stats.user_ns),
        system_time=duration_ns(stats.system_ns),
    )


def memory_message(entry: Entry, host: Host) -> query_pb2.MemoryStats:
    """Memory."""
    reading = present(entry, entry.stats.memory)
    observed = observation(host.stats_freshness(reading), reading)
    if reading is None:
        return query_pb2.MemoryStats(observation=observed)
    stats = reading.value
    return query_pb2.MemoryStats(
        observation=observed,
        **numbers(
            balloon_bytes=stats.actual_bytes,
            rss_bytes=stats.rss_bytes,
            available_bytes=stats.available_bytes,
            unused_bytes=stats.unused_bytes,
            usable_bytes=stats.usable_bytes,
            disk_caches_bytes=stats.disk_caches_bytes,
            swap_in_bytes=stats.swap_in_bytes,
            swap_out_bytes=stats.swap_out_bytes,
            major_faults=stats.major_faults,
            minor_faults=stats.minor_faults,
            hugetlb_allocations=stats.hugetlb_page_allocations,
            hugetlb_failures=stats.hugetlb_page_failures,
        ),
        # 0 is what a guest's driver that never reported leaves there.
        guest_update_time=timestamp(stats.last_update or None),
    )


def block_devices(entry: Entry) -> tuple[values.BlockStats, ...]:
    """The disks' statistics, empty while the domain is off and before the first sample."""
    reading = present(entry, entry.stats.block)
    return reading.value if reading is not None else ()


def block_message(entry: Entry, host: Host, devices: Iterable[values.BlockStats] | None = None) -> query_pb2.BlockStats:
    """Disks: all of them, or those that are given."""
    chosen = block_devices(entry) if devices is None else devices
    return query_pb2.BlockStats(observation=stats_observation(entry, host, entry.stats.block), devices=[_block(device) for device in chosen])


def _block(stats: values.BlockStats) -> query_pb2.BlockDeviceStats:
    return query_pb2.BlockDeviceStats(
        device=stats.target,
        path=stats.path,
        read_time=duration_ns(stats.read_time_ns),
        write_time=duration_ns(stats.write_time_ns),
        flush_time=duration_ns(stats.flush_time_ns),
        **numbers(
            read_requests=stats.read_requests,
            read_bytes=stats.read_bytes,
            write_requests=stats.write_requests,
            write_bytes=stats.write_bytes,
            flush_requests=stats.flush_requests,
            errors=stats.errors,
            capacity_bytes=stats.capacity_bytes,
            allocation_bytes=stats.allocation_bytes,
            threshold_bytes=stats.threshold_bytes,
            physical_bytes=stats.physical_bytes,
        ),
        disk_error=DISK_ERRORS.get(stats.error or "", query_pb2.DISK_ERROR_UNSPECIFIED),
    )


def interface_devices(entry: Entry) -> tuple[values.InterfaceStats, ...]:
    """The interfaces' statistics, empty while the domain is off and before the first sample."""
    reading = present(entry, entry.stats.interfaces)
    if reading is None:
        return ()
    # Samples seldom say whose hardware address it is; the definition does.
    known = {nic.target: nic.mac or None for nic in entry.config.value.interfaces} if entry.config is not None else {}
    return tuple(nic if nic.mac is not None else replace(nic, mac=known.get(nic.target)) for nic in reading.value)


def interface_message(entry: Entry, host: Host, devices: Iterable[values.InterfaceStats] | None = None) -> query_pb2.InterfaceStats:
    """Interfaces: all of them, or those that are given."""
    chosen = interface_devices(entry) if devices is None else devices
    observed = stats_observation(entry, host, entry.stats.interfaces)
    known = entry.config.value.addresses if entry.config is not None and entry.active else ()
    return query_pb2.InterfaceStats(observation=observed, devices=[_interface(device, known) for device in chosen])


def _address(address: values.Address) -> query_pb2.InterfaceAddress:
    return query_pb2.InterfaceAddress(address=address.address, prefix_bits=address.prefix, source=ADDRESS_SOURCES[address.source])


def _interface(stats: values.InterfaceStats, known: Iterable[values.Address]) -> query_pb2.InterfaceDeviceStats:
    mac = (stats.mac or "").lower()
    return query_pb2.InterfaceDeviceStats(
        addresses=[_address(address) for address in known if mac and address.mac == mac],
        device=stats.target,
        mac_address=stats.mac.lower() if stats.mac is not None else None,
        **numbers(
            rx_bytes=stats.rx_bytes,
            rx_packets=stats.rx_packets,
            rx_errors=stats.rx_errors,
            rx_drops=stats.rx_drops,
            tx_bytes=stats.tx_bytes,
            tx_packets=stats.tx_packets,
            tx_errors=stats.tx_errors,
            tx_drops=stats.tx_drops,
        ),
    )


def vcpus(entry: Entry) -> tuple[values.VcpuStats, ...]:
    """The virtual CPUs in order of number, empty while the domain is off and before the first sample."""
    reading = present(entry, entry.stats.vcpus)
    return tuple(sorted(reading.value, key=lambda vcpu: vcpu.number)) if reading is not None else ()


def vcpu_message(stats: values.VcpuStats) -> query_pb2.Vcpu:
    """One virtual CPU."""
    return query_pb2.Vcpu(
        number=stats.number,
        state=VCPU_STATES.get(stats.state or "", query_pb2.VCPU_STATE_UNSPECIFIED),
        cpu_time=duration_ns(stats.time_ns),
        affinity=stats.affinity,
        **numbers(host_cpu=stats.cpu),
    )
