"""Watches that go on after a broken connection, and mirrors that hold what a watch has told."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import Generic, TypeVar

from virtrpc import errors
from virtrpc.backoff import Backoff, Deadline, Trials
from virtrpc.v1 import job_pb2 as j
from virtrpc.v1 import query_pb2 as q
from virtrpc.v1 import types_pb2 as t
from virtrpc.wire import OnBroken, Stream, Wire

_REFUSALS = (
    errors.NotFound,
    errors.InvalidArgument,
    errors.AmbiguousName,
    errors.PermissionDenied,
    errors.Unauthenticated,
    errors.Unimplemented,
)

Batch = TypeVar("Batch", q.WatchDomainsResponse, j.WatchJobsResponse)


class AsyncWatch(Generic[Batch]):
    """A watch. Iterating gives batches, heartbeats included, until you leave or the client's listen_timeout passes.

    On any other status it resumes after the last batch that was taken. Where the server no longer knows that point, the next batch has `reset`
    set: forget everything you hold before you apply it. A server that cannot be reached at the very first, for as long as the client's `timeout`,
    is raised as ServerUnavailable.
    """

    def __init__(
        self,
        wire: Wire,
        open_stream: Callable[[str, bool], Stream[Batch]],
        *,
        resume_token: str,
        deadline: Deadline,
        silence: float,
        patience: float | None,
    ) -> None:
        self.resume_token = resume_token
        self.on_broken: OnBroken | None = None
        """Called each time the stream broke, or could not be opened, and is tried again, with what broke it (None: it ended)."""
        self._wire = wire
        self._open: Callable[[str, bool], Stream[Batch]] = open_stream
        self._deadline = deadline
        self._silence = silence
        self._patience = patience
        self._stream: Stream[Batch] | None = None
        self._begun = False
        self._lost = False  # the server threw our token away: the next batch is a reset, whatever it says
        self._left = False

    def __aiter__(self) -> AsyncGenerator[Batch, None]:
        return self.batches()

    def close(self) -> None:
        """Ends the watch, and iterations that are under way."""
        self._left = True
        self._drop()

    async def batches(self) -> AsyncGenerator[Batch, None]:
        """What iterating gives."""
        pause, trials = Backoff(), Trials(Deadline(self._patience), self._deadline)
        try:
            while not self._left and not self._deadline.passed:
                try:
                    batch = await self._read()
                except errors.VirtrpcError as error:
                    await self._pause(self._retry(error, pause, trials), error)
                    continue
                if batch is None:
                    await self._pause(pause.next())
                    continue
                pause.reset()
                yield self._taken(batch)
        finally:
            self._drop()

    async def _pause(self, seconds: float, error: errors.VirtrpcError | None = None) -> None:
        self._drop()
        if not self._left and not self._deadline.passed:
            if self.on_broken is not None:
                self.on_broken(error)
            await self._wire.sleep(self._deadline.cap(seconds))

    async def _read(self) -> Batch | None:
        if self._stream is None:
            self._stream = self._open(self.resume_token, self._begun)
        return await self._stream.read(self._silence)

    def _taken(self, batch: Batch) -> Batch:
        batch.reset = batch.reset or self._lost
        self.resume_token = batch.resume_token
        self._begun, self._lost = True, False
        return batch

    def _retry(self, error: errors.VirtrpcError, pause: Backoff, trials: Trials) -> float:
        """Seconds until the next attempt; raises the error where there is to be none."""
        if error.reason == "RESUME_TOKEN_INVALID" and self.resume_token:
            self.resume_token, self._lost = "", True
        elif not self._begun:
            return trials.pause(error)
        elif isinstance(error, _REFUSALS) and error.retry_after is None and not self._deadline.passed:
            raise error
        return pause.next(error.retry_after)

    def _drop(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None


class DomainMirror:
    """The domains of a watch as last told, by (host, uuid), and the hosts that are not LIVE: take their domains for STALE."""

    def __init__(self) -> None:
        self.domains: dict[tuple[str, str], t.Domain] = {}
        self.unreachable: dict[str, t.UnreachableHost] = {}
        self.caught_up = False

    def apply(self, batch: q.WatchDomainsResponse) -> None:
        """Takes a batch over."""
        if batch.reset:
            self.domains.clear()
        for change in batch.changes:
            self._apply(change)
        self.unreachable = {host.host: host for host in batch.unreachable}
        self.caught_up = batch.caught_up

    def _apply(self, change: q.DomainChange) -> None:
        if change.WhichOneof("change") == "current":
            self.domains[change.current.host, change.current.uuid] = change.current
        elif change.WhichOneof("change") == "removed":
            key = (change.removed.domain.host, change.removed.domain.uuid)
            held = self.domains.get(key)
            if held is not None and change.removed.generation in ("", held.generation):
                del self.domains[key]


class JobMirror:
    """The jobs of a watch as last told, by id, and the hosts that are not LIVE."""

    def __init__(self) -> None:
        self.jobs: dict[str, t.Job] = {}
        self.unreachable: dict[str, t.UnreachableHost] = {}
        self.caught_up = False

    def apply(self, batch: j.WatchJobsResponse) -> None:
        """Takes a batch over."""
        if batch.reset:
            self.jobs.clear()
        for change in batch.changes:
            if change.WhichOneof("change") == "current":
                self.jobs[change.current.job_id] = change.current
            elif change.WhichOneof("change") == "removed":
                self.jobs.pop(change.removed.job_id, None)
        self.unreachable = {host.host: host for host in batch.unreachable}
        self.caught_up = batch.caught_up
