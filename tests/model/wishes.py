"""Who wanted which job to stop: kept by those who asked, to be held against what the server did."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

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
        self.finishing: dict[str, set[str]] = {}
        """How those with a mirror, or data to serve, were told to finish."""
        self.foreign_abort = False
        """Somebody else may have aborted one of our operations."""
        self.drained: set[str] = set()
        """The jobs that were not over when the server was asked to end."""
        self.forgotten: set[str] = set()
        """The jobs that were to stop when the server was killed, and that was not stored: an abort may have been sent all the same."""
        self.record = Record()
        self._callers: list[Caller] = []
        self._left_for_good: set[tuple[str, str]] = set()
        """Requests whose last caller with a say in it has left."""

    def listens(self, caller: Caller) -> None:
        """A caller has begun a verb."""
        self._callers.append(caller)

    def left(self, caller: Caller) -> None:
        """A caller goes away now."""
        others = [other for other in self._callers if other is not caller and other.request == caller.request and not other.refused]
        stay = {other.leaves for other in others if not other.left and other.reason is None}
        # Whether one that was lost before it was told of its job has come in, nobody knows.
        detached = any(other.leaves == "detach" and (not other.lost or other.job_id) for other in others)
        if (caller.leaves == "cancel" and "cancel" not in stay) or (caller.leaves == "withdraw" and not stay and not detached):
            self._left_for_good.add(caller.request)
        # One who leaves before it was told of its job may not have one.
        if caller.leaves == "cancel" and "cancel" not in stay and caller.job_id:
            self.must_stop.add(caller.job_id)

    def server_ended(self, held: Mapping[str, Job]) -> None:
        """What was wished and not stored is forgotten with everybody who wished it."""
        kept = {job_id for job_id, job in held.items() if job.finished or job.cancel_reason is not None}
        self.forgotten |= {job_id for job_id, job in held.items() if job_id not in kept and self.stops(job)}
        self.cancelled &= kept
        self.must_stop &= kept
        self.drained &= kept
        self._left_for_good &= {(held[job_id].owner, held[job_id].request_id) for job_id in kept}

    def left_for_good(self, job: Job) -> bool:
        """Whether a caller has left with whom the job's right to go on went."""
        return (job.owner, job.request_id) in self._left_for_good

    def stops(self, job: Job) -> bool:
        """Whether anybody asked it to stop, who could ask for an abort as well."""
        return job.id in self.cancelled or self.left_for_good(job)

    def may_have_left(self, job: Job) -> bool:
        """Whether a queued job may have given up its place: it was asked to, its time is over, or its domain was destroyed."""
        now = asyncio.get_running_loop().time()
        return self.stops(job) or job.id in self.drained or now - (job.created - EPOCH) >= job.wait_limit - 0.01 or self.preempted(job)

    def preempted(self, job: Job) -> bool:
        destroys = (out for out in self.record.calls.values() if out.operation.verb == "Destroy" and out.job_id > job.id)
        return any((out.host, out.operation.uuid) == (job.host, job.uuid) for out in destroys)
