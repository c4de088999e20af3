"""The libvirt calls of operations: starting, stopping and saving domains."""

from __future__ import annotations

import time
from typing import Any

import libvirt

from virtrpc_drivers import operations as ops
from virtrpc_drivers.errors import Reason, failure
from virtrpc_drivers.libvirt import flags
from virtrpc_drivers.libvirt.operations.common import DONE, Verb, domain_of
from virtrpc_drivers.values import Outcome

_SETTLE_SECONDS = 2.0
"""How long a guest that was killed may still be listed as running."""


def suspend(connection: Any, operation: ops.Suspend) -> Outcome:
    """virDomainSuspend."""
    domain_of(connection, operation).suspend()
    return DONE


def resume(connection: Any, operation: ops.Resume) -> Outcome:
    """virDomainResume."""
    domain_of(connection, operation).resume()
    return DONE


def start(connection: Any, operation: ops.Start) -> Outcome:
    """virDomainCreateWithFlags, or virDomainCreate for hypervisors that have only that."""
    domain = domain_of(connection, operation)
    wanted = flags.union(
        (operation.paused, libvirt.VIR_DOMAIN_START_PAUSED),
        (operation.force_boot, libvirt.VIR_DOMAIN_START_FORCE_BOOT),
        (operation.bypass_cache, libvirt.VIR_DOMAIN_START_BYPASS_CACHE),
    )
    if wanted:
        domain.createWithFlags(wanted)
    else:
        domain.create()
    return DONE


def shutdown(connection: Any, operation: ops.Shutdown) -> Outcome:
    """virDomainShutdownFlags: it only asks."""
    wanted = flags.shutdown(operation.mode)
    domain = domain_of(connection, operation)
    if wanted:
        domain.shutdownFlags(wanted)
    else:
        domain.shutdown()
    return DONE


def reboot(connection: Any, operation: ops.Reboot) -> Outcome:
    """virDomainReboot: it only asks."""
    wanted = flags.reboot(operation.mode)
    domain_of(connection, operation).reboot(wanted)
    return DONE


def destroy(connection: Any, operation: ops.Destroy) -> Outcome:
    """virDomainDestroyFlags, judged by what became of the guest.

    libvirt kills the process first and takes the domain's job after: an error from the second step says nothing about the first.
    """
    domain = domain_of(connection, operation)
    if not domain.isActive():
        domain.destroy()  # refused, in libvirt's own words
        return DONE
    try:
        if operation.graceful:
            domain.destroyFlags(libvirt.VIR_DOMAIN_DESTROY_GRACEFUL)
        else:
            domain.destroy()
    except libvirt.libvirtError:
        if not _is_off(connection, operation.uuid):
            raise
    return DONE


def _is_off(connection: Any, uuid: str) -> bool:
    end = time.monotonic() + _SETTLE_SECONDS
    while True:
        try:
            if not connection.lookupByUUIDString(uuid).isActive():
                return True
        except libvirt.libvirtError as error:
            return bool(error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN)
        if time.monotonic() > end:
            return False
        time.sleep(0.1)


def managed_save(connection: Any, operation: ops.ManagedSave) -> Outcome:
    """virDomainManagedSave."""
    wanted = flags.after_save(operation.after_restore) | flags.union((operation.bypass_cache, libvirt.VIR_DOMAIN_SAVE_BYPASS_CACHE))
    domain_of(connection, operation).managedSave(wanted)
    return DONE


def remove_managed_save(connection: Any, operation: ops.RemoveManagedSave) -> Outcome:
    """virDomainManagedSaveRemove. Raises WRONG_STATE where there is no image: libvirt's drivers disagree about that."""
    domain = domain_of(connection, operation)
    if not domain.hasManagedSaveImage(0):
        raise failure(Reason.WRONG_STATE, "the domain has no managed save image")
    domain.managedSaveRemove(0)
    return DONE


def reset(connection: Any, operation: ops.Reset) -> Outcome:
    """virDomainReset."""
    domain_of(connection, operation).reset(0)
    return DONE


def suspend_for_duration(connection: Any, operation: ops.PowerManagementSuspend) -> Outcome:
    """virDomainPMSuspendForDuration; no hypervisor takes a duration."""
    domain_of(connection, operation).pMSuspendForDuration(flags.suspend_target(operation.target), 0, 0)
    return DONE


def wake_up(connection: Any, operation: ops.PowerManagementWakeup) -> Outcome:
    """virDomainPMWakeup."""
    domain_of(connection, operation).pMWakeup(0)
    return DONE


VERBS: dict[str, Verb] = {
    "Reset": reset,
    "PowerManagementSuspend": suspend_for_duration,
    "PowerManagementWakeup": wake_up,
    "Suspend": suspend,
    "Resume": resume,
    "Start": start,
    "Shutdown": shutdown,
    "Reboot": reboot,
    "Destroy": destroy,
    "ManagedSave": managed_save,
    "RemoveManagedSave": remove_managed_save,
}
FUNCTIONS: dict[str, str] = {
    "PowerManagementSuspend": "virDomainPMSuspendForDuration",
    "PowerManagementWakeup": "virDomainPMWakeup",
    "Start": "virDomainCreateWithFlags",
    "Destroy": "virDomainDestroyFlags",
    "RemoveManagedSave": "virDomainManagedSaveRemove",
}
