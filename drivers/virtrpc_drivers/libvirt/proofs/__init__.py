"""What became of a call whose caller died: followed while it still runs, proven from what can be read, never guessed."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import libvirt

from virtrpc_drivers import operations as ops
from virtrpc_drivers.errors import DriverError, Reason, failure
from virtrpc_drivers.libvirt import probing
from virtrpc_drivers.libvirt.connections import Lanes
from virtrpc_drivers.libvirt.errors import fault_of
from virtrpc_drivers.libvirt.leftovers import is_new
from virtrpc_drivers.libvirt.progress import NO_JOB, POLL_SECONDS, JobLook, is_ours
from virtrpc_drivers.libvirt.proofs import (
    agent,
    backup,
    blocks,
    checkpoints,
    definition,
    devices,
    files,
    images,
    lifecycle,
    migration,
    resize,
    resources,
    settings,
    snapshots,
    tuning,
    under_way,
)
from virtrpc_drivers.libvirt.proofs.common import Proof, Verdict, state_text
from virtrpc_drivers.libvirt.runs import Run, Runs
from virtrpc_drivers.protocol import Call
from virtrpc_drivers.proving import UNPROVABLE
from virtrpc_drivers.values import Outcome

BOUND_SECONDS = 5.0
ADOPT_SECONDS = 30.0
"""A job that began later after the call was sent is another's: ours may have ended, and somebody begun the same, while nobody looked."""
_FREE_CODES = (libvirt.VIR_ERR_OPERATION_INVALID, libvirt.VIR_ERR_NO_DOMAIN, libvirt.VIR_ERR_NO_SUPPORT)


def resumed(call: Call, abortable: bool) -> Run:
    """The run of a call that somebody before us sent: its age is known in wall time only."""
    return Run(call, abortable=abortable, began=call.began, now=time.time, within=ADOPT_SECONDS)


class Conclusion:
    """Finds out what became of one call."""

    def __init__(self, run: Run, runs: Runs, lanes: Lanes, *, local: bool) -> None:
        self._local = local
        self._run = run
        self._runs = runs
        self._lanes = lanes
        self._uuid = run.call.operation.uuid
        self._probing: asyncio.Future[bool] | None = None

    async def conclude(self) -> Outcome:
        """The outcome, where it is proven. Raises INTERRUPTED with the evidence, or OUTCOME_UNKNOWN."""
        followed = await self._follow()
        await self._job_can_be_taken()
        call = self._run.call
        try:
            verdict = await self._lanes.reads.bounded(lambda connection: prove(connection, call, local=self._local), 3 * BOUND_SECONDS)
        except TimeoutError:
            raise failure(Reason.OUTCOME_UNKNOWN, "the hypervisor did not say in time what state the domain is in") from None
        if verdict.proven:
            return verdict.outcome
        seen = "it was seen running after the restart; " if followed else ""
        raise failure(Reason.INTERRUPTED, f"no proof that {call.operation.verb} succeeded: {seen}{verdict.evidence}")

    async def is_shown(self) -> bool:
        """Whether the statistics show our job now. Raises OUTCOME_UNKNOWN where nobody can say."""
        job, run = await self._look(), self._run
        return run.began is not None and is_ours(job, run.operation, run.began, run.now(), run.within)

    async def _follow(self) -> bool:
        """While the statistics show our job, report it. Whether they ever did."""
        followed = False
        while self._run.operation is not None:
            stamp = self._runs.clock.stamp()
            job = await self._look()
            if not job.present:
                break
            if self._runs.report(self._run, job, stamp):
                followed = True
            elif job.live:
                raise failure(Reason.OUTCOME_UNKNOWN, "another job runs on the domain; the call may be waiting behind it")
            # Else it is about to be gone, whosever it is: of a job that failed or was aborted libvirt no longer counts the time.
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
        """Return once the hypervisor's job on the domain is free. Raises OUTCOME_UNKNOWN where it is not: the call may be what holds it.

        As long as the hypervisor is seen to be at this very call, that is waited for, however long it takes.
        """
        end = time.monotonic() + BOUND_SECONDS
        try:
            while not await self._is_free():
                if await self._is_under_way():
                    end = time.monotonic() + BOUND_SECONDS
                elif time.monotonic() > end:
                    raise self._unknown()
                await asyncio.sleep(POLL_SECONDS)
        finally:
            if self._probing is not None:
                self._probing.cancel()

    async def _is_free(self) -> bool:
        """Whether it is, as far as is known in BOUND_SECONDS. While a look is out there is no other."""
        if self._probing is None:
            self._probing = asyncio.ensure_future(self._lanes.probe.call(lambda connection: probing.is_free(connection, self._uuid)))
        if not (await asyncio.wait({self._probing}, timeout=BOUND_SECONDS))[0]:
            return False
        looked, self._probing = self._probing, None
        try:
            return looked.result()
        except DriverError as error:
            if error.reason is not Reason.FOREIGN_JOB:
                raise
            return False

    async def _is_under_way(self) -> bool:
        call = self._run.call
        try:
            return await self._lanes.reads.bounded(lambda connection: under_way.is_under_way(connection, call), BOUND_SECONDS)
        except TimeoutError:
            return False

    def _unknown(self) -> DriverError:
        return failure(Reason.OUTCOME_UNKNOWN, "the domain's job cannot be taken: the call may still be on its way in the hypervisor")


def prove(connection: Any, call: Call, *, local: bool = True) -> Verdict:
    """What can be read of the domain now, judged for this call. A domain that is not there is judged too. `local`: the host is this machine."""
    operation = call.operation
    try:
        domain = connection.lookupByUUIDString(operation.uuid)
        verdict = _judged(domain, operation)
    except (libvirt.libvirtError, DriverError) as error:
        fault = error.fault if isinstance(error, DriverError) else fault_of(error)
        if fault.reason is Reason.DOMAIN_NOT_FOUND:
            return _gone(operation)
        if fault.reason is Reason.HOST_UNREACHABLE:
            raise
        return Verdict(False, fault.message)
    return _not_older(_written(verdict, call, local=local), call.began)


def _judged(domain: Any, operation: ops.Operation) -> Verdict:
    if operation.verb in UNPROVABLE:
        return Verdict(False, f"{UNPROVABLE[operation.verb]}; {state_text(domain)}")
    return PROOFS[operation.verb](domain, operation)


def _written(verdict: Verdict, call: Call, *, local: bool) -> Verdict:
    """Statistics and states alone prove nothing: they may be those of a call before. What a call wrote is not older than it."""
    operation = call.operation
    if not verdict.proven or not isinstance(operation, ops.Backup | ops.DumpCore | ops.Save):
        return verdict
    files = [disk.path for disk in operation.asked.disks] if isinstance(operation, ops.Backup) else [operation.path]
    if not all(files) or not files:
        return Verdict(False, f"{verdict.evidence}; which files it was to write is not known")
    if not local:
        return Verdict(False, f"{verdict.evidence}; whether its files are new cannot be seen from here")
    old = [path for path in files if not is_new(path, call.began)]
    return Verdict(False, f"{verdict.evidence}; but {', '.join(old)} is not there, or older than the call") if old else verdict


def _gone(operation: ops.Operation) -> Verdict:
    evidence = "the domain is not there"
    if isinstance(operation, ops.Migrate):
        return migration.at_destination(operation, evidence)
    # A transient domain goes with its guest.
    return Verdict(isinstance(operation, ops.Undefine | ops.Destroy | ops.Shutdown), evidence)


def _not_older(verdict: Verdict, began: float) -> Verdict:
    """What was made before the call began is none of its doing: a verdict on a snapshot or checkpoint that was there already proves nothing.

    Hypervisors count whole seconds by their own clock. Where that is behind ours, a success is not proven; where it is ahead, a
    snapshot that is older by no more than that still passes.
    """
    made = verdict.outcome.snapshot or verdict.outcome.checkpoint
    if made is None or (made.creation_time is not None and made.creation_time >= int(began)):
        return verdict
    return Verdict(False, f"{made.name!r} is there, but older than the call")


PROOFS: dict[str, Proof] = {
    **lifecycle.PROOFS,
    **definition.PROOFS,
    **devices.PROOFS,
    **settings.PROOFS,
    **agent.PROOFS,
    **snapshots.PROOFS,
    **resize.PROOFS,
    **resources.PROOFS,
    **blocks.PROOFS,
    **backup.PROOFS,
    **checkpoints.PROOFS,
    **files.PROOFS,
    **images.PROOFS,
    **tuning.PROOFS,
    **migration.PROOFS,
}
"""What proves each operation that can be proven, by its tag; one file a subject."""
