"""The libvirt calls of operations: where threads run, what devices may carry, what becomes of a domain."""

from __future__ import annotations

from typing import Any

from virtrpc_drivers import operations as ops
from virtrpc_drivers.errors import Reason, failure
from virtrpc_drivers.libvirt import flags
from virtrpc_drivers.libvirt.operations.common import DONE, Verb, domain_of
from virtrpc_drivers.libvirt.readings import optional
from virtrpc_drivers.libvirt.scopes import in_turn
from virtrpc_drivers.values import Outcome


def pin_vcpu(connection: Any, operation: ops.PinVcpu) -> Outcome:
    """virDomainPinVcpuFlags."""
    domain_of(connection, operation).pinVcpuFlags(operation.number, _map(connection, operation.host_cpus), flags.scope(operation.scope))
    return DONE


def pin_emulator(connection: Any, operation: ops.PinEmulator) -> Outcome:
    """virDomainPinEmulator."""
    domain_of(connection, operation).pinEmulator(_map(connection, operation.host_cpus), flags.scope(operation.scope))
    return DONE


def add_io_thread(connection: Any, operation: ops.AddIoThread) -> Outcome:
    """virDomainAddIOThread."""
    domain_of(connection, operation).addIOThread(operation.number, flags.scope(operation.scope))
    return DONE


def delete_io_thread(connection: Any, operation: ops.DeleteIoThread) -> Outcome:
    """virDomainDelIOThread."""
    domain_of(connection, operation).delIOThread(operation.number, flags.scope(operation.scope))
    return DONE


def pin_io_thread(connection: Any, operation: ops.PinIoThread) -> Outcome:
    """virDomainPinIOThread."""
    domain_of(connection, operation).pinIOThread(operation.number, _map(connection, operation.host_cpus), flags.scope(operation.scope))
    return DONE


def set_block_io_tune(connection: Any, operation: ops.SetBlockIoTune) -> Outcome:
    """virDomainSetBlockIoTune, whose parameters are called as in the definition."""
    domain_of(connection, operation).setBlockIoTune(operation.device, operation.limits, flags.scope(operation.scope))
    return DONE


def set_interface_parameters(connection: Any, operation: ops.SetInterfaceParameters) -> Outcome:
    """virDomainSetInterfaceParameters; libvirt counts in KiB."""
    given = {"inbound": operation.inbound, "outbound": operation.outbound}
    parameters = {
        f"{direction}.{name}": number
        for direction, bandwidth in given.items()
        if bandwidth is not None
        for name, number in bandwidth.in_kib.items()
        # Only what is received has a floor.
        if name != "floor" or number
    }
    domain = domain_of(connection, operation)
    for scope in in_turn(operation.scope):
        domain.setInterfaceParameters(operation.device, parameters, scope)
    return DONE


def set_lifecycle_action(connection: Any, operation: ops.SetLifecycleAction) -> Outcome:
    """virDomainSetLifecycleAction."""
    event, action = flags.lifecycle(operation.event), flags.lifecycle_action(operation.action)
    domain_of(connection, operation).setLifecycleAction(event, action, flags.scope(operation.scope))
    return DONE


def set_io_thread_parameters(connection: Any, operation: ops.SetIoThreadParameters) -> Outcome:
    """virDomainSetIOThreadParams."""
    domain_of(connection, operation).setIOThreadParams(operation.number, operation.parameters, flags.scope(operation.scope))
    return DONE


def set_vcpu(connection: Any, operation: ops.SetVcpu) -> Outcome:
    """virDomainSetVcpu."""
    domain_of(connection, operation).setVcpu(",".join(map(str, operation.vcpus)), int(operation.enabled), flags.scope(operation.scope))
    return DONE


def set_perf_events(connection: Any, operation: ops.SetPerfEvents) -> Outcome:
    """virDomainSetPerfEvents."""
    domain = domain_of(connection, operation)
    for scope in in_turn(operation.scope):
        domain.setPerfEvents(operation.events, scope)
    return DONE


def _map(connection: Any, host_cpus: tuple[int, ...]) -> tuple[bool, ...]:
    """The processors as libvirt-python takes them. It would leave out those that the host does not have, so they are refused here."""
    answer = optional(connection.getCPUMap)
    if answer and max(host_cpus) >= answer[0]:
        raise failure(Reason.INVALID_ARGUMENT, f"the host has the processors 0 to {answer[0] - 1}, not {max(host_cpus)}")
    return tuple(number in host_cpus for number in range(max(host_cpus) + 1))


VERBS: dict[str, Verb] = {
    "PinVcpu": pin_vcpu,
    "PinEmulator": pin_emulator,
    "AddIoThread": add_io_thread,
    "DeleteIoThread": delete_io_thread,
    "PinIoThread": pin_io_thread,
    "SetBlockIoTune": set_block_io_tune,
    "SetInterfaceParameters": set_interface_parameters,
    "SetLifecycleAction": set_lifecycle_action,
    "SetIoThreadParameters": set_io_thread_parameters,
    "SetVcpu": set_vcpu,
    "SetPerfEvents": set_perf_events,
}
FUNCTIONS: dict[str, str] = {
    "PinVcpu": "virDomainPinVcpuFlags",
    "AddIoThread": "virDomainAddIOThread",
    "DeleteIoThread": "virDomainDelIOThread",
    "PinIoThread": "virDomainPinIOThread",
    "SetIoThreadParameters": "virDomainSetIOThreadParams",
}
