"""The simulated hypervisor's asynchronous SDK: an operation is a job handle that can be waited on, watched and cancelled."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from virtrpc_drivers.errors import DriverError, Fault, Reason
from virtrpc_drivers.operations import AnyOperation
from virtrpc_drivers.protocol import Call
from virtrpc_drivers.values import Outcome, Phase

if TYPE_CHECKING:
    from virtrpc_drivers.sim.blocks import SimBlockJob
    from virtrpc_drivers.sim.hypervisor import SimHypervisor
    from virtrpc_drivers.sim.transfer import Transfer
    from virtrpc_drivers.values import BackupInfo

_CODES = {
    Reason.FAILED: 9,
    Reason.INVALID_ARGUMENT: 8,
    Reason.XML_INVALID: 27,
    Reason.ALREADY_EXISTS: 9,
    Reason.HOST_UNREACHABLE: 38,
    Reason.DOMAIN_NOT_FOUND: 42,
    Reason.WRONG_STATE: 55,
    Reason.FOREIGN_JOB: 68,
    Reason.SNAPSHOT_NOT_FOUND: 72,
    Reason.CHECKPOINT_NOT_FOUND: 103,
    Reason.ABORTED: 78,
    Reason.UNSUPPORTED: 84,
    Reason.AGENT_UNRESPONSIVE: 86,
    Reason.DEVICE_NOT_FOUND: 99,
}


def sdk_error(reason: Reason, message: str) -> DriverError:
    """An error with the code that libvirt gives for this reason."""
    return DriverError(Fault(reason=reason, message=message, libvirt_code=_CODES.get(reason)))


class JobHandle:
    """One operation inside the hypervisor. It lives there: who began it may go away."""

    def __init__(self, hypervisor: SimHypervisor, call: Call) -> None:
        self._hypervisor = hypervisor
        self.call = call
        self.phase = Phase.CALLING
        self.began = asyncio.get_running_loop().time()
        self.visible = False
        """Whether it is the job that the domain's job statistics show (an asynchronous job, in libvirt's words)."""
        self.abortable = False
        """Whether an abort reaches it now."""
        self.processed_bytes: int | None = None
        self.total_bytes: int | None = None
        self.rate: int | None = None
        self.fraction: float | None = None
        self.remaining_bytes: int | None = None
        """Where that is not what is missing of the total: memory that was sent is written to again."""
        self.transfer: Transfer | None = None
        """A migration on its way, which can be tuned."""
        self.block: SimBlockJob | None = None
        """Its block job or backup, once that runs."""
        self.backup: BackupInfo | None = None
        """What it backs up, once it does."""
        self.trouble: Fault | None = None
        """What keeps it from being finished."""
        self.arrived = asyncio.Event()
        """It has the handle that it needs, or needs none, or never will."""
        self.applied = False
        """Its effect is there; only the answer is missing."""
        self.carried_away = False
        """It ended with the process that carried it: what it says of itself is no truth about its effect."""
        self.aborted: float | None = None
        """When an abort reached it, in the loop's time."""
        self.observers: list[Callable[[JobHandle], None]] = []
        self.task: asyncio.Task[Outcome] | None = None
        self._end: DriverError | None = None

    @property
    def id(self) -> str:
        """The call's id."""
        return self.call.id

    @property
    def operation(self) -> AnyOperation:
        """What is being done."""
        return self.call.operation

    @property
    def done(self) -> bool:
        """Whether it ended."""
        return self.task is not None and self.task.done()

    async def wait(self) -> Outcome:
        """Wait for its end; a waiter that is cancelled leaves it running."""
        assert self.task is not None
        try:
            return await asyncio.shield(self.task)
        except asyncio.CancelledError:
            # It was stopped before it had taken its first step, and could not say so itself.
            if self._end is None or not self.task.cancelled():
                raise
            raise self._end from None

    def abort(self) -> bool:
        """Cancel it by its handle; False where an abort does not reach it now."""
        if self.done or self.applied or not self.abortable:
            return False
        self.aborted = self._hypervisor.now()
        self._stop(sdk_error(Reason.ABORTED, f"operation aborted: {self.operation.verb} was canceled by client"))
        return True

    def kill(self, error: DriverError) -> None:
        """Its guest is gone: it ends with this error, unless its effect is there already or a stubborn fault holds it."""
        if not self.done and not self.applied and self._end is None:
            self._stop(error)

    def carry_away(self) -> None:
        """It ends with the process that carries it."""
        if not self.done:
            self.carried_away = True
            self._stop(sdk_error(Reason.DRIVER_LOST, "the driver process that carried the call ended"))

    def failed_by(self) -> DriverError | None:
        """What stopped it from outside."""
        return self._end

    async def strike(self, step: int) -> None:
        """Suffer the faults of this step. An abort waits meanwhile: a stuck call does not hear it."""
        abortable, self.abortable = self.abortable, False
        try:
            await self._hypervisor.faults.strike(self.operation.verb, self.operation.uuid, step)
        finally:
            self.abortable = abortable

    async def pause(self, seconds: float, *, abortable: bool = False) -> None:
        """Let time pass on the way to the hypervisor, whatever its guest does."""
        self.abortable = abortable
        await asyncio.sleep(seconds)
        self.abortable = False

    async def spend(self, seconds: float, total_bytes: int | None = None, *, abortable: bool = False, progress: bool = False) -> None:
        """Let time pass, with progress. Stands still while the guest's process is stopped."""
        options = self._hypervisor.options
        ticks = max(1, math.ceil(seconds / options.progress_seconds)) if progress else 1
        self.total_bytes, self.rate = total_bytes, int(total_bytes / seconds) if total_bytes is not None and seconds else None
        self.visible = self.visible or progress
        for tick in range(ticks):
            self._advance(tick / ticks if progress else None, abortable)
            await asyncio.sleep(seconds / ticks)
            self.abortable = False
            await self._hypervisor.monitor(self.operation.uuid)
        self._advance(1.0 if progress else None, abortable=False)

    def show(self, transfer: Transfer, *, abortable: bool) -> None:
        """Tell how far a migration is."""
        if self.phase is not Phase.MIGRATION_FINISH:
            self.phase = transfer.phase
        self.abortable = abortable
        self.processed_bytes, self.remaining_bytes = int(transfer.sent), int(transfer.left)
        self.total_bytes = max(transfer.total, int(transfer.sent + transfer.left))
        self.rate = int(transfer.rate) if transfer.rate != float("inf") else None
        self.fraction = min(1.0, transfer.sent / self.total_bytes)
        self.tell()

    def enter(self, phase: Phase) -> None:
        """It is in another phase now; what goes on without its call can be given up at any time."""
        self.phase, self.abortable = phase, phase.on_its_own
        self.tell()

    def complain(self, fault: Fault | None) -> None:
        """Something keeps it from being finished, or no longer."""
        if fault != self.trouble:
            self.trouble = fault
            self.tell()

    def move(self, processed: int, total: int, rate: int | None) -> None:
        """What goes on in the background has come so far."""
        self.processed_bytes, self.total_bytes, self.rate = processed, total, rate
        self.tell()

    def tell(self) -> None:
        """Tell the observers."""
        for observer in list(self.observers):
            observer(self)

    def _advance(self, fraction: float | None, abortable: bool) -> None:
        self.abortable, self.fraction = abortable, fraction
        self.processed_bytes = int(self.total_bytes * fraction) if self.total_bytes is not None and fraction is not None else None
        if fraction is not None:
            self.tell()

    def _stop(self, error: DriverError) -> None:
        self._end = error
        assert self.task is not None
        self.task.cancel()


class ForeignJob:
    """A job that somebody else (virsh, nova) runs on a domain."""

    def __init__(self, verb: str, ended: Callable[[ForeignJob], None]) -> None:
        self.verb = verb
        self.aborted = False
        """Whether an abort hit it: ours never should."""
        self.over = asyncio.Event()
        self._ended = ended

    def end(self, *, aborted: bool = False) -> None:
        """It ends."""
        if not self.over.is_set():
            self.aborted = aborted
            self.over.set()
            self._ended(self)


class SharedHandle:
    """The one editable handle of a domain. Whoever begins an edit while another is open has raced: the SDK refuses."""

    def __init__(self) -> None:
        self.editor: str | None = None
        self._free: asyncio.Event | None = None

    def begin_edit(self, who: str) -> None:
        """Open an edit. Raises DriverError (OPERATION_FAILED) where one is open."""
        if self.editor is not None:
            raise sdk_error(Reason.FAILED, f"the domain's handle is being edited by {self.editor}: {who} began a concurrent edit")
        self.editor = who

    def commit(self) -> None:
        """Close the edit."""
        self.editor = None
        if self._free is not None:
            self._free.set()
            self._free = None

    async def free(self) -> None:
        """Wait until no edit is open."""
        while self.editor is not None:
            if self._free is None:
                self._free = asyncio.Event()
            await self._free.wait()
