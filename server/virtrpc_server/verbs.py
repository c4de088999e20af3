"""What the server knows of each verb before it asks a hypervisor: which states it makes sense in, and what it needs besides."""

from __future__ import annotations

import re
from enum import StrEnum

import msgspec

from virtrpc_drivers.operations import (
    AnyOperation,
    Backup,
    Create,
    Define,
    DefineSaveImage,
    Migrate,
    Rename,
    Restore,
    Scope,
    SetMemory,
    SetUserPassword,
    SetVcpus,
)
from virtrpc_drivers.values import DomainState, Group, Slot, State
from virtrpc_server.domains import Entry
from virtrpc_server.records import Problem

ASKING_RUN_LIMIT = 300.0
"""Seconds that a verb which only asks the guest may run unless the caller says otherwise."""
STATE = Group.STATE
ASKING = frozenset({"Shutdown", "Reboot", "DetachDevice"})
NEEDS_ACTIVE = frozenset({
    "Suspend", "Resume", "Shutdown", "Reboot", "Destroy", "ManagedSave", "SetUserPassword",
    "Reset", "SendKey", "InjectNmi", "PowerManagementSuspend", "PowerManagementWakeup", "ResizeBlock",
    "Save", "DumpCore", "FreezeFilesystems", "ThawFilesystems", "TrimFilesystems", "SetGuestTime",
    "PullBlock", "CopyBlock", "CommitBlock",
    "CreateCheckpoint", "Backup", "SetGuestVcpus", "SetAuthorizedSshKeys", "SendProcessSignal", "SetBlockThreshold",
    "StartDirtyRateCalculation",
})  # fmt: skip
NEEDS_INACTIVE = {
    "Start": "the domain is already running",
    "Restore": "the domain is already running",
    "DefineManagedSaveImage": "it has no managed-save image while it runs",
    "Rename": "a domain is renamed only while it is off",
}
STARTS = frozenset({"Start", "Create", "Restore", "RevertToSnapshot"})
"""At their end a guest may run that did not before; none of them can be aborted on QEMU."""
NEEDS_PERSISTENT = {
    "ManagedSave": "the domain is transient: it has no place for a managed save image",
    "Rename": "the domain is transient: its name cannot be changed",
    "SetAutostart": "the domain is transient: there is nothing that could be started with its host",
}


ALONE = frozenset({
    "ManagedSave", "Save", "DumpCore", "CreateSnapshot", "RevertToSnapshot", "DeleteSnapshot", "Migrate", "Backup",
})  # fmt: skip
"""What is an asynchronous job in libvirt's words, of which a domain has one: the others wait for the end of a backup."""
_ALONE = "alone"
_BACKGROUND = "background"
_PASSWORD = re.compile(r"""\spasswd\s*=\s*("[^"]*"|'[^']*')""")
"""A screen's password in a definition or a device."""
_COOKIE = re.compile(r"(<cookie\b[^<>]*>)(?:<!\[CDATA\[)?[^<]*(</cookie\s*>)")
"""What a disk that is fetched by HTTP shows its server."""


class Kind(StrEnum):
    """What a host runs only so many of at once: see `migrations` and `saves` in its configuration."""

    MIGRATION = "migration"
    SAVE = "save"


KINDS = {"Migrate": Kind.MIGRATION, "ManagedSave": Kind.SAVE, "Save": Kind.SAVE, "DumpCore": Kind.SAVE}
"""The kind of each verb whose number a host limits, at the host that it is sent to."""


def makes_domain(operation: AnyOperation) -> bool:
    """Whether the domain need not exist beforehand."""
    return isinstance(operation, Define | Create | Restore | DefineSaveImage)


def gives_name(operation: AnyOperation) -> str | None:
    """What the domain is called once the operation has succeeded; None where that is for others to say."""
    return operation.name if isinstance(operation, Define | Create | Restore | Rename) else None


def wrong_state(operation: AnyOperation, entry: Entry) -> Problem | None:
    """Why the operation makes no sense in the state that was last read. What is not known here, the hypervisor judges."""
    if entry.state is None:
        return None
    text = _wrong_state(operation, entry, entry.state.value)
    if text is None:
        return None
    state = entry.state.value.state.value
    return Problem("WRONG_STATE", f"domain {entry.name} is {state}: {text}", {"domain": entry.uuid, "host": entry.host, "state": state})


def _wrong_state(operation: AnyOperation, entry: Entry, state: DomainState) -> str | None:
    verb = operation.verb
    if verb in NEEDS_ACTIVE and not state.active:
        return "the domain is not running"
    if verb in NEEDS_INACTIVE and state.active:
        return NEEDS_INACTIVE[verb]
    if verb == "Resume" and state.state is State.RUNNING:
        return "the domain is not paused"
    if verb == "PowerManagementWakeup" and state.state is not State.PMSUSPENDED:
        return "the domain does not sleep"
    if verb in NEEDS_PERSISTENT and not _persistent(entry):
        return NEEDS_PERSISTENT[verb]
    if isinstance(operation, Migrate) and not state.active and not operation.offline:
        return "the domain is not running, and offline is not set"
    return _wrong_scope(operation, entry, active=state.active)


def _wrong_scope(operation: AnyOperation, entry: Entry, *, active: bool) -> str | None:
    scope = getattr(operation, "scope", None)
    if scope in (Scope.LIVE, Scope.BOTH) and not active:
        return "the domain is not running, and the change was asked for the running guest"
    if scope in (Scope.CONFIG, Scope.BOTH) and not _persistent(entry):
        return "the domain is transient: it has no stored definition to change"
    return None


def _persistent(entry: Entry) -> bool:
    return entry.config is None or entry.config.value.persistent


def invalid(operation: AnyOperation, entry: Entry) -> Problem | None:
    """What is wrong with the operation's values for this very domain, as far as the last reading says."""
    # Of a running domain the maxima that were read are the guest's: those of its stored definition may be others.
    if entry.active and getattr(operation, "scope", None) is Scope.CONFIG:
        return None
    if isinstance(operation, SetMemory) and not operation.maximum and entry.config is not None:
        maximum = entry.config.value.max_memory_bytes
        if maximum is not None and operation.memory_bytes > maximum:
            message = f"memory_bytes {operation.memory_bytes} is above the domain's maximum of {maximum}"
            return Problem("INVALID_ARGUMENT", message, {"field": "memory_bytes"})
    if isinstance(operation, SetVcpus) and not operation.maximum and entry.config is not None:
        most = entry.config.value.vcpus_maximum
        if most is not None and operation.vcpus > most:
            return Problem("INVALID_ARGUMENT", f"vcpus {operation.vcpus} is above the domain's maximum of {most}", {"field": "vcpus"})
    return None


def conditions(operation: AnyOperation, slot: Slot, host: str, destination: str = "", name: str = "") -> list[tuple[str, ...]]:
    """The keys that the operation needs for itself, in the one order that everybody takes them in.

    A domain that is being made or renamed reserves its name beside its uuid, and a migration of the domain `name` both at its destination.
    """
    if slot in (Slot.NONE, Slot.DESTROY):
        return []
    if slot is Slot.AGENT:
        return [(host, operation.uuid, "agent")]
    if slot is Slot.BACKGROUND:
        # The slot first: who waits for it must not hold the domain meanwhile. Nobody who holds a domain waits for such a slot.
        slots: list[tuple[str, ...]] = [(host, operation.uuid, _BACKGROUND, slot) for slot in _background_slots(operation)]
        return [*slots, (host, operation.uuid), *([(host, operation.uuid, _ALONE)] if operation.verb in ALONE else [])]
    keys: list[tuple[str, ...]] = [(host, operation.uuid)]
    given = gives_name(operation)
    if given is not None:
        keys.append((host, "name", given))
    if isinstance(operation, Migrate) and destination:
        keys += [(destination, operation.uuid), (destination, "name", operation.new_name or name)]
    # Last: a job that has its turn on the domain waits here for nothing but what goes on without that.
    return sorted(keys) + ([(host, operation.uuid, _ALONE)] if operation.verb in ALONE else [])


def _background_slots(operation: AnyOperation) -> list[str]:
    """That of its disk; a backup's is that of the whole domain, and those of its disks: one has one block job."""
    if isinstance(operation, Backup):
        return ["", *sorted({disk.device for disk in operation.asked.disks})]
    return [getattr(operation, "disk", "")]


def outlasts_call(key: object) -> bool:
    """Whether a key is that of a slot which a background verb keeps after its call: one for each disk, and two more for a backup."""
    return isinstance(key, tuple) and key[2:3] in ((_BACKGROUND,), (_ALONE,))


def without_secrets(operation: AnyOperation) -> AnyOperation:
    """The operation as it may be stored and shown."""
    if isinstance(operation, SetUserPassword):
        return msgspec.structs.replace(operation, password="")
    texts: dict[str, str] = {field: getattr(operation, field) for field in operation.__struct_fields__ if field.endswith("xml")}
    clean = {field: _COOKIE.sub(r"\1\2", _PASSWORD.sub("", text)) for field, text in texts.items() if "passwd" in text or "<cookie" in text}
    return msgspec.structs.replace(operation, **clean) if clean else operation


def carries_secret(operation: AnyOperation) -> bool:
    """Whether the operation has what must not be stored."""
    return without_secrets(operation) != operation
