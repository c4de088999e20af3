"""Operations' booleans and words as libvirt's flags."""

from __future__ import annotations

import libvirt

from virtrpc_drivers.errors import Reason, failure
from virtrpc_drivers.operations import (
    CommitBlock,
    CopyBlock,
    CreateCheckpoint,
    CreateSnapshot,
    DeleteCheckpoint,
    DeleteSnapshot,
    DumpCore,
    Migrate,
    RevertToSnapshot,
    Scope,
    Undefine,
)

_SCOPES = {
    Scope.CURRENT: libvirt.VIR_DOMAIN_AFFECT_CURRENT,
    Scope.LIVE: libvirt.VIR_DOMAIN_AFFECT_LIVE,
    Scope.CONFIG: libvirt.VIR_DOMAIN_AFFECT_CONFIG,
    Scope.BOTH: libvirt.VIR_DOMAIN_AFFECT_LIVE | libvirt.VIR_DOMAIN_AFFECT_CONFIG,
}
_SHUTDOWN = {
    "": 0,
    "acpi": libvirt.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN,
    "agent": libvirt.VIR_DOMAIN_SHUTDOWN_GUEST_AGENT,
    "initctl": libvirt.VIR_DOMAIN_SHUTDOWN_INITCTL,
    "signal": libvirt.VIR_DOMAIN_SHUTDOWN_SIGNAL,
    "paravirt": libvirt.VIR_DOMAIN_SHUTDOWN_PARAVIRT,
}
_REBOOT = {
    "": 0,
    "acpi": libvirt.VIR_DOMAIN_REBOOT_ACPI_POWER_BTN,
    "agent": libvirt.VIR_DOMAIN_REBOOT_GUEST_AGENT,
    "initctl": libvirt.VIR_DOMAIN_REBOOT_INITCTL,
    "signal": libvirt.VIR_DOMAIN_REBOOT_SIGNAL,
    "paravirt": libvirt.VIR_DOMAIN_REBOOT_PARAVIRT,
}
_AFTER_SAVE = {"": 0, "running": libvirt.VIR_DOMAIN_SAVE_RUNNING, "paused": libvirt.VIR_DOMAIN_SAVE_PAUSED}
_AFTER_REVERT = {"": 0, "running": libvirt.VIR_DOMAIN_SNAPSHOT_REVERT_RUNNING, "paused": libvirt.VIR_DOMAIN_SNAPSHOT_REVERT_PAUSED}

_SUSPEND_TARGETS = {
    "memory": libvirt.VIR_NODE_SUSPEND_TARGET_MEM,
    "disk": libvirt.VIR_NODE_SUSPEND_TARGET_DISK,
    "hybrid": libvirt.VIR_NODE_SUSPEND_TARGET_HYBRID,
}
_METADATA = {
    "title": libvirt.VIR_DOMAIN_METADATA_TITLE,
    "description": libvirt.VIR_DOMAIN_METADATA_DESCRIPTION,
    "element": libvirt.VIR_DOMAIN_METADATA_ELEMENT,
}
_CORE_FORMATS = {
    "raw": libvirt.VIR_DOMAIN_CORE_DUMP_FORMAT_RAW,
    "kdump_zlib": libvirt.VIR_DOMAIN_CORE_DUMP_FORMAT_KDUMP_ZLIB,
    "kdump_lzo": libvirt.VIR_DOMAIN_CORE_DUMP_FORMAT_KDUMP_LZO,
    "kdump_snappy": libvirt.VIR_DOMAIN_CORE_DUMP_FORMAT_KDUMP_SNAPPY,
}
_SSH_KEYS = {
    "add": libvirt.VIR_DOMAIN_AUTHORIZED_SSH_KEYS_SET_APPEND,
    "remove": libvirt.VIR_DOMAIN_AUTHORIZED_SSH_KEYS_SET_REMOVE,
    "replace": 0,
}
_KEYCODE_SETS = {
    "linux": libvirt.VIR_KEYCODE_SET_LINUX,
    "xt": libvirt.VIR_KEYCODE_SET_XT,
    "xt_kbd": libvirt.VIR_KEYCODE_SET_XT_KBD,
    "atset1": libvirt.VIR_KEYCODE_SET_ATSET1,
    "atset2": libvirt.VIR_KEYCODE_SET_ATSET2,
    "atset3": libvirt.VIR_KEYCODE_SET_ATSET3,
    "osx": libvirt.VIR_KEYCODE_SET_OSX,
    "usb": libvirt.VIR_KEYCODE_SET_USB,
    "win32": libvirt.VIR_KEYCODE_SET_WIN32,
    "qnum": libvirt.VIR_KEYCODE_SET_QNUM,
}

_LIFECYCLE = {
    "poweroff": libvirt.VIR_DOMAIN_LIFECYCLE_POWEROFF,
    "reboot": libvirt.VIR_DOMAIN_LIFECYCLE_REBOOT,
    "crash": libvirt.VIR_DOMAIN_LIFECYCLE_CRASH,
}
_LIFECYCLE_ACTIONS = {
    "destroy": libvirt.VIR_DOMAIN_LIFECYCLE_ACTION_DESTROY,
    "restart": libvirt.VIR_DOMAIN_LIFECYCLE_ACTION_RESTART,
    "rename-restart": libvirt.VIR_DOMAIN_LIFECYCLE_ACTION_RESTART_RENAME,
    "preserve": libvirt.VIR_DOMAIN_LIFECYCLE_ACTION_PRESERVE,
    "coredump-destroy": libvirt.VIR_DOMAIN_LIFECYCLE_ACTION_COREDUMP_DESTROY,
    "coredump-restart": libvirt.VIR_DOMAIN_LIFECYCLE_ACTION_COREDUMP_RESTART,
}


def lifecycle(word: str) -> int:
    """virDomainLifecycle."""
    return _word(_LIFECYCLE, word, "lifecycle event")


def lifecycle_action(word: str) -> int:
    """virDomainLifecycleAction."""
    return _word(_LIFECYCLE_ACTIONS, word, "lifecycle action")


def core_format(word: str) -> int:
    """virDomainCoreDumpFormat."""
    return _word(_CORE_FORMATS, word, "format of core files")


def dump_core(operation: DumpCore) -> int:
    """virDomainCoreDumpFlags."""
    return union(
        (operation.memory_only, libvirt.VIR_DUMP_MEMORY_ONLY),
        (operation.live, libvirt.VIR_DUMP_LIVE),
        (operation.crash, libvirt.VIR_DUMP_CRASH),
        (operation.reset, libvirt.VIR_DUMP_RESET),
        (operation.bypass_cache, libvirt.VIR_DUMP_BYPASS_CACHE),
    )


def ssh_keys(change: str) -> int:
    """virDomainAuthorizedSSHKeysSetFlags."""
    return _word(_SSH_KEYS, change, "change of SSH keys")


def suspend_target(word: str) -> int:
    """virNodeSuspendTarget."""
    return _word(_SUSPEND_TARGETS, word, "place to sleep")


def metadata(kind: str) -> int:
    """virDomainMetadataType."""
    return _word(_METADATA, kind, "kind of metadata")


def keycode_set(word: str) -> int:
    """virKeycodeSet."""
    return _word(_KEYCODE_SETS, word, "set of key codes")


def scope(value: Scope) -> int:
    """virDomainModificationImpact."""
    return int(_SCOPES[value])


def shutdown(mode: str) -> int:
    """virDomainShutdownFlagValues. Raises INVALID_ARGUMENT for an unknown mode."""
    return _word(_SHUTDOWN, mode, "shutdown mode")


def reboot(mode: str) -> int:
    """virDomainRebootFlagValues. Raises INVALID_ARGUMENT for an unknown mode."""
    return _word(_REBOOT, mode, "reboot mode")


def after_save(word: str) -> int:
    """virDomainSaveRestoreFlags: the state in which a restore leaves the guest."""
    return _word(_AFTER_SAVE, word, "state after the restore")


def revert(operation: RevertToSnapshot) -> int:
    """virDomainSnapshotRevertFlags."""
    return _word(_AFTER_REVERT, operation.after, "state after the revert") | union(
        (operation.force, libvirt.VIR_DOMAIN_SNAPSHOT_REVERT_FORCE),
        # Newer than libvirt 8: absent from an older libvirt-python.
        (operation.reset_nvram, getattr(libvirt, "VIR_DOMAIN_SNAPSHOT_REVERT_RESET_NVRAM", 8)),
    )


def create_snapshot(operation: CreateSnapshot) -> int:
    """virDomainSnapshotCreateFlags."""
    return union(
        (operation.disk_only, libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY),
        (operation.quiesce, libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_QUIESCE),
        (operation.atomic, libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_ATOMIC),
        (operation.live, libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_LIVE),
        (operation.halt, libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_HALT),
        (operation.reuse_external, libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_REUSE_EXT),
        (operation.no_metadata, libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_NO_METADATA),
        (operation.validate, libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_VALIDATE),
    )


def delete_snapshot(operation: DeleteSnapshot) -> int:
    """virDomainSnapshotDeleteFlags."""
    return union(
        (operation.children, libvirt.VIR_DOMAIN_SNAPSHOT_DELETE_CHILDREN),
        (operation.children_only, libvirt.VIR_DOMAIN_SNAPSHOT_DELETE_CHILDREN_ONLY),
        (operation.metadata_only, libvirt.VIR_DOMAIN_SNAPSHOT_DELETE_METADATA_ONLY),
    )


def create_checkpoint(operation: CreateCheckpoint) -> int:
    """virDomainCheckpointCreateFlags."""
    return union((operation.quiesce, libvirt.VIR_DOMAIN_CHECKPOINT_CREATE_QUIESCE))


def delete_checkpoint(operation: DeleteCheckpoint) -> int:
    """virDomainCheckpointDeleteFlags."""
    return union(
        (operation.children, libvirt.VIR_DOMAIN_CHECKPOINT_DELETE_CHILDREN),
        (operation.children_only, libvirt.VIR_DOMAIN_CHECKPOINT_DELETE_CHILDREN_ONLY),
        (operation.metadata_only, libvirt.VIR_DOMAIN_CHECKPOINT_DELETE_METADATA_ONLY),
    )


def copy_block(operation: CopyBlock) -> int:
    """virDomainBlockCopyFlags."""
    return union(
        (operation.shallow, libvirt.VIR_DOMAIN_BLOCK_COPY_SHALLOW),
        (operation.reuse_external, libvirt.VIR_DOMAIN_BLOCK_COPY_REUSE_EXT),
        (operation.transient_job, libvirt.VIR_DOMAIN_BLOCK_COPY_TRANSIENT_JOB),
    )


def commit_block(operation: CommitBlock, *, active: bool) -> int:
    """virDomainBlockCommitFlags. `active`: the top is the image that the guest writes to."""
    return union(
        (active, libvirt.VIR_DOMAIN_BLOCK_COMMIT_ACTIVE),
        (True, libvirt.VIR_DOMAIN_BLOCK_COMMIT_BANDWIDTH_BYTES),
        (operation.delete, libvirt.VIR_DOMAIN_BLOCK_COMMIT_DELETE),
    )


def undefine(operation: Undefine) -> int:
    """virDomainUndefineFlagsValues."""
    return union(
        (operation.managed_save, libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE),
        (operation.snapshots_metadata, libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA),
        (operation.checkpoints_metadata, libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA),
        (operation.nvram, libvirt.VIR_DOMAIN_UNDEFINE_NVRAM),
        (operation.keep_nvram, libvirt.VIR_DOMAIN_UNDEFINE_KEEP_NVRAM),
    )


def migrate(operation: Migrate) -> int:
    """virDomainMigrateFlags."""
    return union(
        (operation.live, libvirt.VIR_MIGRATE_LIVE),
        (operation.peer_to_peer, libvirt.VIR_MIGRATE_PEER2PEER),
        (operation.persist_destination, libvirt.VIR_MIGRATE_PERSIST_DEST),
        (operation.undefine_source, libvirt.VIR_MIGRATE_UNDEFINE_SOURCE),
        (operation.unsafe, libvirt.VIR_MIGRATE_UNSAFE),
        (operation.offline, libvirt.VIR_MIGRATE_OFFLINE),
        (operation.paused, libvirt.VIR_MIGRATE_PAUSED),
        (operation.auto_converge, libvirt.VIR_MIGRATE_AUTO_CONVERGE),
        (operation.post_copy, libvirt.VIR_MIGRATE_POSTCOPY),
        (operation.parallel, libvirt.VIR_MIGRATE_PARALLEL),
        # Newer than libvirt 8: absent from an older libvirt-python.
        (operation.zero_copy, getattr(libvirt, "VIR_MIGRATE_ZEROCOPY", 1 << 20)),
        (operation.synchronous_writes, getattr(libvirt, "VIR_MIGRATE_NON_SHARED_SYNCHRONOUS_WRITES", 1 << 18)),
        (operation.compressed, libvirt.VIR_MIGRATE_COMPRESSED),
        (operation.storage == "all", libvirt.VIR_MIGRATE_NON_SHARED_DISK),
        (operation.storage == "incremental", libvirt.VIR_MIGRATE_NON_SHARED_INC),
        (operation.tls, libvirt.VIR_MIGRATE_TLS),
        (operation.tunnelled, libvirt.VIR_MIGRATE_TUNNELLED),
        (operation.abort_on_error, libvirt.VIR_MIGRATE_ABORT_ON_ERROR),
    )


def union(*pairs: tuple[bool, int]) -> int:
    """The flags whose conditions hold."""
    flags = 0
    for wanted, flag in pairs:
        if wanted:
            flags |= flag
    return flags


def _word(table: dict[str, int], word: str, what: str) -> int:
    if word not in table:
        raise failure(Reason.INVALID_ARGUMENT, f"unknown {what} {word!r}: expected one of {', '.join(name for name in table if name)}")
    return int(table[word])
