"""Following a job to its end, with what Ctrl-C means meanwhile."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

from virtrpc import errors
from virtrpc.aio import AsyncClient
from virtrpc.cli import text
from virtrpc.cli.display import Display, display, ready, title
from virtrpc.cli.session import FAILED, INTERRUPTED, OK, Session, complain, explain, lost
from virtrpc.jobs import AsyncJobHandle, is_final
from virtrpc.v1 import job_pb2 as j
from virtrpc.v1 import types_pb2 as t

Start = Callable[[AsyncClient], Coroutine[Any, Any, AsyncJobHandle]]

_AGAIN = "Ctrl-C again leaves it to itself"
_OUTCOMES = {
    j.CANCEL_OUTCOME_WITHDRAWN: "withdrawn before it began",
    j.CANCEL_OUTCOME_ABORTING: f"cancelling; {_AGAIN}",
    j.CANCEL_OUTCOME_NOT_ABORTABLE: f"it cannot be aborted now, still watching; {_AGAIN}",
    j.CANCEL_OUTCOME_ALREADY_FINISHED: "it had ended already",
}


def follow(session: Session, start: Start, *, detach: bool = False, ours: bool = True, wanted: t.JobState.ValueType = t.JOB_STATE_SUCCEEDED) -> int:
    """Starts a job and follows it; the exit code, OK where it ends as `wanted`.

    Where the job is `ours`, Ctrl-C cancels it and the following goes on to its end; a second Ctrl-C leaves. A stranger's job is just left.
    """
    return asyncio.run(_Follower(session, display(session), ours, wanted).run(start, detach))


class _Follower:
    def __init__(self, session: Session, screen: Display, ours: bool, wanted: t.JobState.ValueType) -> None:
        self._session = session
        self._screen = screen
        self._ours = ours
        self._wanted = wanted
        self._handle: AsyncJobHandle | None = None
        self._interrupted = False
        self._left = False
        self._cancelling: asyncio.Task[None] | None = None
        self._told_ready = False

    async def run(self, start: Start, detach: bool) -> int:
        async with self._session.listener() as client:
            client.on_broken = self._lost
            with self._screen, self._interrupts(asyncio.current_task()):
                try:
                    await self._follow(client, start, detach)
                except asyncio.CancelledError:
                    if not self._left:
                        raise
                except errors.DeadlineExceeded:
                    if self._handle is None:
                        raise
                finally:
                    if self._cancelling is not None:
                        self._cancelling.cancel()
        return self._ended(detach)

    async def _follow(self, client: AsyncClient, start: Start, detach: bool) -> None:
        self._handle = await start(client)
        self._handle.on_mended = self._screen.mended
        if self._interrupted:  # before there was a job to cancel
            self._cancel_soon()
        async for job in self._handle:
            self._screen.mended()
            if not detach or self._session.json:
                self._screen.show(job)
                self._tell_ready(job)
            if detach:
                break
        if detach:
            self._handle.close()

    def _lost(self, error: errors.VirtrpcError | None) -> None:
        self._screen.lost(lost(error, begun=self._handle is not None and self._handle.job is not None))

    def _tell_ready(self, job: t.Job) -> None:
        words = ready(job) if not (self._told_ready or self._session.json) else []
        for line in words:
            self._screen.note(line)
        self._told_ready = self._told_ready or bool(words)

    @contextmanager
    def _interrupts(self, task: asyncio.Task[Any] | None) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGINT, self._interrupt, task)
        try:
            yield
        finally:
            loop.remove_signal_handler(signal.SIGINT)

    def _interrupt(self, task: asyncio.Task[Any] | None) -> None:
        if self._interrupted or not self._ours:
            self._left = True
            if task is not None:
                task.cancel()
        elif self._handle is not None:
            self._cancel_soon()
        self._interrupted = True

    def _cancel_soon(self) -> None:
        self._cancelling = asyncio.get_running_loop().create_task(self._cancel())

    async def _cancel(self) -> None:
        assert self._handle is not None
        try:
            answer = await self._handle.cancel()
        except errors.VirtrpcError as error:
            self._screen.note(f"the cancel failed: {explain(error, self._session.address)}; {_AGAIN}")
        else:
            said = f" ({answer.message})" if answer.message else ""
            self._screen.note(f"{_OUTCOMES.get(answer.outcome, 'cancel asked for')}{said}")

    def _ended(self, detach: bool) -> int:
        handle = self._handle
        if handle is None:
            complain("left before the server had accepted it; `virtrpc jobs` shows whether it did", "note")
            return INTERRUPTED
        job = handle.job
        if job is not None and is_final(job):
            return self._told(job)
        if detach:
            if not self._session.json:
                self._session.say(handle.job_id)
            return OK
        complain(f"{_left(job)}; `virtrpc job watch {handle.job_id}` follows it", "note")
        return INTERRUPTED if self._left else FAILED

    def _told(self, job: t.Job) -> int:
        if job.state == t.JOB_STATE_SUCCEEDED:
            if not self._session.json:
                self._session.say(result(job))
            return OK if self._wanted == job.state else FAILED
        if job.state == self._wanted:
            if not self._session.json:
                self._session.say(f"{title(job)}: {text.enum(t.JobState, job.state)}")
            return OK
        evidence = f" (found: {job.evidence})" if job.evidence else ""
        complain(f"{title(job)}: {text.enum(t.JobState, job.state)}: {explain(errors.from_job(job), self._session.address)}{evidence}")
        return INTERRUPTED if self._interrupted and job.state == t.JOB_STATE_CANCELLED else FAILED


def result(job: t.Job) -> str:
    """What a job that SUCCEEDED brought, in a line."""
    took = ""
    if job.HasField("start_time") and job.HasField("end_time"):
        took = f" in {text.seconds(max(0.0, (job.end_time.ToDatetime() - job.start_time.ToDatetime()).total_seconds()))}"
    brought = _brought(job)
    return f"{title(job)}: done{took}{': ' if brought else ''}{brought}"


def _brought(job: t.Job) -> str:
    match job.WhichOneof("result"):
        case "domain_result" if job.domain_result.HasField("domain"):
            return text.state(job.domain_result.domain.state)
        case "define_domain_result":
            return "a new domain" if job.define_domain_result.created else "its definition was replaced"
        case "create_snapshot_result":
            return job.create_snapshot_result.snapshot.name
        case "migrate_domain_result":
            return f"now on {job.migrate_domain_result.host or job.migrate_domain_result.uri}"
        case _:
            return ""


def _left(job: t.Job | None) -> str:
    if job is None:
        return "stopped listening to the job"
    what = f"stopped listening to {title(job)} ({text.enum(t.JobState, job.state)})"
    if job.on_disconnect == t.ON_DISCONNECT_CANCEL:
        return f"{what}: it is cancelled"
    queued = job.state == t.JOB_STATE_QUEUED and job.on_disconnect == t.ON_DISCONNECT_UNSPECIFIED
    return f"{what}: it is withdrawn" if queued else f"{what}: it goes on"
