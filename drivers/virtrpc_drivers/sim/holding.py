"""States and settings that prove a call whose caller was away, whoever brought them about: as the proofs of `libvirt`, one row a verb."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from virtrpc_drivers import operations as ops
from virtrpc_drivers.errors import DriverError
from virtrpc_drivers.merging import applied
from virtrpc_drivers.shown import SHOWN
from virtrpc_drivers.sim.checks import targets
from virtrpc_drivers.sim.domain import SaveImage, SimDomain
from virtrpc_drivers.sim.xmldoc import Document
from virtrpc_drivers.values import DomainConfig, State
from virtrpc_drivers.xml import parse


def holds(domain: SimDomain, operation: Any) -> bool:
    """Whether the state or the setting that was asked for is there; False for a verb that is proven otherwise, or not at all."""
    if operation.verb in SHOWN:
        return _documents(domain, operation, lambda document: SHOWN[operation.verb](document.copy(), operation))
    held = _HELD.get(operation.verb)
    return held is not None and held(domain, operation)


def image_says(image: SaveImage | None, operation: ops.DefineSaveImage | ops.DefineManagedSaveImage) -> bool:
    """Whether a saved guest's definition is as sent. As in libvirt nobody tells whether it is to be paused."""
    return image is not None and not operation.after_restore and image.document.text == operation.xml


def _documents(domain: SimDomain, operation: Any, shows: Callable[[Document], bool]) -> bool:
    """Whether each definition that the operation's scope names shows it; none does that is not there."""
    try:
        live, config = targets(domain, operation.scope)
        return all(shows(document) for document in ([domain.definition] if live else []) + ([domain.document] if config else []))
    except DriverError:
        return False


def _configs(domain: SimDomain, operation: Any, shows: Callable[[DomainConfig], bool]) -> bool:
    return _documents(domain, operation, lambda document: shows(document.config))


def _started(domain: SimDomain, operation: ops.Start | ops.Create) -> bool:
    if isinstance(operation, ops.Start) and operation.force_boot and domain.reason == "restored":
        return False
    return domain.state is State.RUNNING or (operation.paused and domain.state is State.PAUSED and domain.reason != "starting_up")


def _created(domain: SimDomain, operation: ops.Create) -> bool:
    return _started(domain, operation) and not domain.persistent and domain.document.text == operation.xml


def _defined(domain: SimDomain, operation: ops.Define) -> bool:
    as_sent = applied(domain.document.copy(), parse(operation.xml)) if operation.merge else domain.document.text == operation.xml
    return domain.persistent and as_sent


def _saved(domain: SimDomain, _operation: ops.ManagedSave) -> bool:
    return domain.state is State.SHUTOFF and domain.reason == "saved" and domain.image is not None


def _save_removed(domain: SimDomain, _operation: ops.RemoveManagedSave) -> bool:
    return domain.state is State.SHUTOFF and domain.reason in ("saved", "unknown") and domain.image is None


def _memory_set(domain: SimDomain, operation: ops.SetMemory) -> bool:
    wanted = operation.memory_bytes
    return _configs(domain, operation, lambda config: wanted == (config.max_memory_bytes if operation.maximum else config.memory_bytes))


def _vcpus_set(domain: SimDomain, operation: ops.SetVcpus) -> bool:
    wanted = operation.vcpus
    shown = _configs(domain, operation, lambda config: wanted == (config.vcpus_maximum if operation.maximum else config.vcpus_config))
    return shown and not operation.guest


def _device_there(domain: SimDomain, operation: ops.AttachDevice | ops.UpdateDevice) -> bool:
    merge = isinstance(operation, ops.UpdateDevice) and operation.merge

    def shows(document: Document) -> bool:
        return document.update(operation.xml, merge=merge).text == document.edited(lambda _: None).text

    return _documents(domain, operation, shows)


def _device_gone(domain: SimDomain, operation: ops.DetachDevice) -> bool:
    return _documents(domain, operation, lambda document: not _has(document, operation.xml))


def _has(document: Document, xml: str) -> bool:
    try:
        document.detach(xml)
    except DriverError:
        return False
    return True


def _period_set(domain: SimDomain, operation: ops.SetMemoryStatsPeriod) -> bool:
    def shows(document: Document) -> bool:
        stats = document.copy().find("devices/memballoon/stats")
        return int(stats.get("period", "0") if stats is not None else "0") == operation.seconds

    return _documents(domain, operation, shows)


def _io_thread_set(domain: SimDomain, operation: ops.SetIoThreadParameters) -> bool:
    def shows(document: Document) -> bool:
        thread = document.copy().find(f"iothreadids/iothread[@id='{operation.number}']")
        return thread is not None and all(thread.get(name) == str(number) for name, number in operation.parameters.items())

    return _documents(domain, operation, shows)


def _resized(domain: SimDomain, operation: ops.ResizeBlock) -> bool:
    targets_of = {name: disk.target for disk in domain.definition.config.disks for name in (disk.target, disk.source)}
    return domain.capacities.get(targets_of.get(operation.device, "")) == operation.capacity_bytes


def _watched(domain: SimDomain, operation: ops.SetBlockThreshold) -> bool:
    return domain.active and domain.thresholds.get(operation.device, 0) == operation.threshold_bytes


def _checkpoint_gone(domain: SimDomain, operation: ops.DeleteCheckpoint) -> bool:
    return _gone(operation, {name: checkpoint.parent for name, checkpoint in domain.checkpoints.items()})


def _snapshot_gone(domain: SimDomain, operation: ops.DeleteSnapshot) -> bool:
    return _gone(operation, {name: snapshot.parent for name, snapshot in domain.snapshots.items()})


def _gone(operation: ops.DeleteCheckpoint | ops.DeleteSnapshot, parents: dict[str, str | None]) -> bool:
    if operation.children_only:
        return operation.name in parents and operation.name not in parents.values()
    return operation.name not in parents


def _guest_vcpus_set(domain: SimDomain, operation: ops.SetGuestVcpus) -> bool:
    return domain.active and all((number not in domain.offline_vcpus) is operation.online for number in operation.vcpus)


def _keys_set(domain: SimDomain, operation: ops.SetAuthorizedSshKeys) -> bool:
    there, asked = set(domain.ssh_keys.get(operation.user, ())), set(operation.keys)
    return domain.active and {"add": asked <= there, "remove": not asked & there, "replace": asked == there}[operation.change]


_HELD: dict[str, Callable[[SimDomain, Any], bool]] = {
    "Start": _started,
    "Create": _created,
    "Suspend": lambda domain, _: (domain.state, domain.reason) == (State.PAUSED, "user"),
    "Resume": lambda domain, _: domain.state is State.RUNNING,
    "Shutdown": lambda domain, _: not domain.active,
    "Destroy": lambda domain, _: not domain.active,
    "ManagedSave": _saved,
    "RemoveManagedSave": _save_removed,
    "PowerManagementSuspend": lambda domain, operation: operation.target != "disk" and domain.state is State.PMSUSPENDED,
    "PowerManagementWakeup": lambda domain, _: (domain.state, domain.reason) == (State.RUNNING, "wakeup"),
    "Define": _defined,
    "Undefine": lambda domain, _: not domain.persistent,
    "Rename": lambda domain, operation: domain.name == operation.name,
    "SetAutostart": lambda domain, operation: domain.autostart == operation.autostart,
    "DefineManagedSaveImage": lambda domain, operation: image_says(domain.image, operation),
    "AttachDevice": _device_there,
    "UpdateDevice": _device_there,
    "DetachDevice": _device_gone,
    "SetMemory": _memory_set,
    "SetVcpus": _vcpus_set,
    "SetMemoryStatsPeriod": _period_set,
    "SetIoThreadParameters": _io_thread_set,
    "ResizeBlock": _resized,
    "SetBlockThreshold": _watched,
    "DeleteCheckpoint": _checkpoint_gone,
    "DeleteSnapshot": _snapshot_gone,
    "SetGuestVcpus": _guest_vcpus_set,
    "SetAuthorizedSshKeys": _keys_set,
}
