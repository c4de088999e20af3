"""Which jobs exclude each other, as docs/jobs.md says it: a job's keys are what it needs for itself."""

from __future__ import annotations

from virtrpc_drivers.operations import AnyOperation, Create, Define, Migrate
from virtrpc_server.records import Job

Key = tuple[str, ...]

SHARED_ON_VZ = frozenset({"DeleteSnapshot", "RemoveManagedSave"})


def keys(operation: AnyOperation, host: str, shape: str, destination: str = "", name: str = "") -> frozenset[Key]:
    """What nobody else may have while this is at work."""
    verb = operation.verb
    if verb == "Destroy" or (shape == "vz" and verb in SHARED_ON_VZ):
        return frozenset()
    if verb == "SetUserPassword" and shape == "qemu":
        return frozenset({(host, operation.uuid, "agent")})
    held: set[Key] = {(host, operation.uuid)}
    if isinstance(operation, Define | Create):
        held.add((host, "name", operation.name))
    if isinstance(operation, Migrate) and destination:
        held |= {(destination, operation.uuid), (destination, "name", operation.new_name or name)}
    return frozenset(held)


def keys_of(job: Job, shape: str) -> frozenset[Key]:
    """The same for a job."""
    return keys(job.operation, job.host, shape, job.destination_host, job.name)
