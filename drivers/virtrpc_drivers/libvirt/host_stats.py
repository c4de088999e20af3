"""How busy a host is."""

from __future__ import annotations

from typing import Any

import libvirt

from virtrpc_drivers.libvirt.readings import KIB, Clock, optional
from virtrpc_drivers.values import HostStats


def host_stats(connection: Any, clock: Clock) -> HostStats:
    """virNodeGetCPUStats and virNodeGetMemoryStats of the whole host, else virNodeGetFreeMemory; no domain is asked."""
    stamp = clock.stamp()
    cpu: dict[str, int] = optional(lambda: connection.getCPUStats(libvirt.VIR_NODE_CPU_STATS_ALL_CPUS, 0)) or {}
    memory: dict[str, int] = optional(lambda: connection.getMemoryStats(libvirt.VIR_NODE_MEMORY_STATS_ALL_CELLS, 0)) or {}
    sizes = {name: value * KIB for name, value in memory.items()}
    return HostStats(
        stamp=stamp,
        user_ns=cpu.get("user"),
        system_ns=cpu.get("kernel"),
        idle_ns=cpu.get("idle"),
        iowait_ns=cpu.get("iowait"),
        memory_bytes=sizes.get("total"),
        free_bytes=sizes.get("free", optional(connection.getFreeMemory)),
        buffers_bytes=sizes.get("buffers"),
        cached_bytes=sizes.get("cached"),
    )
