"""Operations: what reaches a guest from outside, keys, interrupts and signals."""

from __future__ import annotations

from virtrpc_drivers.operations.base import Operation


class SendKey(Operation, frozen=True):
    """virDomainSendKey: all keys at once, held for this many milliseconds; 0 leaves that to the hypervisor. `keycode_set`: linux, xt …"""

    keycodes: tuple[int, ...]
    keycode_set: str = "linux"
    hold_ms: int = 0


class InjectNmi(Operation, frozen=True):
    """virDomainInjectNMI."""


class SendProcessSignal(Operation, frozen=True):
    """virDomainSendProcessSignal, by Linux's number."""

    pid: int
    signal: int


AnyKeys = SendKey | InjectNmi | SendProcessSignal
