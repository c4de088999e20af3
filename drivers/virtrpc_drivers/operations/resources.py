"""Operations: what a domain may use of its host. Names of numbers are those of `virtrpc_drivers.resources`."""

from __future__ import annotations

from virtrpc_drivers.operations.base import Operation, Scope
from virtrpc_drivers.resources import BlkioDevice


class SetSchedulerParameters(Operation, frozen=True):
    """virDomainSetSchedulerParametersFlags, by SCHEDULER's names."""

    parameters: dict[str, int]
    scope: Scope = Scope.CURRENT


class SetMemoryParameters(Operation, frozen=True):
    """virDomainSetMemoryParameters, by MEMORY's names, in bytes; 0 is no limit."""

    limits: dict[str, int]
    scope: Scope = Scope.CURRENT


class SetNumaParameters(Operation, frozen=True):
    """virDomainSetNumaParameters. `mode` is one of NUMA_MODES; an empty one, and no nodes, are left as they are."""

    mode: str = ""
    nodes: tuple[int, ...] = ()
    scope: Scope = Scope.CURRENT


class SetBlkioParameters(Operation, frozen=True):
    """virDomainSetBlkioParameters; what is not said stays."""

    weight: int | None = None
    devices: tuple[BlkioDevice, ...] = ()
    scope: Scope = Scope.CURRENT


AnyResources = SetSchedulerParameters | SetMemoryParameters | SetNumaParameters | SetBlkioParameters
