"""The libvirt calls of operations: keys, interrupts and signals."""

from __future__ import annotations

from typing import Any

from virtrpc_drivers import operations as ops
from virtrpc_drivers.libvirt import flags
from virtrpc_drivers.libvirt.operations.common import DONE, Verb, domain_of
from virtrpc_drivers.values import Outcome


def send_key(connection: Any, operation: ops.SendKey) -> Outcome:
    """virDomainSendKey."""
    keys = list(operation.keycodes)
    domain_of(connection, operation).sendKey(flags.keycode_set(operation.keycode_set), operation.hold_ms, keys, len(keys), 0)
    return DONE


def inject_nmi(connection: Any, operation: ops.InjectNmi) -> Outcome:
    """virDomainInjectNMI."""
    domain_of(connection, operation).injectNMI(0)
    return DONE


def send_process_signal(connection: Any, operation: ops.SendProcessSignal) -> Outcome:
    """virDomainSendProcessSignal, whose numbers are Linux's."""
    domain_of(connection, operation).sendProcessSignal(operation.pid, operation.signal, 0)
    return DONE


VERBS: dict[str, Verb] = {
    "SendKey": send_key,
    "InjectNmi": inject_nmi,
    "SendProcessSignal": send_process_signal,
}
FUNCTIONS: dict[str, str] = {
    "InjectNmi": "virDomainInjectNMI",
}
