"""Statistics that move: made of the loop's time and the guest's number, so that a seed and virtual time give the same ones."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from virtrpc_drivers.sim.domain import SimDomain
from virtrpc_drivers.sim.host import CPUS, MEMORY_BYTES
from virtrpc_drivers.sim.shapes import row
from virtrpc_drivers.values import BlockStats, CpuStats, HostStats, InterfaceStats, MemoryStats, Stamp, StatsReading, VcpuStats

if TYPE_CHECKING:
    from virtrpc_drivers.sim.hypervisor import SimHypervisor


def reading(hypervisor: SimHypervisor, domain: SimDomain, stamp: Stamp, *, partial: bool) -> StatsReading:
    """What a sweep says of one running domain; of one whose job is held (`partial`), only its processor time."""
    domain.count(hypervisor.now())
    ran = domain.worked
    vcpus = domain.definition.config.vcpus_config or 1
    if partial:
        return StatsReading(uuid=domain.uuid, stamp=stamp, cpu=CpuStats(time_ns=domain.cpu_time_ns))

    def has(rpc: str) -> bool:
        return row(hypervisor.options.shape, rpc).supported

    rate = 1 + zlib.crc32(domain.uuid.encode()) % 64
    config = domain.definition.config
    return StatsReading(
        uuid=domain.uuid,
        stamp=stamp,
        cpu=CpuStats(time_ns=domain.cpu_time_ns),
        memory=_memory(hypervisor, domain, ran, rate) if has("GetMemoryStats") else None,
        block=tuple(_disk(disk.target, disk.source, int(ran * rate), domain) for disk in config.disks) if has("GetBlockStats") else None,
        interfaces=tuple(_interface(card.target or card.mac, card.mac, int(ran * rate)) for card in config.interfaces)
        if has("GetInterfaceStats")
        else None,
        vcpus=tuple(_vcpu(number, domain.cpu_time_ns // vcpus) for number in range(vcpus)) if has("ListVcpus") else None,
    )


def host_reading(hypervisor: SimHypervisor, stamp: Stamp) -> HostStats:
    """How busy the simulated host is: its guests' processor time, and the memory that they have."""
    running = [domain for domain in hypervisor.domains.values() if domain.active]
    used = sum(domain.definition.config.memory_bytes or 0 for domain in running)
    busy = sum(domain.cpu_time_ns for domain in running)
    return HostStats(
        stamp=stamp,
        user_ns=busy,
        system_ns=busy // 10,
        idle_ns=int(hypervisor.now() * 1e9) * CPUS,
        iowait_ns=0,
        memory_bytes=MEMORY_BYTES,
        free_bytes=max(0, MEMORY_BYTES - used),
        buffers_bytes=0,
        cached_bytes=0,
    )


def _vcpu(number: int, time_ns: int) -> VcpuStats:
    return VcpuStats(number=number, state="running", time_ns=time_ns, cpu=number % CPUS)


def _memory(hypervisor: SimHypervisor, domain: SimDomain, ran: float, rate: int) -> MemoryStats:
    size = domain.definition.config.memory_bytes or 0
    used = size // 4 + int(ran * rate * 4096) % max(1, size // 4)
    return MemoryStats(
        actual_bytes=size,
        swap_in_bytes=0,
        swap_out_bytes=0,
        major_faults=int(ran * rate / 16),
        minor_faults=int(ran * rate),
        unused_bytes=size - used,
        available_bytes=size,
        usable_bytes=size - used,
        rss_bytes=used,
        disk_caches_bytes=used // 8,
        last_update=int(hypervisor.wall()),
    )


def _disks(domain: SimDomain, units: int) -> tuple[BlockStats, ...]:
    return tuple(_disk(disk.target, disk.source, units, domain) for disk in domain.definition.config.disks)


def _disk(target: str, path: str | None, units: int, domain: SimDomain) -> BlockStats:
    return BlockStats(
        target=target,
        path=path,
        read_requests=units,
        read_bytes=units * 4096,
        read_time_ns=units * 100_000,
        write_requests=units // 2,
        write_bytes=units // 2 * 4096,
        write_time_ns=units * 80_000,
        flush_requests=units // 8,
        flush_time_ns=units * 10_000,
        errors=0,
        allocation_bytes=1 << 30,
        capacity_bytes=domain.capacities.get(target, 8 << 30),
        threshold_bytes=domain.thresholds.get(target) or None,
        physical_bytes=1 << 30,
    )


def _interface(target: str, mac: str, units: int) -> InterfaceStats:
    return InterfaceStats(
        target=target,
        mac=mac,
        rx_bytes=units * 600,
        rx_packets=units,
        rx_errors=0,
        rx_drops=0,
        tx_bytes=units * 300,
        tx_packets=units // 2,
        tx_errors=0,
        tx_drops=0,
    )
