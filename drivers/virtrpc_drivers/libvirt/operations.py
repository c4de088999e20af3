"""One function a verb: the blocking libvirt call, on the lane's connection, with the domain looked up afresh."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import libvirt
from msgspec.structs import replace

from virtrpc_drivers import operations as ops
from virtrpc_drivers.errors import DriverError, Reason, failure
from virtrpc_drivers.libvirt import flags, migration, snapshots
from virtrpc_drivers.libvirt.errors import fault_of
from virtrpc_drivers.libvirt.readings import KIB, optional
from virtrpc_drivers.values import Outcome

DONE = Outcome()
_SETTLE_SECONDS = 2.0
"""How long a guest that was killed may still be listed as running."""

Verb = Callable[[Any, Any], Outcome]


def _domain(connection: Any, operation: ops.Operation) -> Any:
    return connection.lookupByUUIDString(operation.uuid)


def suspend(connection: Any, operation: ops.Suspend) -> Outcome:
    """virDomainSuspend."""
    _domain(connection, operation).suspend()
    return DONE


def resume(connection: Any, operation: ops.Resume) -> Outcome:
    """virDomainResume."""
    _domain(connection, operation).resume()
    return DONE


def start(connection: Any, operation: ops.Start) -> Outcome:
    """virDomainCreateWithFlags, or virDomainCreate for hypervisors that have only that."""
    domain = _domain(connection, operation)
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


def destroy(connection: Any, operation: ops.Destroy) -> Outcome:
    """virDomainDestroyFlags, judged by what became of the guest.

    libvirt kills the process first and takes the domain's job after: an error from the second step says nothing about the first.
    """
    domain = _domain(connection, operation)
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


def define(connection: Any, operation: ops.Define) -> Outcome:
    """virDomainDefineXMLFlags, or virDomainDefineXML for hypervisors that have only that."""
    if operation.validate:
        connection.defineXMLFlags(operation.xml, libvirt.VIR_DOMAIN_DEFINE_VALIDATE)
    else:
        connection.defineXML(operation.xml)
    return DONE


def create(connection: Any, operation: ops.Create) -> Outcome:
    """virDomainCreateXML."""
    wanted = flags.union((operation.paused, libvirt.VIR_DOMAIN_START_PAUSED), (operation.validate, libvirt.VIR_DOMAIN_START_VALIDATE))
    connection.createXML(operation.xml, wanted)
    return DONE


def undefine(connection: Any, operation: ops.Undefine) -> Outcome:
    """virDomainUndefineFlags."""
    domain = _domain(connection, operation)
    wanted = flags.undefine(operation)
    if wanted:
        domain.undefineFlags(wanted)
    else:
        domain.undefine()
    return DONE


def attach_device(connection: Any, operation: ops.AttachDevice) -> Outcome:
    """virDomainAttachDeviceFlags. Raises ALREADY_EXISTS where the target is taken: libvirt has three codes for that."""
    try:
        _domain(connection, operation).attachDeviceFlags(operation.xml, flags.scope(operation.scope))
    except libvirt.libvirtError as error:
        if "already exists" in str(error) or ("duplicated" in str(error) and error.get_error_code() == libvirt.VIR_ERR_XML_ERROR):
            raise DriverError(replace(fault_of(error), reason=Reason.ALREADY_EXISTS)) from None
        raise
    return DONE


def detach_device(connection: Any, operation: ops.DetachDevice) -> Outcome:
    """virDomainDetachDeviceFlags: on a running guest it only asks."""
    _domain(connection, operation).detachDeviceFlags(operation.xml, flags.scope(operation.scope))
    return DONE


def update_device(connection: Any, operation: ops.UpdateDevice) -> Outcome:
    """virDomainUpdateDeviceFlags."""
    wanted = flags.scope(operation.scope) | flags.union((operation.force, libvirt.VIR_DOMAIN_DEVICE_MODIFY_FORCE))
    _domain(connection, operation).updateDeviceFlags(operation.xml, wanted)
    return DONE


def shutdown(connection: Any, operation: ops.Shutdown) -> Outcome:
    """virDomainShutdownFlags: it only asks."""
    wanted = flags.shutdown(operation.mode)
    domain = _domain(connection, operation)
    if wanted:
        domain.shutdownFlags(wanted)
    else:
        domain.shutdown()
    return DONE


def reboot(connection: Any, operation: ops.Reboot) -> Outcome:
    """virDomainReboot: it only asks."""
    wanted = flags.reboot(operation.mode)
    _domain(connection, operation).reboot(wanted)
    return DONE


def set_user_password(connection: Any, operation: ops.SetUserPassword) -> Outcome:
    """virDomainSetUserPassword."""
    wanted = flags.union((operation.encrypted, libvirt.VIR_DOMAIN_PASSWORD_ENCRYPTED))
    _domain(connection, operation).setUserPassword(operation.user, operation.password, wanted)
    return DONE


def managed_save(connection: Any, operation: ops.ManagedSave) -> Outcome:
    """virDomainManagedSave."""
    wanted = flags.after_save(operation.after_restore) | flags.union((operation.bypass_cache, libvirt.VIR_DOMAIN_SAVE_BYPASS_CACHE))
    _domain(connection, operation).managedSave(wanted)
    return DONE


def remove_managed_save(connection: Any, operation: ops.RemoveManagedSave) -> Outcome:
    """virDomainManagedSaveRemove. Raises WRONG_STATE where there is no image: libvirt's drivers disagree about that."""
    domain = _domain(connection, operation)
    if not domain.hasManagedSaveImage(0):
        raise failure(Reason.WRONG_STATE, "the domain has no managed save image")
    domain.managedSaveRemove(0)
    return DONE


def set_memory(connection: Any, operation: ops.SetMemory) -> Outcome:
    """virDomainSetMemoryFlags; libvirt counts in KiB, rounded up here."""
    wanted = flags.scope(operation.scope) | flags.union((operation.maximum, libvirt.VIR_DOMAIN_MEM_MAXIMUM))
    _domain(connection, operation).setMemoryFlags(-(-operation.memory_bytes // KIB), wanted)
    return DONE


def create_snapshot(connection: Any, operation: ops.CreateSnapshot) -> Outcome:
    """virDomainSnapshotCreateXML; the outcome carries the snapshot as libvirt then describes it."""
    made = _domain(connection, operation).snapshotCreateXML(operation.xml, flags.create_snapshot(operation))
    return Outcome(snapshot=optional(lambda: snapshots.describe(made)))


def revert_to_snapshot(connection: Any, operation: ops.RevertToSnapshot) -> Outcome:
    """virDomainRevertToSnapshot."""
    domain = _domain(connection, operation)
    domain.revertToSnapshot(domain.snapshotLookupByName(operation.name, 0), flags.revert(operation))
    return DONE


def delete_snapshot(connection: Any, operation: ops.DeleteSnapshot) -> Outcome:
    """virDomainSnapshotDelete."""
    _domain(connection, operation).snapshotLookupByName(operation.name, 0).delete(flags.delete_snapshot(operation))
    return DONE


VERBS: dict[str, Verb] = {
    "Suspend": suspend,
    "Resume": resume,
    "Start": start,
    "Shutdown": shutdown,
    "Reboot": reboot,
    "Destroy": destroy,
    "Define": define,
    "Create": create,
    "Undefine": undefine,
    "AttachDevice": attach_device,
    "DetachDevice": detach_device,
    "UpdateDevice": update_device,
    "SetUserPassword": set_user_password,
    "ManagedSave": managed_save,
    "SetMemory": set_memory,
    "CreateSnapshot": create_snapshot,
    "RevertToSnapshot": revert_to_snapshot,
    "DeleteSnapshot": delete_snapshot,
    "RemoveManagedSave": remove_managed_save,
    "Migrate": migration.migrate,
}
"""Every operation's call, by its tag."""


_FUNCTIONS: dict[str, str] = {
    "Start": "virDomainCreateWithFlags",
    "Destroy": "virDomainDestroyFlags",
    "Define": "virDomainDefineXMLFlags",
    "Create": "virDomainCreateXML",
    "Undefine": "virDomainUndefineFlags",
    "AttachDevice": "virDomainAttachDeviceFlags",
    "DetachDevice": "virDomainDetachDeviceFlags",
    "UpdateDevice": "virDomainUpdateDeviceFlags",
    "SetMemory": "virDomainSetMemoryFlags",
    "CreateSnapshot": "virDomainSnapshotCreateXML",
    "DeleteSnapshot": "virDomainSnapshotDelete",
    "RemoveManagedSave": "virDomainManagedSaveRemove",
    "Migrate": "virDomainMigrateToURI3",
}


def function(operation: ops.Operation) -> str:
    """The libvirt function behind an operation, for traces."""
    return _FUNCTIONS.get(operation.verb, f"virDomain{operation.verb}")
