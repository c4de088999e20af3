"""The libvirt calls of operations: what a domain may use of its host."""

from __future__ import annotations

from typing import Any

from virtrpc_drivers import operations as ops
from virtrpc_drivers.errors import Reason, failure
from virtrpc_drivers.libvirt import capabilities
from virtrpc_drivers.libvirt.operations.common import DONE, Verb, domain_of
from virtrpc_drivers.libvirt.resources import CRASHES_WHEN_OFF, ONE_SCHEDULER, SHARES, UNLIMITED_KIB
from virtrpc_drivers.libvirt.scopes import check_one, in_turn
from virtrpc_drivers.resources import BLKIO_LIMITS, NUMA_MODES, QUOTAS, in_kib
from virtrpc_drivers.values import Outcome

_UNLIMITED = QUOTAS | {"limit"}
"""Parameters of schedulers whose word for no limit is -1."""


def set_scheduler_parameters(connection: Any, operation: ops.SetSchedulerParameters) -> Outcome:
    """virDomainSetSchedulerParametersFlags. Without flags virDomainSetSchedulerParameters."""
    domain, hypervisor = domain_of(connection, operation), capabilities.hypervisor_of(connection)
    wanted = {_name(name, hypervisor): -1 if not number and name in _UNLIMITED else number for name, number in operation.parameters.items()}
    if hypervisor in ONE_SCHEDULER:
        check_one(domain, operation.scope)
        _check_names(domain.schedulerParameters(), wanted)
        domain.setSchedulerParameters(wanted)
        return DONE
    if hypervisor in CRASHES_WHEN_OFF and not domain.isActive():
        raise failure(Reason.WRONG_STATE, "this hypervisor takes it while the domain runs")
    _check_names(domain.schedulerParametersFlags(0), wanted)
    for scope in in_turn(operation.scope):
        domain.setSchedulerParametersFlags(wanted, scope)
    return DONE


def _name(name: str, hypervisor: str) -> str:
    return SHARES.get(hypervisor, name) if name == "cpu_shares" else name


def _check_names(known: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Refuse what the hypervisor does not count with: libvirt-python would raise an error of its own."""
    strange = sorted(wanted.keys() - known.keys())
    if strange:
        raise failure(Reason.UNSUPPORTED, f"this hypervisor has no {', '.join(strange)}; it has {', '.join(sorted(known))}")


def set_memory_parameters(connection: Any, operation: ops.SetMemoryParameters) -> Outcome:
    """virDomainSetMemoryParameters; libvirt counts in KiB."""
    wanted = {name: in_kib(limit) if limit else UNLIMITED_KIB for name, limit in operation.limits.items()}
    domain = domain_of(connection, operation)
    for scope in in_turn(operation.scope):
        domain.setMemoryParameters(wanted, scope)
    return DONE


def set_numa_parameters(connection: Any, operation: ops.SetNumaParameters) -> Outcome:
    """virDomainSetNumaParameters."""
    wanted: dict[str, int | str] = {}
    if operation.mode:
        wanted["numa_mode"] = NUMA_MODES.index(operation.mode)
    if operation.nodes:
        wanted["numa_nodeset"] = ",".join(map(str, operation.nodes))
    domain = domain_of(connection, operation)
    for scope in in_turn(operation.scope):
        domain.setNumaParameters(wanted, scope)
    return DONE


def set_blkio_parameters(connection: Any, operation: ops.SetBlkioParameters) -> Outcome:
    """virDomainSetBlkioParameters: one text for each limit, with the devices' paths and numbers in turn."""
    wanted: dict[str, int | str] = {} if operation.weight is None else {"weight": operation.weight}
    for name in BLKIO_LIMITS:
        said = [f"{device.path},{device.limits[name]}" for device in operation.devices if name in device.limits]
        if said:
            wanted[f"device_{name}"] = ",".join(said)
    domain = domain_of(connection, operation)
    for scope in in_turn(operation.scope):
        domain.setBlkioParameters(wanted, scope)
    return DONE


VERBS: dict[str, Verb] = {
    "SetSchedulerParameters": set_scheduler_parameters,
    "SetMemoryParameters": set_memory_parameters,
    "SetNumaParameters": set_numa_parameters,
    "SetBlkioParameters": set_blkio_parameters,
}
FUNCTIONS: dict[str, str] = {"SetSchedulerParameters": "virDomainSetSchedulerParametersFlags"}
