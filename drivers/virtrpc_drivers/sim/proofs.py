"""What became of a call whose caller was away: the truth where the hypervisor remembers, proof or nothing where it does not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from virtrpc_drivers import operations as ops
from virtrpc_drivers.errors import Reason, failure
from virtrpc_drivers.merging import applied
from virtrpc_drivers.protocol import Call
from virtrpc_drivers.sim import chains, checkpoints, resources
from virtrpc_drivers.sim.domain import SimDomain
from virtrpc_drivers.sim.migration import destination
from virtrpc_drivers.values import Outcome, State
from virtrpc_drivers.xml import parse

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
    raise failure(Reason.INTERRUPTED, f"nothing runs and nothing proves that {operation.verb} succeeded: {seen}")


def _proof(hypervisor: SimHypervisor, call: Call, domain: SimDomain | None) -> Outcome | None:
    match call.operation:
        case ops.Undefine():
            proven = domain is None or not domain.persistent
        case ops.Migrate() as operation:
            return _migrated(hypervisor, operation, domain)
        case _ if domain is None:
            proven = False
        case ops.ManagedSave():
            proven = not domain.active and domain.reason == "saved" and domain.image is not None and domain.image.saved_at >= call.began
        case ops.RemoveManagedSave():
            proven = domain.image is None and domain.reason == "saved"
        case ops.CreateSnapshot() as operation:
            snapshot = domain.snapshots.get(operation.name)
            # One that was there before the call is none of its doing; creation times are whole seconds.
            if snapshot is None or snapshot.creation_time < int(call.began):
                return None
            return Outcome(snapshot=domain.snapshot_value(snapshot))
        case ops.CreateCheckpoint() as operation:
            checkpoint = domain.checkpoints.get(operation.name)
            if checkpoint is None or checkpoint.creation_time < int(call.began):
                return None
            return Outcome(checkpoint=checkpoints.value(domain, checkpoint))
        case ops.DeleteCheckpoint() as operation:
            proven = operation.name not in domain.checkpoints and not operation.children_only
        case ops.DeleteSnapshot() as operation:
            proven = operation.name not in domain.snapshots and not operation.children_only
        case ops.Define() as operation:
            as_sent = applied(domain.document.copy(), parse(operation.xml)) if operation.merge else domain.document.text == operation.xml
            proven = domain.persistent and as_sent
        case ops.SetMemory() as operation:
            config = domain.definition.config
            proven = operation.memory_bytes == (config.max_memory_bytes if operation.maximum else config.memory_bytes)
        case ops.Save() as operation:
            uuid, memory = hypervisor.files.get(operation.path, ("", None))
            whole = uuid == domain.uuid and memory is not None and memory.saved_at >= call.began
            return Outcome(path=operation.path) if whole and not domain.active and domain.reason == "saved" else None
        case ops.Restore():
            proven = domain.active and domain.reason == "restored"
        case ops.DefineManagedSaveImage() as operation:
            proven = domain.image is not None and domain.image.document.text == operation.xml
        case ops.DefineSaveImage() as operation:
            image = hypervisor.files.get(operation.path, ("", None))[1]
            return Outcome(path=operation.path) if image is not None and image.document.text == operation.xml else None
        case ops.SetGuestVcpus() as operation:
            proven = all((number not in domain.offline_vcpus) is operation.online for number in operation.vcpus)
        case ops.SetAuthorizedSshKeys() as operation:
            there, asked = set(domain.ssh_keys.get(operation.user, ())), set(operation.keys)
            proven = {"add": asked <= there, "remove": not asked & there, "replace": asked == there}[operation.change]
        case ops.Rename() as operation:
            proven = domain.name == operation.name
        case ops.SetAutostart() as operation:
            proven = domain.autostart == operation.autostart
        case ops.SetVcpus() as operation:
            config = domain.definition.config
            proven = operation.vcpus == (config.vcpus_maximum if operation.maximum else config.vcpus_config)
        case ops.PowerManagementSuspend() as operation:
            proven = domain.state is (State.SHUTOFF if operation.target == "disk" else State.PMSUSPENDED)
        case ops.PowerManagementWakeup():
            proven = domain.state is State.RUNNING
        case ops.ResizeBlock() as operation:
            proven = operation.capacity_bytes in domain.capacities.values()
        case ops.SetSchedulerParameters() | ops.SetMemoryParameters() | ops.SetNumaParameters() | ops.SetBlkioParameters() as operation:
            proven = resources.is_set(domain, operation)
        case ops.Backup() as operation:
            whole = all(hypervisor.files.get(path, ("", None))[0] == domain.uuid for path in operation.new_files)
            return Outcome(backup=operation.asked) if whole and operation.new_files and not operation.asked.pull else None
        case ops.PullBlock() | ops.CopyBlock() | ops.CommitBlock() as operation:
            proven = _chain_shows(domain, operation)
        case _:
            proven = False
    return Outcome() if proven else None


def _chain_shows(domain: SimDomain, operation: ops.AnyBlocks) -> bool:
    if not domain.active or operation.disk in domain.block_jobs:
        return False
    files = chains.files(chains.disk_of(domain.definition.copy(), operation.disk))
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
