"""A block job that is under way: followed to its end by libvirt's events and by looks, finished, slowed down, aborted. Never on a guess."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import libvirt

from virtrpc_drivers import operations as ops
from virtrpc_drivers.errors import DriverError, Fault, Reason, failure
from virtrpc_drivers.finishing import BROKEN_OFF, Refusals, given_up, left_behind
from virtrpc_drivers.libvirt import blocks
from virtrpc_drivers.libvirt.blocks import BlockLook
from virtrpc_drivers.libvirt.connections import STUCK_SECONDS
from virtrpc_drivers.libvirt.events import Ear, RawEvent
from virtrpc_drivers.libvirt.progress import POLL_SECONDS, rate_between
from virtrpc_drivers.libvirt.proofs.blocks import judged
from virtrpc_drivers.libvirt.proofs.common import Verdict
from virtrpc_drivers.libvirt.runs import Run, Runs
from virtrpc_drivers.protocol import Report
from virtrpc_drivers.values import CancelAnswer, Outcome, Phase, Steering

QUIET_SECONDS = 2.0
"""How long the event of a job that is gone is waited for before the disk's chain is looked at."""
_PIVOT = libvirt.VIR_DOMAIN_BLOCK_JOB_ABORT_PIVOT | libvirt.VIR_DOMAIN_BLOCK_JOB_ABORT_ASYNC
_BREAK_OFF = libvirt.VIR_DOMAIN_BLOCK_JOB_ABORT_ASYNC
_ENDS = (libvirt.VIR_DOMAIN_BLOCK_JOB_COMPLETED, libvirt.VIR_DOMAIN_BLOCK_JOB_FAILED, libvirt.VIR_DOMAIN_BLOCK_JOB_CANCELED)
_MAY_PASS = (Reason.FOREIGN_JOB, Reason.HOST_UNREACHABLE, Reason.WRONG_STATE)
"""Why a finish is refused that may yet succeed, beside a mirror that is not ready: where the guest or the mirror has ended, a look will say so."""
_SILENT = Fault(reason=Reason.FOREIGN_JOB, message="the hypervisor does not answer for this disk")
_OVER = "its block job is over"


class BlockRun:
    """The block job of one call that has returned. It ends on libvirt's event, and where that is missed on what can be read."""

    def __init__(self, run: Run, runs: Runs, ear: Ear) -> None:
        operation = run.call.operation
        assert isinstance(operation, ops.AnyBlocks)
        self._run, self._runs, self._ear, self._operation = run, runs, ear, operation
        self._finish = getattr(operation, "finish", "")
        self._finishing = ""
        """How it is being finished."""
        self._sent = ""
        """How libvirt was told to finish it, unless it has refused that. Set on a lane's thread."""
        self._trying: asyncio.Future[bool] | None = None
        """The try to finish it by itself whose answer was not seen yet."""
        self._refusals = Refusals()
        self._last: tuple[float, int] | None = None
        self._looking: asyncio.Future[BlockLook | None] | None = None
        self._seen_at = asyncio.get_running_loop().time()
        self._unseen = _SILENT
        """Why the last look showed nothing."""
        self._end: int | None = None
        """The last end that an event told of."""
        self._gone_since: float | None = None
        self._mirrors = isinstance(operation, ops.CopyBlock)
        self._aborted = False
        """Whether it was us who broke it off."""
        self.ended = asyncio.Event()

    @property
    def finishes(self) -> bool:
        """See Steered."""
        return bool(self._finishing or self._sent) and not self.ended.is_set()

    async def follow(self) -> Outcome:
        """Report it until it is over. Raises ABORTED, or OPERATION_FAILED where it failed or its guest ended."""
        self._run.block = self
        self._tell(Phase.BACKGROUND, None)
        try:
            while True:
                for event in await self._ear.within(POLL_SECONDS):
                    self._take(event)
                seen = await self._seen()
                if seen is None:
                    self._tell_unseen()
                elif await self._is_over(seen):
                    return await self._outcome()
        finally:
            self.ended.set()

    def _take(self, event: RawEvent) -> None:
        # That the guest ended is for the look to say, which every event brings about: one may tell of an earlier run.
        mine = event.name == "BLOCK_JOB_2" and event.text == self._operation.disk and not self._is_older(event)
        if mine and event.status in _ENDS:
            self._end = event.status

    def _is_older(self, event: RawEvent) -> bool:
        """Whether it tells of what was before our call; of a call that was adopted everything heard is later."""
        began = self._run.began
        return self._run.now is time.monotonic and began is not None and event.stamp.monotonic < began

    async def _seen(self) -> BlockLook | None:
        """A look at the disk. While one is out there is no other; None where there is nothing to be seen now."""
        self._unseen = _SILENT
        if self._looking is None or self._looking.done():
            uuid, disk = self._operation.uuid, self._operation.disk
            self._looking = asyncio.ensure_future(self._runs.lanes.progress.call(lambda connection: blocks.look(connection, uuid, disk)))
            self._looking.add_done_callback(lambda done: done.cancelled() or done.exception())
        try:
            return await asyncio.wait_for(asyncio.shield(self._looking), STUCK_SECONDS)
        except TimeoutError:
            return None
        except DriverError as error:
            if error.reason in (Reason.DOMAIN_NOT_FOUND, Reason.WRONG_STATE):
                raise failure(Reason.FAILED, f"the guest ended before the block job on disk {self._operation.disk} was over") from None
            self._unseen = error.fault
            return None

    def _tell_unseen(self) -> None:
        """Say why nothing is seen of it, where that has lasted: the next look may be luckier, as a rule."""
        if asyncio.get_running_loop().time() - self._seen_at >= STUCK_SECONDS:
            self._runs.deliver(Report(call_id=self._run.call.id, phase=self._run.phase, abortable=False, trouble=self._unseen))

    async def _is_over(self, seen: BlockLook) -> bool:
        now = self._seen_at = asyncio.get_running_loop().time()
        if not seen.is_of(self._operation):
            self._gone_since = self._gone_since or now
            return self._end is not None or now - self._gone_since >= QUIET_SECONDS
        self._gone_since = None
        self._mirrors = self._mirrors or seen.ready
        self._tell(Phase.READY if seen.ready else Phase.BACKGROUND, seen)
        if seen.ready and self._finishes_by_itself:
            await self._finish_by_itself(now)
        else:
            self._refusals.clear()
        return False

    @property
    def _finishes_by_itself(self) -> bool:
        return self._finish in ("pivot", "stop") and not self._finishing and self._is_its_turn()

    def _is_its_turn(self) -> bool:
        # Between two calls, never beside one: libvirt would let it wait for that one's job, for 30 s and with a place of the lane for aborts; and
        # a change that merges what it has read must not find another disk in place when it is sent.
        return not self._run.unwanted and self._runs.alone(self._run)

    async def _finish_by_itself(self, now: float) -> None:
        """Try to. What may pass is told with the next look, which tries again. Raises FAILED where that has gone on for too long."""
        try:
            await self._try_to_finish()
            self._refusals.clear()
        except TimeoutError:
            self._refusals.take(_SILENT, now)
        except DriverError as error:
            if self._refusals.take(error.fault, now) or not _may_pass(error.fault):
                await self._give_up(error.fault)

    async def _try_to_finish(self) -> None:
        # One at a time: each that hangs keeps one of the few places for aborts, which all of the host's jobs share.
        if self._trying is None:
            self._trying = asyncio.ensure_future(self._runs.lanes.abort.call(self._telling(self._end_by(self._finish), self._is_its_turn)))
            self._trying.add_done_callback(lambda done: done.cancelled() or done.exception())
        trying, self._finishing, sent = self._trying, self._finish, False
        try:
            sent = await asyncio.wait_for(asyncio.shield(trying), STUCK_SECONDS)
        finally:
            self._trying = None if trying.done() else trying
            if not sent:
                self._finishing = ""

    async def _give_up(self, fault: Fault) -> None:
        """Break off what cannot be finished. Raises FAILED with what became of it, unless it is over after all."""
        try:
            if not await self._abort():
                return
            became = BROKEN_OFF
        except TimeoutError:
            became = left_behind(_SILENT.message)
        except DriverError as error:
            became = left_behind(error.fault.message)
        raise given_up(self._operation.disk, fault, became)

    async def _send_finish(self, how: str) -> bool:
        self._finishing, sent = how, False
        try:
            sent = await self._tell_job(self._end_by(how))
        finally:
            if not sent:
                self._finishing = ""
        return sent

    def _end_by(self, how: str) -> Callable[[Any], object]:
        flags = _PIVOT if how == "pivot" else _BREAK_OFF

        def end(domain: Any) -> None:
            # Before it is sent: its answer may come after the end that it brings about, or when nobody waits for it any more.
            before, self._sent = self._sent, how
            try:
                blocks.end(domain, self._operation.disk, flags)
            except BaseException:
                self._sent = before
                raise

        return end

    async def _tell_job(self, tell: Callable[[Any], object]) -> bool:
        """Tell our job something, where it is there; whether it was. Raises what libvirt refuses, and TimeoutError."""
        return await self._runs.lanes.abort.bounded(self._telling(tell))

    def _telling(self, tell: Callable[[Any], object], may: Callable[[], bool] = lambda: True) -> Callable[[Any], bool]:
        def work(connection: Any) -> bool:
            # The lane may have been long in coming.
            domain = connection.lookupByUUIDString(self._operation.uuid)
            if self.ended.is_set() or not may() or not blocks.job_of(domain, self._operation.disk).is_of(self._operation):
                return False
            tell(domain)
            return True

        return work

    async def cancel(self) -> CancelAnswer:
        """Abort it, and no other."""
        try:
            sent = await self._abort()
        except TimeoutError:
            return CancelAnswer(sent=False, message=_SILENT.message)
        except DriverError as error:
            return CancelAnswer(sent=False, message=error.fault.message)
        return _answer(sent)

    async def _abort(self) -> bool:
        sent = await self._tell_job(lambda domain: blocks.end(domain, self._operation.disk, _BREAK_OFF))
        self._aborted = self._aborted or sent
        return sent

    async def steer(self, steering: Steering) -> CancelAnswer:
        """Finish its mirror, or set its speed. Raises what libvirt refuses."""
        try:
            if steering.finish is not None:
                return await self._steer_to(steering.finish)
            return await self._set_speed(steering.bandwidth_bytes_per_second or 0)
        except TimeoutError:
            raise DriverError(_SILENT) from None

    async def _steer_to(self, how: str) -> CancelAnswer:
        if self._run.phase is not Phase.READY:
            return CancelAnswer(sent=False, message="its mirror is not ready")
        return _answer(await self._send_finish(how))

    async def _set_speed(self, rate: int) -> CancelAnswer:
        flags = libvirt.VIR_DOMAIN_BLOCK_JOB_SPEED_BANDWIDTH_BYTES
        return _answer(await self._tell_job(lambda domain: domain.blockJobSetSpeed(self._operation.disk, rate, flags)))

    async def _outcome(self) -> Outcome:
        disk = self._operation.disk
        match self._end:
            case libvirt.VIR_DOMAIN_BLOCK_JOB_FAILED:
                raise failure(Reason.FAILED, f"the block job on disk {disk} failed: an input or output error, or no space where it writes")
            case libvirt.VIR_DOMAIN_BLOCK_JOB_CANCELED if self._sent != "stop":
                if not self._aborted and (verdict := await self._runs.lanes.reads.bounded(self._judge)).proven:
                    # That was the end of another's job which ours has followed.
                    return verdict.outcome
                raise failure(Reason.ABORTED, f"the block job on disk {disk} was aborted")
            case None:
                return await self._proven()
        return await self._told()

    async def _proven(self) -> Outcome:
        """What the chain says of a job whose end nobody told of."""
        verdict = await self._runs.lanes.reads.bounded(self._judge)
        if not verdict.proven:
            raise failure(
                Reason.FAILED, f"the block job on disk {self._operation.disk!r} is gone without a word, and did not succeed: {verdict.evidence}"
            )
        return verdict.outcome

    def _judge(self, connection: Any) -> Verdict:
        return judged(connection.lookupByUUIDString(self._operation.uuid), self._operation)

    async def _told(self) -> Outcome:
        try:
            path = await self._runs.lanes.reads.bounded(self._path)
        except (DriverError, TimeoutError):
            path = None
        stopped = self._end == libvirt.VIR_DOMAIN_BLOCK_JOB_CANCELED
        return Outcome(path=path, finish="stop" if stopped else "pivot" if self._mirrors else None)

    def _path(self, connection: Any) -> str | None:
        return blocks.active_file(connection.lookupByUUIDString(self._operation.uuid), self._operation.disk)

    def _tell(self, phase: Phase, seen: BlockLook | None) -> None:
        self._run.phase = phase
        if seen is None:
            self._runs.deliver(Report(call_id=self._run.call.id, phase=phase, abortable=True))
            return
        stamp, now = self._runs.clock.stamp(), asyncio.get_running_loop().time()
        rate = rate_between(self._last, (now, seen.done))
        self._last = (now, seen.done)
        left = max(0, seen.total - seen.done)
        self._runs.deliver(
            Report(
                call_id=self._run.call.id,
                phase=phase,
                abortable=True,
                stamp=stamp,
                processed_bytes=seen.done,
                total_bytes=seen.total,
                remaining_bytes=left,
                rate_bytes_per_second=rate,
                remaining_seconds=left / rate if rate else None,
                trouble=self._refusals.fault,
            )
        )


def _may_pass(fault: Fault) -> bool:
    return fault.reason in _MAY_PASS or fault.libvirt_code == libvirt.VIR_ERR_BLOCK_COPY_ACTIVE


def _answer(sent: bool) -> CancelAnswer:
    return CancelAnswer(sent=sent, message="" if sent else _OVER)


async def adopt(run: Run, runs: Runs) -> bool:
    """Whether the block job of a call that somebody before us sent is on its disk still. Raises OUTCOME_UNKNOWN where nobody can say."""
    operation = run.call.operation
    assert isinstance(operation, ops.AnyBlocks)
    try:
        async with asyncio.timeout(STUCK_SECONDS):
            while True:
                is_ours = await runs.lanes.progress.call(lambda connection: _is_ours(connection, operation))
                if is_ours is not None:
                    return is_ours
                await asyncio.sleep(POLL_SECONDS)
    except TimeoutError:
        raise failure(Reason.OUTCOME_UNKNOWN, f"the hypervisor does not say in time what runs on disk {operation.disk!r}") from None
    except DriverError as error:
        if error.reason is Reason.FOREIGN_JOB:
            raise failure(Reason.OUTCOME_UNKNOWN, error.fault.message) from None
        if error.reason is Reason.HOST_UNREACHABLE:
            raise
        return False  # it is off, or gone


def _is_ours(connection: Any, operation: ops.AnyBlocks) -> bool | None:
    seen = blocks.look(connection, operation.uuid, operation.disk)
    if seen is None or not isinstance(operation, ops.CopyBlock) or not seen.is_of(operation):
        return None if seen is None else seen.is_of(operation)
    disk = blocks.disk_of(connection.lookupByUUIDString(operation.uuid), operation.disk)
    return disk is not None and blocks.mirror(disk) == blocks.destination(operation.xml)
