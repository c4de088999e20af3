"""What a simulated hypervisor really did: the truth that tests hold a server's words against."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Literal

import msgspec

from virtrpc_drivers.errors import DriverError, Reason
from virtrpc_drivers.values import Outcome, Value

if TYPE_CHECKING:
    from virtrpc_drivers.sim.sdk import JobHandle


class Deed(Value, frozen=True):
    """One call that it was sent, and what came of it. Times are wall time in seconds."""

    call_id: str
    verb: str
    uuid: str
    began: float
    ended: float | None = None
    how: Literal["running", "succeeded", "failed", "aborted"] = "running"
    reason: str = ""
    """Why it failed: a `Reason`."""
    applied: bool = False
    """Its effect is there, whatever its caller was told."""
    sent: int = 1
    """How often it was sent: a call is sent once."""


class Ledger:
    """Every call of one host, for ever: of no use but in tests."""

    def __init__(self) -> None:
        self._deeds: dict[str, Deed] = {}

    def begun(self, job: JobHandle, wall: float) -> None:
        """A call was sent."""
        self._deeds[job.id] = Deed(call_id=job.id, verb=job.operation.verb, uuid=job.operation.uuid, began=wall)

    def sent_again(self, call_id: str) -> None:
        """A call was sent that had been sent before."""
        deed = self._deeds[call_id]
        self._deeds[call_id] = msgspec.structs.replace(deed, sent=deed.sent + 1)

    def ended(self, job: JobHandle, task: asyncio.Task[Outcome], wall: float) -> None:
        """A call is over."""
        how, reason = _end(task)
        self._deeds[job.id] = msgspec.structs.replace(self._deeds[job.id], ended=wall, how=how, reason=reason, applied=job.applied)

    def deeds(self) -> tuple[Deed, ...]:
        """All of them, in the order in which they began."""
        return tuple(self._deeds.values())


def _end(task: asyncio.Task[Outcome]) -> tuple[Literal["succeeded", "failed", "aborted"], str]:
    if task.cancelled():
        return "aborted", ""
    error = task.exception()
    if error is None:
        return "succeeded", ""
    reason = error.reason if isinstance(error, DriverError) else Reason.INTERNAL
    return ("aborted" if reason is Reason.ABORTED else "failed"), reason.value
