"""Checkpoints: the chain, and the verbs that grow and cut it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from virtrpc_drivers import operations as ops
from virtrpc_drivers.errors import Reason
from virtrpc_drivers.sim.checks import active
from virtrpc_drivers.sim.domain import SimDomain
from virtrpc_drivers.sim.sdk import JobHandle, sdk_error
from virtrpc_drivers.values import Checkpoint, Checkpoints, Outcome
from virtrpc_drivers.xml import parse

if TYPE_CHECKING:
    from virtrpc_drivers.sim.hypervisor import SimHypervisor


@dataclass(slots=True, frozen=True)
class SimCheckpoint:
    """A checkpoint of a simulated domain."""

    name: str
    parent: str | None
    description: str | None
    creation_time: int
    disks: tuple[str, ...]


def value(domain: SimDomain, checkpoint: SimCheckpoint) -> Checkpoint:
    """What a query says of one."""
    return Checkpoint(
        name=checkpoint.name,
        parent=checkpoint.parent,
        description=checkpoint.description,
        creation_time=checkpoint.creation_time,
        children=sum(other.parent == checkpoint.name for other in domain.checkpoints.values()),
        disks=checkpoint.disks,
    )


def of_domain(domain: SimDomain) -> Checkpoints:
    """All of a domain."""
    return Checkpoints(checkpoints=tuple(value(domain, checkpoint) for checkpoint in domain.checkpoints.values()))


def find(domain: SimDomain, name: str) -> SimCheckpoint:
    """The checkpoint with this name. Raises CHECKPOINT_NOT_FOUND."""
    try:
        return domain.checkpoints[name]
    except KeyError:
        raise sdk_error(Reason.CHECKPOINT_NOT_FOUND, f"no domain checkpoint with matching name '{name}'") from None


def xml(domain: SimDomain, name: str, *, size: bool) -> str:
    """A checkpoint as `<domaincheckpoint>`; nothing is ever written to a simulated disk."""
    checkpoint = find(domain, name)
    root = ElementTree.Element("domaincheckpoint")
    for tag, text in (("name", checkpoint.name), ("description", checkpoint.description), ("creationTime", str(checkpoint.creation_time))):
        if text is not None:
            ElementTree.SubElement(root, tag).text = text
    if checkpoint.parent is not None:
        ElementTree.SubElement(ElementTree.SubElement(root, "parent"), "name").text = checkpoint.parent
    disks = ElementTree.SubElement(root, "disks")
    for disk in checkpoint.disks:
        element = ElementTree.SubElement(disks, "disk", name=disk, checkpoint="bitmap", bitmap=checkpoint.name)
        if size:
            element.set("size", "0")
    return ElementTree.tostring(root, encoding="unicode")


async def create(hypervisor: SimHypervisor, job: JobHandle, operation: ops.CreateCheckpoint) -> Outcome:
    """Take a checkpoint of a running domain. Raises XML_INVALID, UNSUPPORTED, ALREADY_EXISTS, WRONG_STATE."""
    check(active(hypervisor, operation.uuid), operation.name, operation.xml)
    await hypervisor.monitor(operation.uuid)
    await job.strike(1)
    domain = active(hypervisor, operation.uuid)
    check(domain, operation.name, operation.xml)
    return Outcome(checkpoint=take(hypervisor, domain, operation.name, operation.xml))


def take(hypervisor: SimHypervisor, domain: SimDomain, name: str, xml: str) -> Checkpoint:
    """Take it, all at once."""
    asked = parse(xml, "domaincheckpoint")
    left_out = {disk.get("name") for disk in asked.iterfind("disks/disk") if disk.get("checkpoint") == "no"}
    domain.checkpoints[name] = SimCheckpoint(
        name=name,
        parent=next(reversed(domain.checkpoints), None),
        description=asked.findtext("description"),
        creation_time=int(hypervisor.wall()),
        disks=tuple(disk.target for disk in domain.definition.config.disks if left_out.isdisjoint((disk.target, disk.source))),
    )
    return value(domain, domain.checkpoints[name])


def check(domain: SimDomain, name: str, xml: str) -> None:
    """Raises XML_INVALID; UNSUPPORTED, as libvirt, for a disk that the domain does not have; ALREADY_EXISTS where there is one of this name."""
    disks = {name for disk in domain.definition.config.disks for name in (disk.target, disk.source)}
    for disk in parse(xml, "domaincheckpoint").iterfind("disks/disk"):
        if (named := disk.get("name", "")) not in disks:
            raise sdk_error(Reason.UNSUPPORTED, f"unsupported configuration: no disk named '{named}'")
    if name in domain.checkpoints:
        raise sdk_error(Reason.ALREADY_EXISTS, f"domain checkpoint {name} already exists")


async def delete(hypervisor: SimHypervisor, job: JobHandle, operation: ops.DeleteCheckpoint) -> None:
    """Delete a checkpoint: its children move to its parent, unless they go with it. Raises CHECKPOINT_NOT_FOUND."""
    find(hypervisor.domain(operation.uuid), operation.name)
    if not operation.metadata_only:
        active(hypervisor, operation.uuid)
        await hypervisor.monitor(operation.uuid)
    await job.strike(1)
    domain = hypervisor.domain(operation.uuid)
    checkpoint = find(domain, operation.name)
    below = _descendants(domain, operation.name) if operation.children or operation.children_only else set()
    gone = below if operation.children_only else below | {operation.name}
    for name in gone:
        del domain.checkpoints[name]
    for name, other in domain.checkpoints.items():
        if other.parent in gone:
            domain.checkpoints[name] = replace(other, parent=checkpoint.parent)


def _descendants(domain: SimDomain, name: str) -> set[str]:
    below: set[str] = set()
    while more := {other.name for other in domain.checkpoints.values() if other.parent in below | {name}} - below:
        below |= more
    return below
