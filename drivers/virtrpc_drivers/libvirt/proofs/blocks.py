"""What proves operations: block jobs, by the disk's chain of images."""

from __future__ import annotations

from typing import Any

from virtrpc_drivers import operations as ops
from virtrpc_drivers.libvirt import blocks
from virtrpc_drivers.libvirt.proofs.common import Proof, Verdict, state_text
from virtrpc_drivers.values import Outcome


def judged(domain: Any, operation: ops.AnyBlocks) -> Verdict:
    """Whether the chain is as the block job leaves it, and no block job is there."""
    if not domain.isActive():
        return Verdict(False, state_text(domain))
    disk = blocks.disk_of(domain, operation.disk)
    if disk is None:
        return Verdict(False, f"the domain has no disk {operation.disk!r}")
    if blocks.job_of(domain, operation.disk).kind is not None:
        return Verdict(False, f"a block job of another's is on disk {operation.disk!r}")
    files = blocks.chain(disk)
    evidence = f"the images of disk {operation.disk!r} are {', '.join(files) or 'none'}"
    pivoted = isinstance(operation, ops.CopyBlock) or (isinstance(operation, ops.CommitBlock) and not operation.top)
    return Verdict(_shows(files, operation), evidence, Outcome(path=files[0] if files else None, finish="pivot" if pivoted else None))


def _shows(files: list[str], operation: ops.AnyBlocks) -> bool:
    match operation:
        case ops.PullBlock(base=""):
            return len(files) == 1
        case ops.PullBlock(base=base):
            return files[1:2] == [base]
        case ops.CopyBlock():
            # A copy that was broken off leaves nothing that can be told from one that failed.
            return files[:1] == [blocks.destination(operation.xml)]
        case ops.CommitBlock(top=""):
            return len(files) == 1 if not operation.base else files[:1] == [operation.base]
        case ops.CommitBlock(top=top):
            return top.startswith("/") and top not in files and (not operation.base or operation.base in files)


PROOFS: dict[str, Proof] = {
    "PullBlock": judged,
    "CopyBlock": judged,
    "CommitBlock": judged,
}
