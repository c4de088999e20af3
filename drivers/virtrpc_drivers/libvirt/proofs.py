"""What became of a call whose caller died: followed while it still runs, proven from what can be read, never guessed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

import libvirt

from virtrpc_drivers import operations as ops
from virtrpc_drivers.errors import DriverError, Reason, failure
from virtrpc_drivers.libvirt import domain_xml, migration, probing, snapshots
from virtrpc_drivers.libvirt.connections import Lanes
from virtrpc_drivers.libvirt.errors import fault_of
from virtrpc_drivers.libvirt.operations import DONE
from virtrpc_drivers.libvirt.progress import NO_JOB, POLL_SECONDS, JobLook
from virtrpc_drivers.libvirt.readings import KIB, optional, state_of
from virtrpc_drivers.libvirt.runs import Run, Runs
from virtrpc_drivers.protocol import Call
from virtrpc_drivers.values import ACTIVE_STATES, Outcome, State

BOUND_SECONDS = 5.0
ADOPT_SECONDS = 30.0
"""A job that began later after the call was sent is another's: ours may have ended, and somebody begun the same, while nobody looked."""
_FREE_CODES = (libvirt.VIR_ERR_OPERATION_INVALID, libvirt.VIR_ERR_NO_DOMAIN, libvirt.VIR_ERR_NO_SUPPORT)


@dataclass(frozen=True)
class Verdict:
    """What a look at the domain proves: success, or nothing but this evidence."""

    proven: bool
    evidence: str
    outcome: Outcome = DONE


Proof = Callable[[Any, Any], Verdict]
"""(domain, operation): blocking reads, on a lane's thread."""


def resumed(call: Call, abortable: bool) -> Run:
    """The run of a call that somebody before us sent: its age is known in wall time only."""
    return Run(call, abortable=abortable, began=call.began, now=time.time, within=ADOPT_SECONDS)


class Conclusion:
    """Finds out what became of one call."""

    def __init__(self, run: Run, runs: Runs, lanes: Lanes) -> None:
        self._run = run
        self._runs = runs
        self._lanes = lanes
        self._uuid = run.call.operation.uuid

    async def conclude(self) -> Outcome:
        """The outcome, where it is proven. Raises INTERRUPTED with the evidence, or OUTCOME_UNKNOWN."""
        followed = await self._follow()
        await self._job_can_be_taken()
        call = self._run.call
        try:
            verdict = await self._lanes.reads.bounded(lambda connection: prove(connection, call), 3 * BOUND_SECONDS)
        except TimeoutError:
            raise failure(Reason.OUTCOME_UNKNOWN, "the hypervisor did not say in time what state the domain is in") from None
        if verdict.proven:
            return verdict.outcome
        seen = "it was seen running after the restart; " if followed else ""
        raise failure(Reason.INTERRUPTED, f"no proof that {call.operation.verb} succeeded: {seen}{verdict.evidence}")

    async def _follow(self) -> bool:
        """While the statistics show our job, report it. Whether they ever did."""
        followed = False
        while self._run.operation is not None:
            stamp = self._runs.clock.stamp()
            job = await self._look()
            if not job.present:
                break
            if not self._runs.report(self._run, job, stamp):
                raise failure(Reason.OUTCOME_UNKNOWN, "another job runs on the domain; the call may be waiting behind it")
            followed = True
            await asyncio.sleep(POLL_SECONDS)
        return followed

    async def _look(self) -> JobLook:
        try:
            async with asyncio.timeout(BOUND_SECONDS):
                return await self._seen()
        except TimeoutError:
            raise self._unknown() from None
        except DriverError as error:
            if error.fault.libvirt_code in _FREE_CODES:
                return NO_JOB
            if error.reason is Reason.FOREIGN_JOB:
                raise self._unknown() from None
            raise

    async def _seen(self) -> JobLook:
        while True:
            job = await self._runs.look(self._uuid)
            if job is not None:
                return job
            await asyncio.sleep(POLL_SECONDS)

    async def _job_can_be_taken(self) -> None:
        """Raises OUTCOME_UNKNOWN where the hypervisor's job on the domain is not free: the call may be what holds it."""
        end = time.monotonic() + BOUND_SECONDS
        while True:
            try:
                if await self._lanes.probe.bounded(lambda connection: probing.is_free(connection, self._uuid), BOUND_SECONDS):
                    return
            except TimeoutError:
                raise self._unknown() from None
            except DriverError as error:
                if error.reason is not Reason.FOREIGN_JOB:
                    raise
            if time.monotonic() > end:
                raise self._unknown()
            await asyncio.sleep(POLL_SECONDS)

    def _unknown(self) -> DriverError:
        return failure(Reason.OUTCOME_UNKNOWN, "the domain's job cannot be taken: the call may still be on its way in the hypervisor")


def prove(connection: Any, call: Call) -> Verdict:
    """What can be read of the domain now, judged for this call. A domain that is not there is judged too."""
    operation = call.operation
    try:
        domain = connection.lookupByUUIDString(operation.uuid)
        verdict = _PROOFS[operation.verb](domain, operation)
    except libvirt.libvirtError as error:
        fault = fault_of(error)
        if fault.reason is Reason.DOMAIN_NOT_FOUND:
            return _gone(operation)
        if fault.reason is Reason.HOST_UNREACHABLE:
            raise
        return Verdict(False, fault.message)
    return _not_older(verdict, call.began)


def _gone(operation: ops.Operation) -> Verdict:
    evidence = "the domain is not there"
    if isinstance(operation, ops.Migrate):
        return _at_destination(operation, evidence)
    # A transient domain goes with its guest.
    return Verdict(isinstance(operation, ops.Undefine | ops.Destroy | ops.Shutdown), evidence)


def _not_older(verdict: Verdict, began: float) -> Verdict:
    """What was made before the call began is none of its doing: a verdict on a snapshot that was there already proves nothing.

    Hypervisors count whole seconds by their own clock. Where that is behind ours, a success is not proven; where it is ahead, a
    snapshot that is older by no more than that still passes.
    """
    snapshot = verdict.outcome.snapshot
    if snapshot is None or (snapshot.creation_time is not None and snapshot.creation_time >= int(began)):
        return verdict
    return Verdict(False, f"snapshot {snapshot.name!r} is there, but older than the call")


def _state_text(domain: Any) -> str:
    state, reason = state_of(domain)
    return f"the domain is {state} ({reason})"


def _suspended(domain: Any, _operation: ops.Operation) -> Verdict:
    return Verdict(state_of(domain) == (State.PAUSED, "user"), _state_text(domain))


def _running(domain: Any, _operation: ops.Operation) -> Verdict:
    return Verdict(state_of(domain)[0] is State.RUNNING, _state_text(domain))


def _started(domain: Any, operation: ops.Start | ops.Create) -> Verdict:
    state, reason = state_of(domain)
    paused = operation.paused and state is State.PAUSED and reason != "starting_up"
    return Verdict(state is State.RUNNING or paused, _state_text(domain))


def _off(domain: Any, _operation: ops.Operation) -> Verdict:
    return Verdict(state_of(domain)[0] not in ACTIVE_STATES, _state_text(domain))


def _saved(domain: Any, _operation: ops.Operation) -> Verdict:
    state, reason = state_of(domain)
    image = bool(domain.hasManagedSaveImage(0))
    complete = image and _complete(domain)
    text = f"{_state_text(domain)}, {'with' if complete else 'with an incomplete' if image else 'without a'} saved image"
    # A restarted daemon no longer knows why a domain is off; that it is, with a complete image, only a save can have done.
    return Verdict(complete and state is State.SHUTOFF and reason in ("saved", "unknown"), text)


def _complete(domain: Any) -> bool:
    """Whether the managed save image is whole: libvirt marks one that was not finished, and refuses to read it."""
    try:
        return bool(domain.managedSaveGetXMLDesc(0))
    except libvirt.libvirtError as error:
        return bool(error.get_error_code() == libvirt.VIR_ERR_NO_SUPPORT)


def _save_removed(domain: Any, _operation: ops.Operation) -> Verdict:
    image = bool(domain.hasManagedSaveImage(0))
    return Verdict(not image, f"the domain has {'a' if image else 'no'} saved image")


def _defined(domain: Any, operation: ops.Define) -> Verdict:
    stored = domain_xml.element(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))
    shown = bool(domain.isPersistent()) and domain_xml.contains(stored, domain_xml.element(operation.xml))
    return Verdict(shown, "the stored definition is what was sent" if shown else "the stored definition differs from what was sent")


def _undefined(domain: Any, _operation: ops.Operation) -> Verdict:
    persistent = bool(domain.isPersistent())
    return Verdict(not persistent, f"the domain is {'still' if persistent else 'no longer'} defined")


def _attached(domain: Any, operation: ops.AttachDevice) -> Verdict:
    found = [domain_xml.identified(xml, operation.xml) for xml in _definitions(domain, operation.scope)]
    if None in found:
        # Another one that is just the same may have been there before.
        return Verdict(False, "no device is there that could only be the one that was sent")
    return _as_sent(found, operation.xml)


def _updated(domain: Any, operation: ops.UpdateDevice) -> Verdict:
    return _as_sent([_updatable(xml, operation.xml) for xml in _definitions(domain, operation.scope)], operation.xml)


def _updatable(xml: str, device: str) -> ElementTree.Element | None:
    found = domain_xml.identified(xml, device)
    return found if found is not None else domain_xml.only_one(xml, device)


def _as_sent(found: Sequence[ElementTree.Element | None], device: str) -> Verdict:
    sent = domain_xml.element(device)
    shown = all(one is not None and domain_xml.contains(one, sent) for one in found)
    return Verdict(shown, f"the device is {'there' if shown else 'not there as it was sent'}")


def _detached(domain: Any, operation: ops.DetachDevice) -> Verdict:
    shown = all(domain_xml.matching(xml, operation.xml) is None for xml in _definitions(domain, operation.scope))
    return Verdict(shown, f"the device is {'gone' if shown else 'still there'}")


def _definitions(domain: Any, scope: ops.Scope) -> list[str]:
    """The XML texts that a change with this scope must show in."""
    active = bool(domain.isActive())
    live = scope in (ops.Scope.LIVE, ops.Scope.BOTH) or (scope is ops.Scope.CURRENT and active)
    config = scope in (ops.Scope.CONFIG, ops.Scope.BOTH) or (scope is ops.Scope.CURRENT and not active)
    texts = [domain.XMLDesc(0)] if live else []
    return texts + ([domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)] if config else [])


def _memory_set(domain: Any, operation: ops.SetMemory) -> Verdict:
    wanted = -(-operation.memory_bytes // KIB) * KIB
    found = [domain_xml.sizes(xml) for xml in _definitions(domain, operation.scope)]
    sizes = [size.max_memory_bytes if operation.maximum else size.memory_bytes for size in found]
    return Verdict(all(size == wanted for size in sizes), f"its memory is {' and '.join(str(size) for size in sizes)} bytes, {wanted} were asked for")


def _snapshot_there(domain: Any, operation: ops.CreateSnapshot) -> Verdict:
    try:
        found = snapshots.describe(domain.snapshotLookupByName(operation.name, 0))
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN_SNAPSHOT:
            return Verdict(False, f"there is no snapshot {operation.name!r}")
        raise
    return Verdict(True, f"snapshot {operation.name!r} is there", Outcome(snapshot=found))


def _snapshot_gone(domain: Any, operation: ops.DeleteSnapshot) -> Verdict:
    try:
        handle = domain.snapshotLookupByName(operation.name, 0)
    except libvirt.libvirtError as error:
        gone = error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN_SNAPSHOT and not operation.children_only
        return Verdict(gone, f"there is no snapshot {operation.name!r}")
    children = optional(lambda: handle.numChildren(0))
    return Verdict(operation.children_only and children == 0, f"snapshot {operation.name!r} is there, with {children} children")


def _migrated(domain: Any, operation: ops.Migrate) -> Verdict:
    state, _ = state_of(domain)
    if state in ACTIVE_STATES and state is not State.PAUSED:
        return Verdict(False, f"at the source {_state_text(domain)}")
    return _at_destination(operation, f"at the source {_state_text(domain)}")


def _at_destination(operation: ops.Migrate, source: str) -> Verdict:
    try:
        runs = migration.runs_at(operation.destination_uri, operation.uuid)
    except libvirt.libvirtError as error:
        return Verdict(False, f"{source}; the destination cannot be asked: {fault_of(error).message}")
    text = f"{source}; at the destination it {'runs' if runs else 'does not run'}"
    return Verdict(runs, text, Outcome(uuid=operation.uuid, destination_uri=operation.destination_uri))


def _not_provable(domain: Any, _operation: ops.Operation) -> Verdict:
    return Verdict(False, f"nothing that can be read shows it; {_state_text(domain)}")


_PROOFS: dict[str, Proof] = {
    "Suspend": _suspended,
    "Resume": _running,
    "Start": _started,
    "Shutdown": _off,
    "Reboot": _not_provable,
    "Destroy": _off,
    "Define": _defined,
    "Create": _started,
    "Undefine": _undefined,
    "AttachDevice": _attached,
    "DetachDevice": _detached,
    "UpdateDevice": _updated,
    "SetUserPassword": _not_provable,
    "ManagedSave": _saved,
    "SetMemory": _memory_set,
    "CreateSnapshot": _snapshot_there,
    "RevertToSnapshot": _not_provable,
    "DeleteSnapshot": _snapshot_gone,
    "RemoveManagedSave": _save_removed,
    "Migrate": _migrated,
}
