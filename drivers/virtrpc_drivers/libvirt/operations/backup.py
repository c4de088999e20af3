"""The libvirt call of a backup: it returns once the backup has begun."""

from __future__ import annotations

from typing import Any

import libvirt

from virtrpc_drivers import operations as ops
from virtrpc_drivers.libvirt import backups, blocks, checkpoints
from virtrpc_drivers.libvirt.operations.common import Verb, domain_of
from virtrpc_drivers.values import Outcome


def backup(connection: Any, operation: ops.Backup) -> Outcome:
    """virDomainBackupBegin; the outcome says what was begun, and carries the checkpoint that was taken with it."""
    domain = domain_of(connection, operation)
    for disk in operation.asked.disks:
        # libvirt's own words for a disk that is not there, or busy, are those of a fault.
        blocks.find_free(domain, disk.device)
    if operation.checkpoint:
        checkpoints.find_absent(domain, operation.checkpoint)
    flags = libvirt.VIR_DOMAIN_BACKUP_BEGIN_REUSE_EXTERNAL if operation.reuse_external else 0
    domain.backupBegin(operation.xml, operation.checkpoint_xml or None, flags)
    return backups.begun(domain, operation)


VERBS: dict[str, Verb] = {"Backup": backup}
FUNCTIONS: dict[str, str] = {"Backup": "virDomainBackupBegin"}
