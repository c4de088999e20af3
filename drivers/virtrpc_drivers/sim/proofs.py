"""What became of a call whose caller was away: the truth where the hypervisor remembers, proof or nothing where it does not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from virtrpc_drivers import operations as ops
from virtrpc_drivers.errors import Reason, failure
from virtrpc_drivers.protocol import Call
from virtrpc_drivers.proving import UNPROVABLE
from virtrpc_drivers.sim import chains, checkpoints
from virtrpc_drivers.sim.domain import SaveImage, SimDomain
from virtrpc_drivers.sim.holding import holds, image_says
from virtrpc_drivers.sim.migration import destination
from virtrpc_drivers.values import Outcome, State

if TYPE_CHECKING:
    from virtrpc_drivers.sim.hypervisor import SimHypervisor


def conclude(hypervisor: SimHypervisor, call: Call) -> Outcome:
    """The outcome of a call that nothing runs any more, where the present state proves it. Raises INTERRUPTED with the evidence."""
    operation = call.operation
    domain = hypervisor.domains.get(operation.uuid)
    outcome = _proof(hypervisor, call, domain)
    if outcome is not None:
        return outcome
    seen = "the domain is not there" if domain is None else f"the domain is {domain.state} ({domain.reason})"
    why = f"{UNPROVABLE[operation.verb]}; " if operation.verb in UNPROVABLE else ""
    raise failure(Reason.INTERRUPTED, f"nothing runs and nothing proves that {operation.verb} succeeded: {why}{seen}")


def _proof(hypervisor: SimHypervisor, call: Call, domain: SimDomain | None) -> Outcome | None:
    operation = call.operation
    if isinstance(operation, ops.Migrate):
        return _migrated(hypervisor, operation, domain)
    if domain is None:
        # A transient domain goes with its guest.
        return Outcome() if isinstance(operation, ops.Undefine | ops.Destroy | ops.Shutdown) else None
    return Outcome() if holds(domain, operation) else _made(hypervisor, call, domain)


def _made(hypervisor: SimHypervisor, call: Call, domain: SimDomain) -> Outcome | None:
    """What a call made, or left behind, with what it would have told. What was there before the call is none of its doing."""
    match call.operation:
        case ops.CreateSnapshot(name=name):
            snapshot = domain.snapshots.get(name)
            # Creation times are whole seconds.
            new = snapshot is not None and snapshot.creation_time >= int(call.began)
            return Outcome(snapshot=domain.snapshot_value(snapshot)) if snapshot is not None and new else None
        case ops.CreateCheckpoint(name=name):
            checkpoint = domain.checkpoints.get(name)
            new = checkpoint is not None and checkpoint.creation_time >= int(call.began)
            return Outcome(checkpoint=checkpoints.value(domain, checkpoint)) if checkpoint is not None and new else None
        case ops.Save(path=path):
            memory = _memory_of(hypervisor, domain, path)
            whole = memory is not None and memory.saved_at >= call.began
            return Outcome(path=path) if whole and domain.state is State.SHUTOFF and domain.reason in ("saved", "unknown") else None
        case ops.Restore(path=path):
            return Outcome(path=path) if (domain.state, domain.reason) == (State.RUNNING, "restored") else None
        case ops.DefineSaveImage(path=path) as operation:
            return Outcome(path=path) if image_says(_memory_of(hypervisor, domain, path), operation) else None
        case ops.DumpCore(path=path):
            return Outcome(path=path) if _wrote(hypervisor, call, domain, [path]) else None
        case ops.Backup(asked=asked) as operation:
            paths = [disk.path for disk in asked.disks]
            if asked.pull or not paths or not _wrote(hypervisor, call, domain, paths):
                return None
            checkpoint = domain.checkpoints.get(operation.checkpoint)
            return Outcome(backup=asked, checkpoint=checkpoints.value(domain, checkpoint) if checkpoint is not None else None)
        case ops.PullBlock() | ops.CopyBlock() | ops.CommitBlock() as operation:
            return _chain(domain, operation)
        case _:
            return None


def _memory_of(hypervisor: SimHypervisor, domain: SimDomain, path: str) -> SaveImage | None:
    uuid, memory = hypervisor.files.get(path, ("", None))
    return memory if uuid == domain.uuid else None


def _wrote(hypervisor: SimHypervisor, call: Call, domain: SimDomain, paths: list[str]) -> bool:
    """Whether these files hold the domain, and are no older than the call. As in libvirt, what is known of them ends with the guest."""
    own = domain.active and all(hypervisor.files.get(path, ("", None))[0] == domain.uuid for path in paths)
    return own and all(hypervisor.written.get(path, 0.0) >= call.began for path in paths)


def _chain(domain: SimDomain, operation: ops.AnyBlocks) -> Outcome | None:
    if not domain.active or operation.disk in domain.block_jobs:
        return None
    files = chains.files(chains.disk_of(domain.definition.copy(), operation.disk))
    pivoted = isinstance(operation, ops.CopyBlock) or (isinstance(operation, ops.CommitBlock) and not operation.top)
    return Outcome(path=files[0], finish="pivot" if pivoted else None) if _chain_shows(files, operation) else None


def _chain_shows(files: list[str], operation: ops.AnyBlocks) -> bool:
    match operation:
        case ops.PullBlock(base=base):
            return files[1:2] == ([base] if base else [])
        case ops.CopyBlock():
            return files[0] in operation.files
        case ops.CommitBlock(base=base, top=top):
            return top not in files if top else files[0] == base or (not base and len(files) == 1)


def _migrated(hypervisor: SimHypervisor, operation: ops.Migrate, domain: SimDomain | None) -> Outcome | None:
    arrived = destination(hypervisor, operation.destination_uri).domains.get(operation.uuid)
    if arrived is None or not arrived.active or arrived.reason == "migration" or (domain is not None and domain.active):
        return None
    return Outcome(destination_uri=operation.destination_uri)
