"""The libvirt calls of operations: sizes and settings."""

from __future__ import annotations

from typing import Any

import libvirt

from virtrpc_drivers import operations as ops
from virtrpc_drivers.libvirt import flags
from virtrpc_drivers.libvirt.operations.common import DONE, Verb, domain_of
from virtrpc_drivers.libvirt.readings import KIB
from virtrpc_drivers.values import Outcome


def set_memory(connection: Any, operation: ops.SetMemory) -> Outcome:
    """virDomainSetMemoryFlags; libvirt counts in KiB, rounded up here."""
    wanted = flags.scope(operation.scope) | flags.union((operation.maximum, libvirt.VIR_DOMAIN_MEM_MAXIMUM))
    domain_of(connection, operation).setMemoryFlags(-(-operation.memory_bytes // KIB), wanted)
    return DONE


def set_vcpus(connection: Any, operation: ops.SetVcpus) -> Outcome:
    """virDomainSetVcpusFlags."""
    wanted = flags.union(
        (operation.maximum, libvirt.VIR_DOMAIN_VCPU_MAXIMUM),
        (operation.guest, libvirt.VIR_DOMAIN_VCPU_GUEST),
        (operation.hotpluggable, libvirt.VIR_DOMAIN_VCPU_HOTPLUGGABLE),
    )
    domain_of(connection, operation).setVcpusFlags(operation.vcpus, flags.scope(operation.scope) | wanted)
    return DONE


def set_memory_stats_period(connection: Any, operation: ops.SetMemoryStatsPeriod) -> Outcome:
    """virDomainSetMemoryStatsPeriod."""
    domain_of(connection, operation).setMemoryStatsPeriod(operation.seconds, flags.scope(operation.scope))
    return DONE


VERBS: dict[str, Verb] = {
    "SetVcpus": set_vcpus,
    "SetMemoryStatsPeriod": set_memory_stats_period,
    "SetMemory": set_memory,
}
FUNCTIONS: dict[str, str] = {
    "SetVcpus": "virDomainSetVcpusFlags",
    "SetMemory": "virDomainSetMemoryFlags",
}
