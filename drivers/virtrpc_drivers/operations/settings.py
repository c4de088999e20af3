"""Operations: sizes and settings of a domain."""

from __future__ import annotations

from virtrpc_drivers.operations.base import Operation, Scope


class SetMemory(Operation, frozen=True):
    """virDomainSetMemoryFlags; `maximum` sets the boot-time maximum instead (stored definition only)."""

    memory_bytes: int
    scope: Scope = Scope.CURRENT
    maximum: bool = False


class SetVcpus(Operation, frozen=True):
    """virDomainSetVcpusFlags; `maximum` sets the boot-time maximum instead, `guest` has the agent do it inside the guest."""

    vcpus: int
    scope: Scope = Scope.CURRENT
    maximum: bool = False
    guest: bool = False
    hotpluggable: bool = False


class SetMemoryStatsPeriod(Operation, frozen=True):
    """virDomainSetMemoryStatsPeriod; 0 switches the reports off."""

    seconds: int
    scope: Scope = Scope.CURRENT


AnySettings = SetMemory | SetVcpus | SetMemoryStatsPeriod
