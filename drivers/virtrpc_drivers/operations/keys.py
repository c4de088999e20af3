"""Operations: what reaches a guest from outside, keys and interrupts."""

from __future__ import annotations

from virtrpc_drivers.operations.base import Operation


class SendKey(Operation, frozen=True):
    """virDomainSendKey: all keys at once, held for this many milliseconds; 0 leaves that to the hypervisor. `keycode_set`: linux, xt …"""

    keycodes: tuple[int, ...]
    keycode_set: str = "linux"
    hold_ms: int = 0


class InjectNmi(Operation, frozen=True):
    """virDomainInjectNMI."""


AnyKeys = SendKey | InjectNmi
