"""A backup that is under way: followed to its end by libvirt's event and by looks, finished, aborted. Never on a guess."""

from __future__ import annotations

import asyncio
import time

import libvirt
from msgspec.structs import replace

from virtrpc_drivers import operations as ops
from virtrpc_drivers.errors import DriverError, Fault, Reason, failure
from virtrpc_drivers.libvirt import backups
from virtrpc_drivers.libvirt.backups import BackupEnd
from virtrpc_drivers.libvirt.connections import STUCK_SECONDS
from virtrpc_drivers.libvirt.events import Ear, RawEvent
from virtrpc_drivers.libvirt.progress import POLL_SECONDS, JobLook, is_ours, rate_between
from virtrpc_drivers.libvirt.runs import SILENT, Run, Runs
from virtrpc_drivers.protocol import Report
from virtrpc_drivers.values import CancelAnswer, Outcome, Phase, Steering

_SILENT = Fault(reason=Reason.FOREIGN_JOB, message=SILENT)
QUIET_SECONDS = 2.0
"""How long the event of a backup that is gone is waited for before the completed statistics are asked."""


class BackupRun:
    """The backup of one call that has returned (`begun`), or of one that somebody before us sent."""

    def __init__(self, run: Run, runs: Runs, ear: Ear, begun: Outcome | None = None) -> None:
        operation = run.call.operation
        assert isinstance(operation, ops.Backup)
        self._run, self._runs, self._ear, self._operation = run, runs, ear, operation
        self._begun = begun
        self._info = operation.asked
        self._finishing = False
        """Its data was fetched, and it was told so: that breaks it off too."""
        self._aborted = False
        self.ended = asyncio.Event()
        self._last: tuple[float, int] | None = None
        self._end: BackupEnd | None = None
        self._gone_since: float | None = None

    @property
    def finishes(self) -> bool:
        """Never so that others must wait: its end changes nothing in the domain."""
        return False

    async def follow(self) -> Outcome:
        """Report it until it is over. Raises ABORTED, or OPERATION_FAILED where it failed or its guest ended."""
        if self._begun is None:
            self._begun = await self._found()
        self._info = self._begun.backup or self._info
        self._run.block = self
        self._tell(None)
        try:
            while True:
                for event in await self._ear.within(POLL_SECONDS):
                    self._take(event)
                if self._end is not None and self._is_success(self._end):
                    break
                # The look says too whether the guest is there at all: then that is what ended it.
                gone = await self._is_gone()
                self._end = self._end or (await self._completed() if gone else None)
                if self._end is not None:
                    break
            return self._outcome(self._end)
        finally:
            self.ended.set()

    async def _found(self) -> Outcome:
        """What a call brought whose answer nobody got."""
        uuid, operation = self._operation.uuid, self._operation
        try:
            return await self._runs.lanes.reads.bounded(lambda connection: backups.begun(connection.lookupByUUIDString(uuid), operation))
        except (DriverError, TimeoutError):
            return Outcome()

    def _take(self, event: RawEvent) -> None:
        # That the guest ended is for the look to say, which every event brings about: one may tell of an earlier run.
        if event.name == "JOB_COMPLETED" and not self._is_older(event):
            self._end = backups.end(event.fields) or self._end

    def _is_older(self, event: RawEvent) -> bool:
        """Whether it tells of what was before our call; of a call that was adopted everything heard is later."""
        began = self._run.began
        return self._run.now is time.monotonic and began is not None and event.stamp.monotonic < began

    def _guest_ended(self) -> DriverError:
        return failure(Reason.FAILED, "the guest ended before its backup was over: what was written of it is not whole")

    async def _is_gone(self) -> bool:
        job = await self._seen()
        if job is None:
            return False
        now = asyncio.get_running_loop().time()
        if job.present and job.operation == self._run.operation:
            self._gone_since = None
            self._keep_time(job)
            self._tell(job)
            return False
        self._gone_since = self._gone_since or now
        return now - self._gone_since >= QUIET_SECONDS

    def _keep_time(self, job: JobLook) -> None:
        """It was ours at the last look and has not ended since: where clocks say otherwise, one was set, or a daemon began to count anew."""
        run = self._run
        if run.began is None or not is_ours(job, run.operation, run.began, run.now(), run.within):
            run.began = run.now() - job.elapsed

    async def _seen(self) -> JobLook | None:
        """A look at the domain's job; None where nothing can be seen now."""
        looking = self._runs.look(self._operation.uuid)
        if not (await asyncio.wait({looking}, timeout=STUCK_SECONDS))[0]:
            self._runs.deliver(Report(call_id=self._run.call.id, phase=self._run.phase, abortable=False, trouble=_SILENT))
            return None
        try:
            return looking.result()
        except DriverError as error:
            if error.reason in (Reason.DOMAIN_NOT_FOUND, Reason.WRONG_STATE):
                raise self._guest_ended() from None
            self._runs.deliver(Report(call_id=self._run.call.id, phase=self._run.phase, trouble=error.fault))
            return None

    async def _completed(self) -> BackupEnd | None:
        """How it ended, by the statistics that libvirt keeps of it, where its event was not heard; None where it cannot be asked now."""
        uuid = self._operation.uuid
        try:
            end = await self._runs.lanes.reads.bounded(lambda connection: backups.completed(connection.lookupByUUIDString(uuid)))
        except TimeoutError:
            self._runs.deliver(Report(call_id=self._run.call.id, phase=self._run.phase, abortable=False, trouble=_SILENT))
            return None
        if end is None:
            raise failure(Reason.INTERRUPTED, "the backup is gone, and nothing says how it ended")
        return end

    def _is_success(self, end: BackupEnd) -> bool:
        """Whole, or broken off since its data was fetched."""
        return end.whole or (self._finishing and end.canceled)

    def _outcome(self, end: BackupEnd) -> Outcome:
        if not self._is_success(end):
            aborted = end.canceled or self._aborted
            raise failure(Reason.ABORTED if aborted else Reason.FAILED, f"the backup {'was aborted' if aborted else 'failed'}: {end.message}")
        made = self._begun.checkpoint if self._begun is not None else None
        return Outcome(backup=self._info, checkpoint=made)

    async def cancel(self) -> CancelAnswer:
        """Abort it, and no other."""
        answer = await self._runs.abort(self._run)
        self._aborted = self._aborted or answer.sent
        return answer

    async def steer(self, steering: Steering) -> CancelAnswer:
        """End a pull whose data has been fetched."""
        if steering.finish != "stop" or not self._info.pull:
            return CancelAnswer(sent=False, message="a backup can only be told to stop serving its data")
        self._finishing, sent = True, False
        try:
            answer = await self._runs.break_off(self._run)
            sent = answer.sent
        except TimeoutError:
            raise failure(Reason.FOREIGN_JOB, SILENT) from None
        finally:
            self._finishing = sent
        return answer

    def _tell(self, job: JobLook | None) -> None:
        self._run.phase = Phase.READY if self._info.pull else Phase.BACKGROUND
        told = Report(call_id=self._run.call.id, phase=self._run.phase, abortable=True, backup=self._info)
        self._runs.deliver(told if job is None else self._progress(told, job))

    def _progress(self, told: Report, job: JobLook) -> Report:
        fields = job.fields
        if self._info.pull:
            used, total = fields.get(libvirt.VIR_DOMAIN_JOB_DISK_TEMP_USED), fields.get(libvirt.VIR_DOMAIN_JOB_DISK_TEMP_TOTAL)
            self._info = replace(self._info, scratch_used_bytes=used, scratch_total_bytes=total)
            return replace(told, stamp=self._runs.clock.stamp(), backup=self._info, elapsed_seconds=job.elapsed)
        done, left = fields.get(libvirt.VIR_DOMAIN_JOB_DISK_PROCESSED), fields.get(libvirt.VIR_DOMAIN_JOB_DISK_REMAINING)
        now = asyncio.get_running_loop().time()
        rate = rate_between(self._last, (now, done or 0))
        self._last = (now, done or 0)
        return replace(
            told,
            stamp=self._runs.clock.stamp(),
            processed_bytes=done,
            total_bytes=fields.get(libvirt.VIR_DOMAIN_JOB_DISK_TOTAL),
            remaining_bytes=left,
            rate_bytes_per_second=rate,
            remaining_seconds=left / rate if rate and left is not None else None,
            elapsed_seconds=job.elapsed,
        )
