"""Operations: starting, stopping and saving domains."""

from __future__ import annotations

from virtrpc_drivers.operations.base import Operation


class Suspend(Operation, frozen=True):
    """virDomainSuspend."""


class Resume(Operation, frozen=True):
    """virDomainResume."""


class Start(Operation, frozen=True):
    """virDomainCreateWithFlags; restores from a managed save image where there is one, unless `force_boot`."""

    paused: bool = False
    force_boot: bool = False
    bypass_cache: bool = False


class Shutdown(Operation, frozen=True):
    """virDomainShutdownFlags; done when the guest is off. `mode`: "", acpi, agent, initctl, signal or paravirt."""

    mode: str = ""


class Reboot(Operation, frozen=True):
    """virDomainReboot; done when the guest has restarted. `mode` as for Shutdown."""

    mode: str = ""


class Destroy(Operation, frozen=True):
    """virDomainDestroyFlags; `graceful` sends SIGTERM only."""

    graceful: bool = False


class ManagedSave(Operation, frozen=True):
    """virDomainManagedSave. `after_restore`: "", "running" or "paused"."""

    bypass_cache: bool = False
    after_restore: str = ""


class RemoveManagedSave(Operation, frozen=True):
    """virDomainManagedSaveRemove."""


class Reset(Operation, frozen=True):
    """virDomainReset."""


class PowerManagementSuspend(Operation, frozen=True):
    """virDomainPMSuspendForDuration. `target`: memory, disk or hybrid."""

    target: str = "memory"


class PowerManagementWakeup(Operation, frozen=True):
    """virDomainPMWakeup."""


AnyLifecycle = (
    Suspend | Resume | Start | Shutdown | Reboot | Destroy | ManagedSave | RemoveManagedSave | Reset | PowerManagementSuspend | PowerManagementWakeup
)
