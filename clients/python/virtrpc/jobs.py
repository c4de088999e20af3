"""A handle on a job: follow it, wait for it, cancel it, through broken connections and restarts of the server."""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator, Callable
from typing import TypeVar

import grpc
from google.protobuf.message import Message

from virtrpc import errors
from virtrpc.backoff import Backoff, Deadline, Trials
from virtrpc.silence import silence_of
from virtrpc.v1 import job_pb2 as j
from virtrpc.v1 import types_pb2 as t
from virtrpc.wire import OnBroken, Rpc, Stream, Wire

JOB_ID_KEY = "virtrpc-job-id"
WATCH_JOB: Rpc[j.WatchJobRequest, t.JobUpdate] = Rpc("JobService/WatchJob", t.JobUpdate)
CANCEL_JOB: Rpc[j.CancelJobRequest, j.CancelJobResponse] = Rpc("JobService/CancelJob", j.CancelJobResponse)

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
    Where the server refuses even that, its error is raised: JobNotFound means that it has forgotten the job. A server that was never heard of is
    tried for `patience` seconds.
    """

    def __init__(
        self,
        wire: Wire,
        request: j.WatchJobRequest,
        *,
        deadline: Deadline,
        patience: float | None = None,
        stream: Stream[t.JobUpdate] | None = None,
        job: t.Job | None = None,
    ) -> None:
        self.job = job
        self.on_broken: OnBroken | None = None
        """Called each time the stream broke, or could not be opened, and is tried again, with what broke it (None: it ended)."""
        self.on_mended: Callable[[], None] | None = None
        """Called once the job is heard of again after that, also where it is as it was."""
        self._wire = wire
        self._request = request
        self._silence = silence_of(request)
        self._deadline = deadline
        self._patience = patience
        self._stream = stream
        self._attached = stream is None  # the next call to end is WatchJob, whose refusals count
        self._begun = stream is not None
        self._broken = False
        self._left = False

    @property
    def job_id(self) -> str:
        """The server's id for the job."""
        return self._request.job_id

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
        """Asks the job to stop, and is answered at once. The outcome says what could be done; go on waiting to see what becomes of it.

        A server that is away is tried for 10 s: to ask twice does no harm.
        """
        time = Deadline(self._deadline.cap(CANCEL_SECONDS))
        trials = Trials(time, self._deadline)
        while True:
            try:
                # The answer's job is not taken over: whoever iterates is still to see that revision.
                return await self._wire.unary(CANCEL_JOB, j.CancelJobRequest(job_id=self.job_id), time.left)
            except errors.VirtrpcError as error:
                await self._wire.sleep(trials.pause(error))

    def close(self) -> None:
        """Stops listening, and ends iterations that are under way. What becomes of the job is up to its on_disconnect."""
        self._left = True
        self._drop()

    async def updates(self) -> AsyncGenerator[t.Job, None]:
        """What iterating gives."""
        pause, trials = Backoff(), Trials(Deadline(self._patience), self._deadline)
        if self.job is not None:
            yield self.job
        while not self.done and not self._left:
            try:
                update = await self._read()
            except errors.VirtrpcError as error:
                seconds = self._retry(error, pause) if self._begun else trials.pause(error)
                await self._pause(seconds, error)
                continue
            if update is None:
                await self._pause(pause.next())
                continue
            self._tell_mended()
            if self._take(update.job):
                pause.reset()
                yield update.job
        await self._finish()

    async def _pause(self, seconds: float, error: errors.VirtrpcError | None = None) -> None:
        self._drop()
        if not self._left:
            self._tell_broken(error)
            await self._wire.sleep(self._deadline.cap(seconds))

    def _tell_broken(self, error: errors.VirtrpcError | None) -> None:
        self._broken = True
        if self.on_broken is not None:
            self.on_broken(error)

    def _tell_mended(self) -> None:
        if self._broken and self.on_mended is not None:
            self.on_mended()
        self._broken, self._begun = False, True

    async def _read(self) -> t.JobUpdate | None:
        if self._stream is None:
            self._stream = self._wire.stream(WATCH_JOB, self._request, self._deadline.left, patient=self._begun)
            self._attached = True
        complete = False
        try:
            update = await self._stream.read(self._silence)
            complete = True
            return update
        finally:
            # Also when the task that reads is cancelled: the call is over then, and the next read must open another.
            if not complete:
                self._drop()

    def _retry(self, error: errors.VirtrpcError, pause: Backoff) -> float:
        if self._deadline.passed:
            raise errors.make_error(grpc.StatusCode.DEADLINE_EXCEEDED, message="you stopped listening before the job ended", job=self.job) from error
        if self._attached and isinstance(error, REFUSALS) and error.retry_after is None:
            error.job = self.job
            raise error
        return pause.next(error.retry_after)

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


async def accept(
    wire: Wire, rpc: Rpc[Verb, t.JobUpdate], request: Verb, deadline: Deadline, patience: Deadline, on_broken: OnBroken | None = None
) -> AsyncJobHandle:
    """Sends a verb, and returns as soon as the server has accepted it; raises where it refuses.

    The request gets a request_id where it has none, so that a call which breaks before its acceptance is known can be repeated safely. That is
    done until `patience` is over: a server that is started again is away for seconds.
    """
    options = _options(request)
    options.request_id = options.request_id or str(uuid.uuid4())
    silence = silence_of(options)
    trials = Trials(patience, deadline)
    while True:
        stream = wire.stream(rpc, request, deadline.left)
        try:
            handle = await _accepted(wire, stream, options, deadline, silence)
        except errors.VirtrpcError as error:
            seconds = trials.pause(error)
            if on_broken is not None:
                on_broken(error)
            await wire.sleep(seconds)
        else:
            handle.on_broken = on_broken
            return handle


def _options(request: Message) -> t.JobOptions:
    options = getattr(request, "options", None)
    if not isinstance(options, t.JobOptions):
        raise TypeError(f"{type(request).__name__} is no verb's request")
    return options


async def _accepted(wire: Wire, stream: Stream[t.JobUpdate], options: t.JobOptions, deadline: Deadline, silence: float) -> AsyncJobHandle:
    complete = False
    try:
        job_id = str((await stream.initial_metadata(silence)).get(JOB_ID_KEY, ""))
        # Without the id nothing was accepted, unless a proxy dropped the header: then the first message has it.
        update = None if job_id else await stream.read(silence)
        complete = True
    finally:
        if not complete:
            stream.close()
    if not job_id and update is None:
        raise errors.make_error(grpc.StatusCode.INTERNAL, message="the server ended the call without a job")
    job = update.job if update is not None else None
    request = j.WatchJobRequest(job_id=job_id or (job.job_id if job else ""), heartbeat=options.heartbeat)
    return AsyncJobHandle(wire, request, deadline=deadline, stream=stream, job=job)
