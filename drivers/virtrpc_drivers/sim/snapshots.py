"""Snapshots: the tree, and the verbs that grow, climb and cut it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from virtrpc_drivers import operations as ops
from virtrpc_drivers.errors import Reason
from virtrpc_drivers.protocol import Change
from virtrpc_drivers.sim import effects
from virtrpc_drivers.sim.domain import SimDomain, SimSnapshot
from virtrpc_drivers.sim.sdk import JobHandle, sdk_error
from virtrpc_drivers.sim.shapes import row
from virtrpc_drivers.values import Outcome, Snapshots, State
from virtrpc_drivers.xml import parse

if TYPE_CHECKING:
    from virtrpc_drivers.sim.hypervisor import SimHypervisor


def find(domain: SimDomain, name: str) -> SimSnapshot:
    """The snapshot with this name. Raises SNAPSHOT_NOT_FOUND."""
    try:
        return domain.snapshots[name]
    except KeyError:
        raise sdk_error(Reason.SNAPSHOT_NOT_FOUND, f"no domain snapshot with matching name '{name}'") from None


def xml(snapshot: SimSnapshot) -> str:
    """A snapshot as `<domainsnapshot>`."""
    root = ElementTree.Element("domainsnapshot")
    for tag, text in {
        "name": snapshot.name,
        "description": snapshot.description,
        "state": "disk-snapshot" if snapshot.disk_only else snapshot.state.value,
        "creationTime": str(snapshot.creation_time),
    }.items():
        if text is not None:
            ElementTree.SubElement(root, tag).text = text
    if snapshot.parent is not None:
        ElementTree.SubElement(ElementTree.SubElement(root, "parent"), "name").text = snapshot.parent
    root.append(snapshot.document.public().copy())
    return ElementTree.tostring(root, encoding="unicode")


async def create(hypervisor: SimHypervisor, job: JobHandle, operation: ops.CreateSnapshot) -> Outcome:
    """Take a snapshot of a domain, running or not. Raises XML_INVALID, ALREADY_EXISTS, WRONG_STATE."""
    asked = parse(operation.xml, "domainsnapshot")
    domain = hypervisor.domain(operation.uuid)
    if operation.name in domain.snapshots and not operation.no_metadata:
        raise sdk_error(Reason.ALREADY_EXISTS, f"domain snapshot {operation.name} already exists")
    await hypervisor.monitor(operation.uuid)
    to_file = operation.saves_memory
    external = operation.disk_only or to_file
    run = hypervisor.domain(operation.uuid).id
    if to_file and not hypervisor.domain(operation.uuid).active:
        raise sdk_error(Reason.WRONG_STATE, "the domain is not running: it has no memory that a snapshot could write to a file")
    await _take_time(hypervisor, job, external=to_file)
    domain = hypervisor.domain(operation.uuid)
    if domain.id != run:
        raise sdk_error(Reason.WRONG_STATE, "the domain changed its state while the snapshot was being taken")
    snapshot = SimSnapshot(
        name=operation.name,
        parent=domain.current,
        description=asked.findtext("description"),
        state=domain.state,
        document=domain.definition,
        creation_time=int(hypervisor.wall()),
        disk_only=operation.disk_only,
        external=external,
        call_id=job.id,
    )
    if not operation.no_metadata:
        domain.snapshots[snapshot.name] = snapshot
        domain.current = snapshot.name
    value = domain.snapshot_value(snapshot)
    if operation.halt and domain.active:
        effects.stop(hypervisor, domain, "from_snapshot")
    return Outcome(snapshot=value)


async def _take_time(hypervisor: SimHypervisor, job: JobHandle, *, external: bool) -> None:
    """On QEMU only a snapshot that writes memory to a file can be watched and aborted; Virtuozzo's all can."""
    options = hypervisor.options
    total = hypervisor.domain(job.operation.uuid).definition.config.memory_bytes
    shown = row(options.shape, "CreateSnapshot").progress and (external or options.shape == "vz")
    await job.strike(1)
    await job.spend(options.save_seconds if external else options.snapshot_seconds, total, abortable=shown, progress=shown)
    if external:
        hypervisor.emit(job.operation.uuid, Change.JOB, "completed")


async def revert(hypervisor: SimHypervisor, job: JobHandle, operation: ops.RevertToSnapshot) -> None:
    """Bring a domain back to how it was: definition, and state unless `after` says another. Raises SNAPSHOT_NOT_FOUND."""
    find(hypervisor.domain(operation.uuid), operation.name)
    await hypervisor.monitor(operation.uuid)
    support = row(hypervisor.options.shape, "RevertToSnapshot")
    await job.strike(1)
    await job.spend(hypervisor.options.revert_seconds, abortable=support.abortable, progress=support.progress)
    domain = hypervisor.domain(operation.uuid)
    snapshot = find(domain, operation.name)
    wanted = {"running": State.RUNNING, "paused": State.PAUSED}.get(operation.after, State.SHUTOFF if snapshot.disk_only else snapshot.state)
    domain.current = snapshot.name
    if domain.persistent:
        effects.edit(hypervisor, domain, config=snapshot.document)
    _to_state(hypervisor, domain, wanted, snapshot)


def _to_state(hypervisor: SimHypervisor, domain: SimDomain, wanted: State, snapshot: SimSnapshot) -> None:
    if wanted is State.SHUTOFF:
        if domain.active:
            effects.stop(hypervisor, domain, "from_snapshot")
        return
    if not domain.active:
        effects.begin_start(hypervisor, domain, snapshot.document)
        effects.start(hypervisor, domain, paused=wanted is State.PAUSED, reason="from_snapshot")
        return
    effects.edit(hypervisor, domain, live=snapshot.document)
    if wanted is State.PAUSED:
        effects.pause(hypervisor, domain, "from_snapshot")
    else:
        effects.unpause(hypervisor, domain, "from_snapshot")


async def delete(hypervisor: SimHypervisor, job: JobHandle, operation: ops.DeleteSnapshot) -> None:
    """Delete a snapshot: its children move to its parent, unless they go with it. Raises SNAPSHOT_NOT_FOUND."""
    domain = hypervisor.domain(operation.uuid)
    find(domain, operation.name)
    if not operation.metadata_only:
        await hypervisor.monitor(operation.uuid)
    await job.strike(1)
    await job.spend(hypervisor.options.snapshot_seconds)
    domain = hypervisor.domain(operation.uuid)
    snapshot = find(domain, operation.name)
    below = _descendants(domain, operation.name) if operation.children or operation.children_only else set()
    gone = below if operation.children_only else below | {operation.name}
    for name in gone:
        del domain.snapshots[name]
    survivor = snapshot.name if operation.children_only else snapshot.parent
    for name, other in domain.snapshots.items():
        if other.parent in gone:
            domain.snapshots[name] = replace(other, parent=survivor)
    if domain.current in gone:
        domain.current = survivor


def _descendants(domain: SimDomain, name: str) -> set[str]:
    below: set[str] = set()
    while more := {other.name for other in domain.snapshots.values() if other.parent in below | {name}} - below:
        below |= more
    return below


def of_domain(domain: SimDomain) -> Snapshots:
    """All snapshots."""
    # In the order in which they were made: parents before children.
    return Snapshots(snapshots=tuple(domain.snapshot_value(snapshot) for snapshot in domain.snapshots.values()))
