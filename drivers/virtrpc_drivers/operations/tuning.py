"""Operations: where a domain's threads run, how much its devices may carry, and what becomes of it when its guest ends."""

from __future__ import annotations

from virtrpc_drivers.operations.base import Operation, Scope
from virtrpc_drivers.values import Value


class PinVcpu(Operation, frozen=True):
    """virDomainPinVcpuFlags. `host_cpus`: the host's processors, from 0."""

    number: int
    host_cpus: tuple[int, ...]
    scope: Scope = Scope.CURRENT


class PinEmulator(Operation, frozen=True):
    """virDomainPinEmulator."""

    host_cpus: tuple[int, ...]
    scope: Scope = Scope.CURRENT


class AddIoThread(Operation, frozen=True):
    """virDomainAddIOThread."""

    number: int
    scope: Scope = Scope.CURRENT


class DeleteIoThread(Operation, frozen=True):
    """virDomainDelIOThread."""

    number: int
    scope: Scope = Scope.CURRENT


class PinIoThread(Operation, frozen=True):
    """virDomainPinIOThread."""

    number: int
    host_cpus: tuple[int, ...]
    scope: Scope = Scope.CURRENT


class SetBlockIoTune(Operation, frozen=True):
    """virDomainSetBlockIoTune. `limits` by their name in the definition's <iotune>, in bytes and operations a second; 0 is no limit."""

    device: str
    limits: dict[str, int]
    scope: Scope = Scope.CURRENT


class Bandwidth(Value, frozen=True):
    """What one direction may carry, in bytes and bytes a second; 0 is not said, and an average of 0 no limit at all."""

    average: int = 0
    peak: int = 0
    burst: int = 0
    floor: int = 0

    @property
    def in_kib(self) -> dict[str, int]:
        """As libvirt counts it, rounded up."""
        return {name: -(-getattr(self, name) // 1024) for name in self.__struct_fields__}


class SetInterfaceParameters(Operation, frozen=True):
    """virDomainSetInterfaceParameters. `device` is an interface's MAC or its name on the host; a direction that is None stays."""

    device: str
    inbound: Bandwidth | None = None
    outbound: Bandwidth | None = None
    scope: Scope = Scope.CURRENT


class SetLifecycleAction(Operation, frozen=True):
    """virDomainSetLifecycleAction. `event`: poweroff, reboot or crash; `action` as the definition writes it: destroy, restart, rename-restart …"""

    event: str
    action: str
    scope: Scope = Scope.CURRENT


class SetIoThreadParameters(Operation, frozen=True):
    """virDomainSetIOThreadParams. `parameters` by libvirt's names (poll_max_ns, poll_grow, poll_shrink, thread_pool_min, thread_pool_max)."""

    number: int
    parameters: dict[str, int]
    scope: Scope = Scope.CURRENT


class SetVcpu(Operation, frozen=True):
    """virDomainSetVcpu: plug these in or out."""

    vcpus: tuple[int, ...]
    enabled: bool
    scope: Scope = Scope.CURRENT


class SetPerfEvents(Operation, frozen=True):
    """virDomainSetPerfEvents, by libvirt's names."""

    events: dict[str, bool]
    scope: Scope = Scope.CURRENT


AnyTuning = (
    PinVcpu
    | PinEmulator
    | AddIoThread
    | DeleteIoThread
    | PinIoThread
    | SetBlockIoTune
    | SetInterfaceParameters
    | SetLifecycleAction
    | SetIoThreadParameters
    | SetVcpu
    | SetPerfEvents
)
