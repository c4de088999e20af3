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
        self.foreign_abort = False
        """Somebody else may have aborted one of our operations."""
        self.drained = False
        self.record = Record()
        self._callers: list[Caller] = []
        self._gone: dict[str, str] = {}

    def listens(self, caller: Caller) -> None:
        """A caller has begun a verb."""
        self._callers.append(caller)

    def left(self, caller: Caller) -> None:
        """A caller goes away."""
        if caller.job_id and caller.leaves:
            self._gone[caller.job_id] = caller.leaves

    def left_for_good(self, job_id: str) -> bool:
        """Whether a caller who wanted it to stop has left."""
        known = {caller.leaves for caller in self._callers if caller.left and caller.job_id == job_id}
        # One who left before it was told of its job does not know which one it was.
        unknown = {caller.leaves for caller in self._callers if caller.left and not caller.job_id}
        return bool((known | unknown) & {"withdraw", "cancel"})

    def stops(self, job: Job) -> bool:
        """Whether anybody asked it to stop."""
        return job.id in self.cancelled or self.left_for_good(job.id) or self.drained

    def may_have_left(self, job: Job) -> bool:
        """Whether a queued job may have given up its place: it was asked to, its time is over, or its domain was destroyed."""
        now = asyncio.get_running_loop().time()
        return self.stops(job) or now - (job.created - EPOCH) >= job.wait_limit - 0.01 or self._preempted(job)

    def _preempted(self, job: Job) -> bool:
        destroys = (out for out in self.record.calls.values() if out.operation.verb == "Destroy" and out.job_id > job.id)
        return any((out.host, out.operation.uuid) == (job.host, job.uuid) for out in destroys)
