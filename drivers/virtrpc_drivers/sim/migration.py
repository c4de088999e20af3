"""Live migration between two simulated hosts of one process."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from virtrpc_drivers import operations as ops
from virtrpc_drivers.errors import Reason
from virtrpc_drivers.protocol import Change
from virtrpc_drivers.sim import effects
from virtrpc_drivers.sim.checks import active, same_run
from virtrpc_drivers.sim.domain import SimDomain
from virtrpc_drivers.sim.sdk import ForeignJob, JobHandle, sdk_error
from virtrpc_drivers.sim.shapes import row
from virtrpc_drivers.values import Outcome, State

if TYPE_CHECKING:
    from virtrpc_drivers.sim.hypervisor import SimHypervisor


def destination(hypervisor: SimHypervisor, uri: str) -> SimHypervisor:
    """The host that a migration URI names. Raises HOST_UNREACHABLE; INVALID_ARGUMENT where it is the source itself."""
    other = hypervisor.network.get(urlsplit(uri).hostname or "")
    if urlsplit(uri).scheme != "sim" or other is None:
        raise sdk_error(Reason.HOST_UNREACHABLE, f"no simulated host of this process is the destination '{uri}'")
    if other is hypervisor:
        raise sdk_error(Reason.INVALID_ARGUMENT, "Attempt to migrate guest to the same host")
    return other


async def migrate(hypervisor: SimHypervisor, job: JobHandle, operation: ops.Migrate) -> Outcome:
    """Move a running guest. Faults at step 1 (before memory is sent), 2 (memory is there), 3 (the destination runs, the source does not know).

    Raises HOST_UNREACHABLE, ALREADY_EXISTS, WRONG_STATE, ABORTED; a destination that dies makes it fail, the guest running on.
    """
    domain = active(hypervisor, operation.uuid)
    await hypervisor.monitor(operation.uuid)
    other, run = destination(hypervisor, operation.destination_uri), active(hypervisor, operation.uuid).id
    incoming = _prepare(other, domain, operation.new_name or domain.name)
    arriving, held = incoming.id, _hold(other, domain.uuid)
    try:
        await job.strike(1)
        await _send_memory(hypervisor, job, operation, domain)
        await job.strike(2)
        active(hypervisor, operation.uuid, run)
        if not same_run(other, incoming, arriving):
            raise sdk_error(Reason.FAILED, "operation failed: the guest ended at the destination")
    except BaseException:
        _give_up(other, incoming, arriving)
        raise
    finally:
        held.end()
    _finish(hypervisor, domain, other, incoming, operation)
    job.applied = True
    await job.strike(3)
    return Outcome(destination_uri=operation.destination_uri)


async def _send_memory(hypervisor: SimHypervisor, job: JobHandle, operation: ops.Migrate, domain: SimDomain) -> None:
    support, total = row(hypervisor.options.shape, "Migrate"), domain.definition.config.memory_bytes or 0
    bandwidth = operation.bandwidth_bytes_per_second
    seconds = total / bandwidth if bandwidth else hypervisor.options.migrate_seconds
    await job.spend(seconds, total, abortable=support.abortable, progress=support.progress)


def _prepare(other: SimHypervisor, domain: SimDomain, name: str) -> SimDomain:
    """The guest's place at the destination: paused, and held by the migration."""
    known = other.domains.get(domain.uuid)
    effects.check_identity(other, domain.uuid, name)
    if known is not None and known.active:
        raise sdk_error(Reason.ALREADY_EXISTS, f"domain '{name}' is already active at the destination")
    document = domain.definition if name == domain.name else domain.definition.named(name)
    incoming = known or other.remember(SimDomain(uuid=domain.uuid, name=name, document=document, persistent=False))
    effects.begin_start(other, incoming, document)
    incoming.state, incoming.reason = State.PAUSED, "migration"
    return incoming


def _hold(other: SimHypervisor, uuid: str) -> ForeignJob:
    return other.foreign_job(uuid, "MigrateIncoming")


def _give_up(other: SimHypervisor, incoming: SimDomain, run: int | None) -> None:
    if same_run(other, incoming, run):
        effects.stop(other, incoming, "failed")


def _finish(hypervisor: SimHypervisor, domain: SimDomain, other: SimHypervisor, incoming: SimDomain, operation: ops.Migrate) -> None:
    paused = domain.state is State.PAUSED
    incoming.passwords.update(domain.passwords)
    effects.start(other, incoming, paused=paused, reason="migrated")
    if operation.persist_destination:
        effects.define(other, incoming.uuid, incoming.name, incoming.definition)
    effects.stop(hypervisor, domain, "migrated")
    if operation.undefine_source and domain.persistent:
        effects.undefine(hypervisor, domain)
    hypervisor.emit(domain.uuid, Change.JOB, "completed")
