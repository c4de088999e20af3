"""Who wanted which job to stop: kept by those who asked, to be held against what the server did."""

from __future__ import annotations

import asyncio

from tests.model.callers import Caller
from tests.model.record import Record
from tests.virtual_time import EPOCH
from virtrpc_server.records import Job


class Wishes:
    """`cancelled` are the jobs for which CancelJob was called."""

    def __init__(self) -> None:
        self.cancelled: set[str] = set()
        self.must_stop: set[str] = set()
        """The jobs whose last caller with CANCEL has left, as far as is known."""
        self.foreign_abort = False
        """Somebody else may have aborted one of our operations."""
        self.drained = False
        self.record = Record()
        self._callers: list[Caller] = []
        self._left_for_good: set[str] = set()
        self._left_nameless: set[str] = set()

    def listens(self, caller: Caller) -> None:
        """A caller has begun a verb."""
        self._callers.append(caller)

    def left(self, caller: Caller) -> None:
        """A caller goes away now."""
        if not caller.job_id:
            # One who leaves before it was told of its job does not know which one it was.
            self._left_nameless.add(caller.leaves)
            return
        others = [other for other in self._callers if other is not caller and other.leaves and other.job_id == caller.job_id]
        stay = {other.leaves for other in others if not other.left and other.reason is None}
        detached = any(other.leaves == "detach" for other in others)
        if (caller.leaves == "cancel" and "cancel" not in stay) or (caller.leaves == "withdraw" and not stay and not detached):
            self._left_for_good.add(caller.job_id)
        if caller.leaves == "cancel" and "cancel" not in stay:
            self.must_stop.add(caller.job_id)

    def left_for_good(self, job_id: str) -> bool:
        """Whether a caller has left with whom, as far as is known, the job's right to go on went."""
        return job_id in self._left_for_good or bool(self._left_nameless & {"withdraw", "cancel"})

    def stops(self, job: Job) -> bool:
        """Whether anybody asked it to stop."""
        return job.id in self.cancelled or self.left_for_good(job.id) or self.drained

    def may_have_left(self, job: Job) -> bool:
        """Whether a queued job may have given up its place: it was asked to, its time is over, or its domain was destroyed."""
        now = asyncio.get_running_loop().time()
        return self.stops(job) or now - (job.created - EPOCH) >= job.wait_limit - 0.01 or self.preempted(job)

    def preempted(self, job: Job) -> bool:
        destroys = (out for out in self.record.calls.values() if out.operation.verb == "Destroy" and out.job_id > job.id)
        return any((out.host, out.operation.uuid) == (job.host, job.uuid) for out in destroys)
