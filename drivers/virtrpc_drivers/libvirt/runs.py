"""The calls that are out: what each is doing, its reports, and its cancellation."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec

from virtrpc_drivers.errors import DriverError, Reason, failure
from virtrpc_drivers.libvirt import tuning as tunings
from virtrpc_drivers.libvirt.connections import STUCK_SECONDS, Lanes
from virtrpc_drivers.libvirt.progress import POLL_SECONDS, JobLook, is_ours, job_operation, look, report
from virtrpc_drivers.libvirt.readings import Clock
from virtrpc_drivers.migration import Reading, TuneAnswer, Tuning
from virtrpc_drivers.operations import AnyBlocks, Migrate
from virtrpc_drivers.operations.agent import AnyAgent
from virtrpc_drivers.protocol import Call, Deliver, Report
from virtrpc_drivers.values import CancelAnswer, Phase, Stamp, Steering

BRIEF_LOOKS = 5
BRIEF_SECONDS = 0.02
"""libvirt itself is at the monitor now and then while an operation runs: only for a moment, where the monitor is well."""
LIMITS_EVERY = 4
"""What is set for a migration is asked for at every fourth look: it changes seldom, and asks the monitor three times."""
NOT_YET = "the call has not reached the hypervisor yet"
IN_POST_COPY = "the guest runs at the destination already: a migration in post-copy cannot be aborted"
SILENT = "the hypervisor does not answer for this domain's job"
NOT_SHOWN = "the hypervisor does not show this operation's job now"


class Steered(Protocol):
    """What goes on in the background, and can be told things."""

    ended: asyncio.Event
    """Set once it is over."""

    @property
    def finishes(self) -> bool:
        """Whether it was told to finish, and has yet to be over."""

    async def cancel(self) -> CancelAnswer:
        """Abort it."""

    async def steer(self, steering: Steering) -> CancelAnswer:
        """Finish it, or set its speed."""


@dataclass(eq=False)
class Run:
    """One call that is out."""

    call: Call
    abortable: bool
    """Whether this verb can be aborted at this hypervisor at all."""
    asks: bool = False
    """Whether it only asks the guest: then the wait for the guest is what a cancel ends."""
    began: float | None = None
    """When it was handed to libvirt: seconds of `now`'s clock; None before."""
    now: Callable[[], float] = time.monotonic
    """Monotonic, or wall time for a call that an earlier process sent."""
    within: float = math.inf
    """Seconds after `began` in which its job must have begun: bounded where what became of the call is not known."""
    phase: Phase = Phase.CALLING
    final: Reading | None = None
    """What a migration that succeeded was like."""
    gave_up: asyncio.Future[None] | None = None
    """Ends the wait for the guest of an asking verb."""
    block: Steered | None = None
    """Its block job or backup, once that goes on without the call."""
    unwanted: bool = False
    """Whether a cancel was asked for, be it too early to be sent: then nothing is finished by itself any more."""
    check: asyncio.Task[bool] | None = None
    """The look at the statistics before an abort: while one hangs, there is no other."""

    @property
    def operation(self) -> int | None:
        """The job operation under which libvirt's statistics show it."""
        return job_operation(self.call.operation)


@dataclass
class Runs:
    """All calls that are out, by id."""

    lanes: Lanes
    clock: Clock
    deliver: Deliver
    by_id: dict[str, Run] = field(default_factory=dict)
    _looks: dict[str, asyncio.Future[JobLook | None]] = field(default_factory=dict)

    def remember(self, run: Run) -> None:
        """A call goes out. Where one of its id is out already, the newer one is meant from now on."""
        self.by_id[run.call.id] = run

    def forget(self, run: Run) -> None:
        """A call is over."""
        if self.by_id.get(run.call.id) is run:
            del self.by_id[run.call.id]

    def alone(self, run: Run) -> bool:
        """Whether no other call of ours is inside libvirt on this run's domain: one that is has libvirt's job there, or soon will. For any thread."""
        uuid = run.call.operation.uuid
        others = (other for other in tuple(self.by_id.values()) if other is not run and other.call.operation.uuid == uuid)
        return not any(not other.phase.on_its_own and not isinstance(other.call.operation, AnyAgent) for other in others)

    async def disks_settled(self, run: Run) -> None:
        """Wait until no mirror on this run's domain is on its way to its end, for STUCK_SECONDS at most: the other half of `alone`."""
        uuid = run.call.operation.uuid
        blocks = [other.block for other in self.by_id.values() if other is not run and other.call.operation.uuid == uuid and other.block is not None]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STUCK_SECONDS):
                for block in blocks:
                    if block.finishes:
                        await block.ended.wait()

    async def cancel(self, call_id: str) -> CancelAnswer:
        """Abort one call: only where the statistics show that the domain's job is this very call."""
        run = self.by_id.get(call_id)
        if run is None:
            return CancelAnswer(sent=False, message="no such call is out here")
        run.unwanted = True
        if run.block is not None:
            return await run.block.cancel()
        if isinstance(run.call.operation, AnyBlocks):
            return CancelAnswer(sent=False, message=NOT_YET)
        if run.gave_up is not None:
            if not run.gave_up.done():
                run.gave_up.set_result(None)
            return CancelAnswer(sent=True)
        if run.asks:
            return CancelAnswer(sent=False, message="the guest is being asked; its answer is not waited for yet")
        if not run.abortable:
            return CancelAnswer(sent=False, final=True, message=f"{run.call.operation.verb} cannot be aborted on this hypervisor")
        return await self.abort(run)

    async def steer(self, call_id: str, steering: Steering) -> CancelAnswer:
        """Tell one call's block job or backup something. Raises what libvirt refuses."""
        run = self.by_id.get(call_id)
        if run is None or run.block is None:
            return CancelAnswer(sent=False, message="no such background job is under way here")
        return await run.block.steer(steering)

    async def _is_shown(self, run: Run, began: float) -> bool:
        """Whether the statistics show this call now. Raises TimeoutError where they do not come."""

        if run.check is None or run.check.done():
            run.check = asyncio.ensure_future(self.lanes.abort.call(lambda connection: _shows(connection, run, began)))
            run.check.add_done_callback(lambda done: done.cancelled() or done.exception())
        return await asyncio.wait_for(asyncio.shield(run.check), STUCK_SECONDS)

    async def abort(self, run: Run) -> CancelAnswer:
        """virDomainAbortJob, only where the statistics show this very call; what stands in its way is told."""
        try:
            return await self.break_off(run)
        except TimeoutError:
            return CancelAnswer(sent=False, message=SILENT)
        except DriverError as error:
            return CancelAnswer(sent=False, final=error.reason is Reason.UNSUPPORTED, message=error.fault.message)

    async def break_off(self, run: Run) -> CancelAnswer:
        """The same. Raises TimeoutError, FOREIGN_JOB where the domain could not be asked, and what libvirt refuses."""
        began = run.began
        if began is None:
            return CancelAnswer(sent=False, message=NOT_YET)
        if not await self._is_shown(run, began):
            return CancelAnswer(sent=False, message=NOT_SHOWN)
        refusal = await self.lanes.abort.call(lambda connection: self._abort_shown(connection, run, began))
        return CancelAnswer(sent=refusal is None, message=refusal or "")

    def _abort_shown(self, connection: Any, run: Run, began: float) -> str | None:
        """Abort, or say why not. On a lane's thread, which may have been long in coming: another's job can have begun meanwhile."""
        if self.by_id.get(run.call.id) is not run:
            return "the call is over"
        job = _shown(connection, run, began)
        if job is None or not job.abortable:
            return NOT_SHOWN if job is None else IN_POST_COPY
        connection.lookupByUUIDString(run.call.operation.uuid).abortJob()
        return None

    async def tune(self, call_id: str, tuning: Tuning) -> TuneAnswer:
        """Change a migration that runs: only where the statistics show that the domain's job is this very call. Raises what libvirt refuses."""
        run = self.by_id.get(call_id)
        if run is None or not isinstance(run.call.operation, Migrate):
            return TuneAnswer(sent=False, message="no such migration is out here")
        if run.began is None:
            return TuneAnswer(sent=False, message=NOT_YET)
        began = run.began
        try:
            if not await self._is_shown(run, began):
                return TuneAnswer(sent=False, message=NOT_SHOWN)
            return await self.lanes.abort.bounded(lambda connection: self._tune_shown(connection, run, began, tuning))
        except TimeoutError:
            raise failure(Reason.FOREIGN_JOB, SILENT) from None

    def _tune_shown(self, connection: Any, run: Run, began: float, tuning: Tuning) -> TuneAnswer:
        """As `_abort_shown`."""
        if self.by_id.get(run.call.id) is not run:
            return TuneAnswer(sent=False, message="the call is over")
        job = _shown(connection, run, began)
        why = NOT_SHOWN if job is None else tunings.refused(tuning, post_copy=job.post_copy)
        if why:
            return TuneAnswer(sent=False, message=why)
        return tunings.tune(connection.lookupByUUIDString(run.call.operation.uuid), tuning)

    async def follow(self, run: Run) -> None:
        """Poll the job's statistics and report them, until cancelled."""
        last_seen = asyncio.get_running_loop().time()
        for number in itertools.count():
            if run.began is not None:
                stamp = self.clock.stamp()
                try:
                    job = await self._look_again(run, limits=number % LIMITS_EVERY == 0)
                except DriverError as error:
                    if error.reason is Reason.UNSUPPORTED:
                        return
                    job = None
                now = asyncio.get_running_loop().time()
                if job is not None:
                    last_seen = now
                    self.report(run, job, stamp)
                elif now - last_seen >= STUCK_SECONDS:
                    self._tell_unseen(run)
            await asyncio.sleep(POLL_SECONDS)

    def look(self, uuid: str, *, limits: bool = False) -> asyncio.Future[JobLook | None]:
        """A look at a domain's statistics. While one is out there is no other: a domain in which it hangs is left alone until it returns."""
        looking = self._looks.get(uuid)
        if looking is None:
            looking = self._looks[uuid] = asyncio.ensure_future(self.lanes.progress.call(lambda connection: look(connection, uuid, limits=limits)))
            looking.add_done_callback(lambda done: self._looked(uuid, done))
        awaited = asyncio.shield(looking)
        # Whoever asked may have gone by then.
        awaited.add_done_callback(lambda done: done.cancelled() or done.exception())
        return awaited

    def _looked(self, uuid: str, done: asyncio.Future[JobLook | None]) -> None:
        del self._looks[uuid]
        if not done.cancelled():
            done.exception()  # its error is for those who wait, and they may all have gone

    async def _look_again(self, run: Run, *, limits: bool) -> JobLook | None:
        looking = self.look(run.call.operation.uuid, limits=limits)
        if not (await asyncio.wait({looking}, timeout=STUCK_SECONDS))[0]:
            self._tell_unseen(run)
        return await looking

    def _tell_unseen(self, run: Run) -> None:
        self.deliver(Report(call_id=run.call.id, phase=run.phase, abortable=False))

    def report(self, run: Run, job: JobLook, stamp: Stamp) -> bool:
        """Deliver what the statistics say, where they are ours. Whether they are."""
        ours = run.began is not None and is_ours(job, run.operation, run.began, run.now(), run.within)
        told = report(run.call.id, job, stamp) if ours else Report(call_id=run.call.id, phase=run.phase, abortable=False)
        if told.abortable and not run.abortable:
            told = msgspec.structs.replace(told, abortable=False)
        run.phase = told.phase
        self.deliver(told)
        return ours

    def report_end(self, run: Run, reading: Reading) -> None:
        """What a migration was like, told at its end."""
        self.deliver(Report(call_id=run.call.id, phase=Phase.MIGRATION_FINISH, abortable=False, migration=reading))

    def enter(self, run: Run, phase: Phase) -> None:
        """Report a new phase."""
        run.phase = phase
        self.deliver(Report(call_id=run.call.id, phase=phase, abortable=run.gave_up is not None))


def _shows(connection: Any, run: Run, began: float) -> bool:
    """Whether the statistics show this call, under way. Blocks."""
    return _shown(connection, run, began) is not None


def _shown(connection: Any, run: Run, began: float) -> JobLook | None:
    """This call's job, under way, as the statistics show it; None where they do not. Blocks. Raises FOREIGN_JOB where nothing could be asked."""
    for _ in range(BRIEF_LOOKS):
        job = look(connection, run.call.operation.uuid)
        if job is not None:
            return job if job.live and is_ours(job, run.operation, began, run.now(), run.within) else None
        time.sleep(BRIEF_SECONDS)
    raise failure(Reason.FOREIGN_JOB, SILENT)


def given_up(verb: str) -> DriverError:
    """The error of an asking verb whose wait was cancelled."""
    return failure(Reason.ABORTED, f"no longer waiting for the guest to {verb}: it was asked, and may still do it")
