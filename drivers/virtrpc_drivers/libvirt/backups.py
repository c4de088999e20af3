"""The backup that a domain is at: what libvirt says of it, and how one ended."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

import libvirt

from virtrpc_drivers.backup_xml import described
from virtrpc_drivers.libvirt import checkpoints
from virtrpc_drivers.libvirt.readings import optional
from virtrpc_drivers.operations import Backup
from virtrpc_drivers.values import BackupInfo, Outcome


@dataclass(frozen=True)
class BackupEnd:
    """How a backup ended: by its event, or by the statistics of a job that is over."""

    succeeded: bool
    message: str
    """Why not; set too where it was broken off, which libvirt calls a success of a pull and a failure of a push."""

    @property
    def whole(self) -> bool:
        """Whether it was written to its end."""
        return self.succeeded and not self.message

    @property
    def canceled(self) -> bool:
        """Whether somebody broke it off."""
        return self.message == os.strerror(errno.ECANCELED)


def present(domain: Any) -> BackupInfo | None:
    """virDomainBackupGetXMLDesc; None where there is none, or none any more."""
    xml = optional(lambda: domain.backupGetXMLDesc(0))
    return described(ElementTree.fromstring(xml)) if xml is not None else None


def begun(domain: Any, operation: Backup) -> Outcome:
    """What there is of a backup that has begun, or is over: it, and the checkpoint that was taken with it."""
    checkpoint = optional(lambda: checkpoints.named(domain, operation.checkpoint)) if operation.checkpoint else None
    return Outcome(backup=present(domain) or operation.asked, checkpoint=checkpoint)


def end(fields: dict[str, Any]) -> BackupEnd | None:
    """What the statistics of a job that is over say; None where they are not those of a backup."""
    if fields.get(libvirt.VIR_DOMAIN_JOB_OPERATION) != libvirt.VIR_DOMAIN_JOB_OPERATION_BACKUP:
        return None
    return BackupEnd(bool(fields.get(libvirt.VIR_DOMAIN_JOB_SUCCESS)), str(fields.get(libvirt.VIR_DOMAIN_JOB_ERRMSG, "")))


def completed(domain: Any) -> BackupEnd | None:
    """How the last job on the domain ended, where that was a backup. It is kept: who asks may die before they have told."""
    flags = libvirt.VIR_DOMAIN_JOB_STATS_COMPLETED | libvirt.VIR_DOMAIN_JOB_STATS_KEEP_COMPLETED
    fields = optional(lambda: domain.jobStats(flags))
    return end(fields) if fields is not None else None
