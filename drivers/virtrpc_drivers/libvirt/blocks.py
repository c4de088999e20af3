"""Disks of a running domain: their chain of images, and the block job on one of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

import libvirt

from virtrpc_drivers import operations as ops
from virtrpc_drivers.errors import Reason, failure
from virtrpc_drivers.libvirt.progress import is_occupied

_KINDS = {
    ops.PullBlock: frozenset({libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_PULL}),
    ops.CopyBlock: frozenset({libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_COPY}),
    ops.CommitBlock: frozenset({libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_COMMIT, libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_ACTIVE_COMMIT}),
}
_NAMES = {
    libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_PULL: "block pull",
    libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_COPY: "block copy",
    libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_COMMIT: "block commit",
    libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_ACTIVE_COMMIT: "block commit",
    libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_BACKUP: "backup",
}
_MIRRORS = (libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_COPY, libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_ACTIVE_COMMIT)
LOST_SIGHT = "libvirt has lost sight of what disk {disk} is mirrored to, and cannot {cannot} it; it can {can} it"
_FILES = ("file", "dev", "dir", "path", "name")


@dataclass(frozen=True)
class BlockLook:
    """One reading of virDomainGetBlockJobInfo: bytes done and in all; `ready` where a mirror has caught up. `kind` None: there is no job."""

    kind: int | None
    done: int = 0
    total: int = 0
    ready: bool = False

    def is_of(self, operation: ops.AnyBlocks) -> bool:
        """Whether this is the kind of job that the operation begins."""
        return self.kind in _KINDS[type(operation)]


def look(connection: Any, uuid: str, disk: str) -> BlockLook | None:
    """What runs on a disk; None where the domain is occupied, and was not asked. Can hang, as `progress.look`."""
    domain = connection.lookupByUUIDString(uuid)
    return None if is_occupied(domain) else job_of(domain, disk)


def job_of(domain: Any, disk: str) -> BlockLook:
    """virDomainGetBlockJobInfo."""
    info = domain.blockJobInfo(disk, 0)
    if not info:
        return BlockLook(None)
    done, total = info["cur"], info["end"]
    # At its end a mirror has done all there is, and is ready a moment later.
    ready = done == total and info["type"] in _MIRRORS and _is_ready(domain, disk, info["type"])
    return BlockLook(info["type"], done, total, ready)


def _is_ready(domain: Any, disk: str, kind: int) -> bool:
    shown = _shown_mirror(domain, disk)
    # Of one that it lost sight of libvirt never says that it is ready, yet refuses to end it before that.
    return kind == libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_ACTIVE_COMMIT if shown is None else shown.get("ready") == "yes"


def _shown_mirror(domain: Any, disk: str) -> ElementTree.Element | None:
    found = disk_of(domain, disk)
    return found.find("mirror") if found is not None else None


def end(domain: Any, disk: str, flags: int) -> None:
    """virDomainBlockJobAbort. Raises FAILED where that would be the end of libvirt itself.

    A libvirt whose process ended just after it had begun a mirror knows the job, and not what it mirrors to. Version 9.0 follows a null pointer
    then, where such a copy is pivoted or such a commit is broken off.
    """
    shown, pivots = _shown_mirror(domain, disk), bool(flags & libvirt.VIR_DOMAIN_BLOCK_JOB_ABORT_PIVOT)
    # In this order: a mirror whose job is there after it was looked for has not just ended.
    kind = job_of(domain, disk).kind
    if shown is None and kind == (libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_COPY if pivots else libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_ACTIVE_COMMIT):
        raise failure(Reason.FAILED, LOST_SIGHT.format(disk=disk, cannot="pivot" if pivots else "stop", can="stop" if pivots else "pivot"))
    domain.blockJobAbort(disk, flags)


def find_free(domain: Any, disk: str) -> None:
    """Raises DEVICE_NOT_FOUND, and FOREIGN_JOB where somebody else's block job is on the disk: libvirt has room for one."""
    if domain.isActive() and disk_of(domain, disk) is None:
        raise failure(Reason.DEVICE_NOT_FOUND, f"the domain has no disk {disk!r}")
    kind = job_of(domain, disk).kind
    if kind is not None:
        raise failure(Reason.FOREIGN_JOB, f"a {_NAMES.get(kind, 'block job')} runs on disk {disk}")


def disk_of(domain: Any, target: str) -> ElementTree.Element | None:
    """The <disk> of the running domain with this target."""
    root = ElementTree.fromstring(domain.XMLDesc(0))
    return next((disk for disk in root.iterfind("devices/disk") if _target(disk) == target), None)


def _target(disk: ElementTree.Element) -> str | None:
    target = disk.find("target")
    return target.get("dev") if target is not None else None


def chain(disk: ElementTree.Element) -> list[str]:
    """The files of a disk's images, the active one first."""
    found: list[str] = []
    layer: ElementTree.Element | None = disk
    while layer is not None:
        source = layer.find("source")
        if source is None:
            break
        found.append(next((value for name in _FILES if (value := source.get(name))), ""))
        layer = layer.find("backingStore")
    return found


def active_file(domain: Any, target: str) -> str | None:
    """The file that the guest writes to."""
    disk = disk_of(domain, target)
    files = chain(disk) if disk is not None else []
    return files[0] if files else None


def destination(xml: str) -> str | None:
    """The file that a copy goes to."""
    files = chain(ElementTree.fromstring(xml))
    return files[0] if files else None


def mirror(disk: ElementTree.Element) -> str | None:
    """The file that a disk is being mirrored to."""
    found = disk.find("mirror")
    files = chain(found) if found is not None else []
    return files[0] if files else None
