"""Live migration between two simulated hosts of one process."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from virtrpc_drivers import operations as ops
from virtrpc_drivers.errors import DriverError, Reason
from virtrpc_drivers.migration import Arrival, Departure, Facts, Obstacle
from virtrpc_drivers.protocol import Change
from virtrpc_drivers.sim import effects
from virtrpc_drivers.sim.checks import active, same_run
from virtrpc_drivers.sim.domain import SimDomain
from virtrpc_drivers.sim.sdk import ForeignJob, JobHandle, sdk_error
from virtrpc_drivers.sim.shapes import row
from virtrpc_drivers.sim.transfer import Transfer
from virtrpc_drivers.values import Outcome, Phase, State

if TYPE_CHECKING:
    from virtrpc_drivers.sim.hypervisor import SimHypervisor


def destination(hypervisor: SimHypervisor, uri: str) -> SimHypervisor:
    """The host that a migration URI names. Raises UNSUPPORTED for one of another process; INVALID_ARGUMENT where it is the source itself."""
    other = hypervisor.network.get(urlsplit(uri).hostname or "")
    if urlsplit(uri).scheme != "sim" or other is None:
        raise sdk_error(Reason.UNSUPPORTED, f"simulated hosts reach each other only in one process, and '{uri}' is none of this one")
    if other is hypervisor:
        raise sdk_error(Reason.INVALID_ARGUMENT, "Attempt to migrate guest to the same host")
    return other


async def migrate(hypervisor: SimHypervisor, job: JobHandle, operation: ops.Migrate) -> Outcome:
    """Move a running guest. Faults at step 1 (before memory is sent), 2 (memory is there), 3 (the destination runs, the source does not know).

    Raises UNSUPPORTED, ALREADY_EXISTS, WRONG_STATE, ABORTED; a destination that dies makes it fail, the guest running on.
    """
    domain = active(hypervisor, operation.uuid)
    await hypervisor.monitor(operation.uuid)
    other, run = destination(hypervisor, operation.destination_uri), active(hypervisor, operation.uuid).id
    # Who is paused while it moves, to let it come to an end, goes on at the destination.
    paused = operation.paused or domain.state is State.PAUSED
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
    _finish(hypervisor, domain, other, incoming, operation, paused=paused)
    job.applied = True
    await job.strike(3)
    return Outcome(destination_uri=operation.destination_uri)


async def _send_memory(hypervisor: SimHypervisor, job: JobHandle, operation: ops.Migrate, domain: SimDomain) -> None:
    support, total = row(hypervisor.options.shape, "Migrate"), domain.definition.config.memory_bytes or 0
    transfer = Transfer(operation, domain, total, hypervisor.options.migrate_seconds)
    if not support.progress:
        await job.pause(total / transfer.rate, abortable=support.abortable)
        return
    job.transfer, job.visible = transfer, True
    while not transfer.over:
        job.show(transfer, abortable=support.abortable and not transfer.post_copy)
        seconds = transfer.tick(hypervisor.options.progress_seconds)
        await asyncio.sleep(seconds)
        job.abortable = False
        await hypervisor.monitor(operation.uuid)
        transfer.advance(seconds)
    job.phase = Phase.MIGRATION_FINISH
    job.show(transfer, abortable=False)


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


def _finish(hypervisor: SimHypervisor, domain: SimDomain, other: SimHypervisor, incoming: SimDomain, operation: ops.Migrate, *, paused: bool) -> None:
    incoming.passwords.update(domain.passwords)
    effects.start(other, incoming, paused=paused, reason="migrated")
    if operation.persist_destination:
        effects.define(other, incoming.uuid, incoming.name, incoming.definition)
    effects.stop(hypervisor, domain, "migrated")
    if operation.undefine_source and domain.persistent:
        effects.undefine(hypervisor, domain)
    hypervisor.emit(domain.uuid, Change.JOB, "completed")


def departure(hypervisor: SimHypervisor, operation: ops.Migrate) -> Departure:
    """What stands in the way at the source. Raises DOMAIN_NOT_FOUND."""
    domain = hypervisor.domain(operation.uuid)
    found: tuple[Obstacle, ...] = ()
    if not domain.active and not operation.offline:
        found = (Obstacle(reason="WRONG_STATE", message=f"the domain is {domain.state.value}: it can only be moved offline"),)
    facts = Facts(
        uuid=domain.uuid,
        name=operation.new_name or domain.name,
        hypervisor=hypervisor.options.shape,
        running=domain.active,
        memory_bytes=domain.definition.config.memory_bytes,
    )
    return Departure(facts=facts, obstacles=found)


def arrival(hypervisor: SimHypervisor, facts: Facts, uri: str) -> Arrival:
    """What stands in the way at the destination: this host, or the one that a URI names."""
    try:
        there = destination(hypervisor, uri) if uri else hypervisor
        if there.options.shape != facts.hypervisor:
            raise sdk_error(Reason.UNSUPPORTED, f"the destination is {there.options.shape}, the source {facts.hypervisor}")
        known = there.domains.get(facts.uuid)
        if known is not None and known.active:
            raise sdk_error(Reason.ALREADY_EXISTS, "a domain with this uuid runs at the destination already")
        effects.check_identity(there, facts.uuid, facts.name)
    except DriverError as error:
        return Arrival(obstacles=(Obstacle(reason=error.reason.value, message=error.fault.message),))
    return Arrival()
