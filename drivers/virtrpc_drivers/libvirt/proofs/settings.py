"""What proves operations: sizes and settings."""

from __future__ import annotations

from typing import Any

from virtrpc_drivers import operations as ops
from virtrpc_drivers.libvirt import domain_xml
from virtrpc_drivers.libvirt.proofs.common import Proof, Verdict, definitions
from virtrpc_drivers.libvirt.readings import KIB


def _memory_set(domain: Any, operation: ops.SetMemory) -> Verdict:
    wanted = -(-operation.memory_bytes // KIB) * KIB
    found = [domain_xml.sizes(xml) for xml in definitions(domain, operation.scope)]
    sizes = [size.max_memory_bytes if operation.maximum else size.memory_bytes for size in found]
    return Verdict(all(size == wanted for size in sizes), f"its memory is {' and '.join(str(size) for size in sizes)} bytes, {wanted} were asked for")


def _vcpus_set(domain: Any, operation: ops.SetVcpus) -> Verdict:
    if operation.guest:
        return Verdict(False, "what the agent did inside the guest is not read")
    sizes = [domain_xml.sizes(xml) for xml in definitions(domain, operation.scope)]
    found = [size.vcpus_maximum if operation.maximum else size.vcpus for size in sizes]
    return Verdict(all(number == operation.vcpus for number in found), f"it has {' and '.join(map(str, found))} virtual CPUs")


def _period_set(domain: Any, operation: ops.SetMemoryStatsPeriod) -> Verdict:
    found = [domain_xml.element(xml).find("devices/memballoon/stats") for xml in definitions(domain, operation.scope)]
    periods = [int(stats.get("period", "0")) if stats is not None else 0 for stats in found]
    return Verdict(all(period == operation.seconds for period in periods), f"its period is {' and '.join(map(str, periods))} s")


PROOFS: dict[str, Proof] = {
    "SetVcpus": _vcpus_set,
    "SetMemoryStatsPeriod": _period_set,
    "SetMemory": _memory_set,
}
