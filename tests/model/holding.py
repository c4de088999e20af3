"""Which jobs exclude each other, as docs/jobs.md says it: a job's keys are what it needs for itself, in the order in which it takes them."""

from __future__ import annotations

from virtrpc_drivers.operations import AnyOperation, Backup, CommitBlock, CopyBlock, Create, Define, Migrate, PullBlock
from virtrpc_server.records import Job

Key = tuple[str, ...]

SHARED_ON_VZ = frozenset({"DeleteSnapshot", "RemoveManagedSave"})
BACKGROUND = frozenset({"PullBlock", "CopyBlock", "CommitBlock", "Backup"})
"""Verbs that keep some of their keys, and give the others back, once what they began goes on by itself."""
ALONE = frozenset({"ManagedSave", "CreateSnapshot", "RevertToSnapshot", "DeleteSnapshot", "Migrate", "Backup"})
"""Of the verbs that are called here, those of which libvirt runs one on a domain: the others wait for a backup's end, with the domain."""


def keys(operation: AnyOperation, host: str, shape: str, destination: str = "", name: str = "") -> tuple[Key, ...]:
    """What nobody else may have while this is at work, in the order in which it is taken."""
    verb, domain = operation.verb, (host, operation.uuid)
    if verb == "Destroy" or (shape == "vz" and verb in SHARED_ON_VZ):
        return ()
    if verb == "SetUserPassword" and shape == "qemu":
        return ((*domain, "agent"),)
    alone: list[Key] = [(*domain, "alone")] if verb in ALONE else []
    held: set[Key] = {domain}
    if isinstance(operation, Define | Create):
        held.add((host, "name", operation.name))
    if isinstance(operation, Migrate) and destination:
        held |= {(destination, operation.uuid), (destination, "name", operation.new_name or name)}
    return (*[(*domain, "background", disk) for disk in disks(operation)], *sorted(held), *alone)


def disks(operation: AnyOperation) -> list[str]:
    """The disks that a background verb has for itself; a backup has all of its own, and before them what lets it be the only one."""
    match operation:
        case PullBlock() | CopyBlock() | CommitBlock():
            return [operation.disk]
        case Backup():
            return ["", *sorted(disk.device for disk in operation.asked.disks)]
    return []


def keys_of(job: Job, shape: str) -> tuple[Key, ...]:
    """The same for a job, in the form in which it was accepted: one that has ended keeps no XML, and its domain may be called otherwise."""
    return keys(job.operation, job.host, shape, job.destination_host, job.name)


def kept(job: Job, shape: str) -> tuple[Key, ...]:
    """What it keeps to its end once its call has begun what goes on by itself: nothing, but for a background verb."""
    return tuple(key for key in keys_of(job, shape) if key[2:3] in (("background",), ("alone",))) if job.verb in BACKGROUND else ()


def held_off(job: Job) -> tuple[Key, ...]:
    """What nobody gets while this destroy, which needs none of it, is out."""
    return ((job.host, job.uuid), (job.host, job.uuid, "agent"))
