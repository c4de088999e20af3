"""The libvirt calls of operations: sizes and settings."""

from __future__ import annotations

from typing import Any

import libvirt

from virtrpc_drivers import operations as ops
from virtrpc_drivers.errors import Reason, failure
from virtrpc_drivers.libvirt import capabilities, flags
from virtrpc_drivers.libvirt.operations.common import DONE, Verb, domain_of
from virtrpc_drivers.libvirt.readings import KIB
from virtrpc_drivers.libvirt.scopes import check_one
from virtrpc_drivers.values import Outcome

_ONE_DEFINITION = frozenset({"esx", "hyper-v", "openvz", "vbox"})
"""Their drivers have one definition for the running and the next guest, and take no flags where others take a scope."""


def set_memory(connection: Any, operation: ops.SetMemory) -> Outcome:
    """virDomainSetMemoryFlags; libvirt counts in KiB, rounded up here. Without flags virDomainSetMemory, virDomainSetMaxMemory."""
    domain = domain_of(connection, operation)
    kib = -(-operation.memory_bytes // KIB)
    if _has_one_definition(connection):
        check_one(domain, operation.scope)
        (domain.setMaxMemory if operation.maximum else domain.setMemory)(kib)
        return DONE
    domain.setMemoryFlags(kib, flags.scope(operation.scope) | flags.union((operation.maximum, libvirt.VIR_DOMAIN_MEM_MAXIMUM)))
    return DONE


def set_vcpus(connection: Any, operation: ops.SetVcpus) -> Outcome:
    """virDomainSetVcpusFlags. Without flags virDomainSetVcpus."""
    domain = domain_of(connection, operation)
    if _has_one_definition(connection):
        return _set_vcpus_plainly(domain, operation)
    wanted = flags.union(
        (operation.maximum, libvirt.VIR_DOMAIN_VCPU_MAXIMUM),
        (operation.guest, libvirt.VIR_DOMAIN_VCPU_GUEST),
        (operation.hotpluggable, libvirt.VIR_DOMAIN_VCPU_HOTPLUGGABLE),
    )
    domain.setVcpusFlags(operation.vcpus, flags.scope(_told_scope(connection, domain, operation.scope)) | wanted)
    return DONE


def _set_vcpus_plainly(domain: Any, operation: ops.SetVcpus) -> Outcome:
    if operation.maximum or operation.guest or operation.hotpluggable:
        raise failure(Reason.UNSUPPORTED, "this hypervisor sets the number of virtual CPUs alone: no maximum, not by the agent, none hotpluggable")
    check_one(domain, operation.scope)
    domain.setVcpus(operation.vcpus)
    return DONE


def _told_scope(connection: Any, domain: Any, scope: ops.Scope) -> ops.Scope:
    """The scope in so many words: Xen's driver does not work out by itself what virDomainSetVcpusFlags is to affect."""
    if scope is not ops.Scope.CURRENT or capabilities.hypervisor_of(connection) != "xen":
        return scope
    return ops.Scope.LIVE if domain.isActive() else ops.Scope.CONFIG


def _has_one_definition(connection: Any) -> bool:
    return capabilities.hypervisor_of(connection) in _ONE_DEFINITION


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
