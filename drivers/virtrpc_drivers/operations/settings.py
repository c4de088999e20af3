"""Operations: sizes and settings of a domain."""

from __future__ import annotations

from virtrpc_drivers.operations.base import Operation, Scope


class SetMemory(Operation, frozen=True):
    """virDomainSetMemoryFlags; `maximum` sets the boot-time maximum instead (stored definition only)."""

    memory_bytes: int
    scope: Scope = Scope.CURRENT
    maximum: bool = False


AnySettings = SetMemory
