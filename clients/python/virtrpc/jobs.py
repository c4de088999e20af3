"""A handle on a job: follow it, wait for it, cancel it, through broken connections and restarts of the server."""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator
from typing import TypeVar

import grpc
from google.protobuf.message import Message

from virtrpc import errors
from virtrpc.backoff import Backoff, Deadline
from virtrpc.v1 import job_pb2 as j
from virtrpc.v1 import types_pb2 as t
from virtrpc.wire import Rpc, Stream, Wire

JOB_ID_KEY = "virtrpc-job-id"
WATCH_JOB: Rpc[j.WatchJobRequest, t.JobUpdate] = Rpc("JobService/WatchJob", t.JobUpdate)
CANCEL_JOB: Rpc[j.CancelJobRequest, j.CancelJobResponse] = Rpc("JobService/CancelJob", j.CancelJobResponse)

ACCEPT_ATTEMPTS = 3
CANCEL_SECONDS = 10.0
# After the final state the server ends the call by itself; a proxy that keeps it open must not keep the caller.
_END_OF_STREAM_SECONDS = 2.0

_FINAL = frozenset(
    {
        t.JOB_STATE_SUCCEEDED,
        t.JOB_STATE_FAILED,
        t.JOB_STATE_CANCELLED,
        t.JOB_STATE_PREEMPTED,
        t.JOB_STATE_INTERRUPTED,
        t.JOB_STATE_OUTCOME_UNKNOWN,
    }
)
# Answers of WatchJob that stay the same however often it is asked.
REFUSALS = (errors.NotFound, errors.InvalidArgument, errors.PermissionDenied, errors.Unauthenticated, errors.Unimplemented)


Verb = TypeVar("Verb", bound=Message)


def is_final(job: t.Job) -> bool:
    """The job has ended; its state changes no more."""
    return job.state in _FINAL


class AsyncJobHandle:
    """One job. Iterating gives the job each time it changes, its present state first and its final state last, and never raises for a job
    that failed; `wait` does.

    A call that ends without a final state, for whatever reason, is taken up again with WatchJob, with growing pauses, until `deadline`.
    Where the server refuses even that, its error is raised: JobNotFound means that it has forgotten the job.
    """

    def __init__(self, wire: Wire, job_id: str, *, deadline: Deadline, stream: Stream[t.JobUpdate] | None = None, job: t.Job | None = None) -> None:
        self.job_id = job_id
        self.job = job
        self._wire = wire
        self._deadline = deadline
        self._stream = stream
        self._attached = stream is None  # the next call to end is WatchJob, whose refusals count
        self._left = False

    @property
    def done(self) -> bool:
        """The final state has been seen."""
        return self.job is not None and is_final(self.job)

    def __aiter__(self) -> AsyncGenerator[t.Job, None]:
        return self.updates()

    async def wait(self) -> t.Job:
        """Follows the job to its end. The job that SUCCEEDED; raises the typed exception of one that did not, with the job in `error.job`."""
        async for _ in self.updates():
            pass
        if self.job is None or not is_final(self.job):
            raise errors.VirtrpcError(grpc.StatusCode.CANCELLED, message="this handle was closed", job=self.job)
        if self.job.state != t.JOB_STATE_SUCCEEDED:
            raise errors.from_job(self.job)
        return self.job

    async def cancel(self) -> j.CancelJobResponse:
        """Asks the job to stop, and is answered at once. The outcome says what could be done; go on waiting to see what becomes of it."""
        # The answer's job is not taken over: whoever iterates is still to see that revision.
        return await self._wire.unary(CANCEL_JOB, j.CancelJobRequest(job_id=self.job_id), self._deadline.cap(CANCEL_SECONDS))

    def close(self) -> None:
        """Stops listening, and ends iterations that are under way. What becomes of the job is up to its on_disconnect."""
        self._left = True
        self._drop()

    async def updates(self) -> AsyncGenerator[t.Job, None]:
        """What iterating gives."""
        pause = Backoff()
        if self.job is not None:
            yield self.job
        while not self.done and not self._left:
            try:
                update = await self._read()
            except errors.VirtrpcError as error:
                self._give_up(error)
                update = None
            if update is None:
                self._drop()
                if not self._left:
                    await self._wire.sleep(self._deadline.cap(pause.next()))
            elif self._take(update.job):
                pause.reset()
                yield update.job
        await self._finish()

    async def _read(self) -> t.JobUpdate | None:
        if self._stream is None:
            self._stream = self._wire.stream(WATCH_JOB, j.WatchJobRequest(job_id=self.job_id), self._deadline.left)
            self._attached = True
        complete = False
        try:
            update = await self._stream.read()
            complete = True
            return update
        finally:
            # Also when the task that reads is cancelled: the call is over then, and the next read must open another.
            if not complete:
                self._drop()

    def _give_up(self, error: errors.VirtrpcError) -> None:
        if self._deadline.passed:
            raise errors.make_error(grpc.StatusCode.DEADLINE_EXCEEDED, message="you stopped listening before the job ended", job=self.job) from error
        if self._attached and isinstance(error, REFUSALS):
            error.job = self.job
            raise error

    def _take(self, job: t.Job) -> bool:
        if self.job is not None and job.revision <= self.job.revision and not is_final(job):
            return False
        self.job = job
        return True

    async def _finish(self) -> None:
        # Reading to the end lets meshes record the verb's own status instead of a caller that left.
        if self._stream is not None:
            try:
                await self._stream.read(_END_OF_STREAM_SECONDS)
            except errors.VirtrpcError:
                pass  # the job's error as an RPC status: `wait` raises it from the job
            self._drop()

    def _drop(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None


async def accept(wire: Wire, rpc: Rpc[Verb, t.JobUpdate], request: Verb, deadline: Deadline) -> AsyncJobHandle:
    """Sends a verb, and returns as soon as the server has accepted it; raises where it refuses.

    The request gets a request_id where it has none, so that a call which breaks before its acceptance is known can be repeated safely.
    """
    _options(request).request_id = _options(request).request_id or str(uuid.uuid4())
    pause = Backoff()
    while True:
        stream = wire.stream(rpc, request, deadline.left)
        try:
            return await _accepted(wire, stream, deadline)
        except errors.VirtrpcError as error:
            if pause.attempts + 1 >= ACCEPT_ATTEMPTS or deadline.passed or not _was_cut(error):
                raise
            await wire.sleep(deadline.cap(pause.next()))


def _options(request: Message) -> t.JobOptions:
    options = getattr(request, "options", None)
    if not isinstance(options, t.JobOptions):
        raise TypeError(f"{type(request).__name__} is no verb's request")
    return options


async def _accepted(wire: Wire, stream: Stream[t.JobUpdate], deadline: Deadline) -> AsyncJobHandle:
    complete = False
    try:
        job_id = (await stream.initial_metadata()).get(JOB_ID_KEY, "")
        # Without the id nothing was accepted, unless a proxy dropped the header: then the first message has it.
        update = None if job_id else await stream.read()
        complete = True
    finally:
        if not complete:
            stream.close()
    if not job_id and update is None:
        raise errors.make_error(grpc.StatusCode.INTERNAL, message="the server ended the call without a job")
    job = update.job if update is not None else None
    return AsyncJobHandle(wire, str(job_id) or (job.job_id if job else ""), deadline=deadline, stream=stream, job=job)


def _was_cut(error: errors.VirtrpcError) -> bool:
    """It was no answer of a server, or one that sends us elsewhere."""
    cut = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN)
    return error.code in cut and error.reason in ("", "DRAINING")
