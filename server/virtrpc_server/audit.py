"""Who did what: a line for each call that changes something, once it is known what became of it, and for what was denied.

A verb's line is written when its job has ended, whoever still listens. Until then the journal has all that the line will say, and a server that was
killed in between writes it at its next start. So no line says that something has begun: the job list does.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime

import msgspec
from grpc import StatusCode

from virtrpc_server.audit_file import AuditFile, Sink
from virtrpc_server.caller import Call, Identity
from virtrpc_server.contract import CHANGING
from virtrpc_server.errors import refuse, status_of
from virtrpc_server.printable import printable_json
from virtrpc_server.records import Job, JobState, Problem
from virtrpc_server.settings import Settings

DENIALS = frozenset({StatusCode.UNAUTHENTICATED, StatusCode.PERMISSION_DENIED, StatusCode.RESOURCE_EXHAUSTED})
HYPERVISORS = frozenset({"HYPERVISOR_UNAUTHENTICATED", "HYPERVISOR_PERMISSION_DENIED"})
"""Not ours: what was asked for was tried."""
REPEAT_SECONDS = 10.0
"""Denials of one sort within so long are one line, and another that counts them."""
MAX_SORTS = 1_000
NO_DOMAIN = Identity("", "", "")
CAUGHT_UP_SECONDS = 60.0
"""How much before the last line that was written a job may have ended whose line was not."""


class Line(msgspec.Struct, omit_defaults=True):
    """What is written. Nothing in it is text of a request but names, ids and the reason, so that no secret can be."""

    time: str
    event: str
    """job: a verb's, ended. call: one that changes something and makes no job, or a verb of which no job was made. denied. lost."""
    rpc: str = ""
    outcome: str = ""
    """OK, or an ErrorReason without its prefix."""
    caller: str = ""
    way: str = ""
    names: tuple[str, ...] = ()
    """All that the caller is known as, where that is more than one."""
    peer: str = ""
    host: str = ""
    uuid: str = ""
    domain: str = ""
    request_id: str = ""
    job_id: str = ""
    job_state: str = ""
    may_still_apply: bool = False
    cancel_reason: str = ""
    reason: str = ""
    """Why, in the caller's words: the header virtrpc-reason."""
    details: dict[str, str] = {}
    """Of a denial: the limit, or the policy's rule."""
    repeats: int = 0
    """How many more of the kind there were, of a denial; how many lines were lost."""


def lost_line(count: int) -> bytes:
    """The line that stands for lines that there was no room for."""
    return msgspec.json.encode(Line(_stamp(time.time()), "lost", repeats=count))


class AuditError(Exception):
    """The audit log cannot be opened; the text says why and what to do."""


def make_audit(settings: Settings) -> Audit | None:
    """The audit log that the settings ask for, if they do."""
    if not settings.audited:
        return None
    return Audit(AuditFile(settings.audit_path, lost_line), required=settings.audit_required)


class Audit:
    """Told of the end of every RPC and of every job. A gate as well: where audit is required, nothing is changed while no line can be written."""

    def __init__(self, sink: Sink, *, required: bool = False, clock: Callable[[], float] = time.time) -> None:
        self._sink, self._required, self._clock = sink, required, clock
        self._denied: dict[tuple[str, ...], tuple[float, int, Line]] = {}
        self._written: frozenset[str] = frozenset()
        self._since = float("inf")
        self._telling: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to write. Raises AuditError."""
        try:
            self.begin(await asyncio.to_thread(self._sink.start))
        except OSError as error:
            raise AuditError(f"the audit log cannot be opened: {error}; give --audit-log a path that can, stderr, or none") from error
        self._telling = asyncio.get_running_loop().create_task(self.tell_repeats())

    async def close(self) -> None:
        """Write what is left."""
        if self._telling is not None:
            self._telling.cancel()
        self._tell_repeats(0.0)
        await asyncio.to_thread(self._sink.close)

    # Calls

    def enter(self, call: Call) -> None:
        """Raises Refusal (AUDIT_UNAVAILABLE)."""
        if self._required and call.rpc in CHANGING and self._sink.failing:
            raise refuse("AUDIT_UNAVAILABLE", "the audit log cannot be written, and this server changes nothing without it; queries are answered")

    def leave(self, call: Call) -> None:
        """Nothing was counted."""

    def over(self, call: Call, problem: Problem | None) -> None:
        """An RPC has ended."""
        if call.accepted:
            return  # its job's line says what became of it
        if problem is not None and problem.reason not in HYPERVISORS and status_of(problem) in DENIALS:
            self._deny(call, problem)
        elif call.rpc in CHANGING:
            self._write(self._of(call, "call", "OK" if problem is None else problem.reason))

    def _of(self, call: Call, event: str, outcome: str) -> Line:
        caller, domain = call.caller, call.domain or NO_DOMAIN
        return Line(
            time=_stamp(self._clock()), event=event, rpc=call.rpc, outcome=outcome,
            caller=caller.name, way=caller.way, names=caller.many_names, peer=call.peer,
            host=domain.host, uuid=domain.uuid, domain=domain.name,
            request_id=call.request_id, job_id=call.job_id, reason=call.reason,
        )  # fmt: skip

    def _deny(self, call: Call, problem: Problem) -> None:
        line = self._of(call, "denied", problem.reason)
        line.details = problem.metadata
        where = call.peer.rpartition(":")[0]
        sort = (call.caller.name, where, call.rpc, problem.reason, line.host, line.uuid)
        if sort not in self._denied and len(self._denied) >= MAX_SORTS:
            self._tell_repeats()
            if len(self._denied) >= MAX_SORTS:
                sort = ("", "", "", problem.reason, "", "")
        began, repeats, _ = self._denied.get(sort, (self._clock(), -1, line))
        self._denied[sort] = began, repeats + 1, line
        if repeats < 0:
            self._write(line)

    async def tell_repeats(self) -> None:
        """Write how often what was denied was denied again, for ever."""
        while True:
            await asyncio.sleep(REPEAT_SECONDS)
            self._tell_repeats()

    def _tell_repeats(self, age: float = REPEAT_SECONDS) -> None:
        now = self._clock()
        for sort, (began, repeats, line) in list(self._denied.items()):
            if now - began >= age:
                del self._denied[sort]
                if repeats:
                    line.repeats = repeats
                    self._write(line)

    # Jobs

    def ended(self, job: Job) -> None:
        """A job is over, and that is stored."""
        origin, problem = job.origin, job.problem
        outcome = "OK" if job.state is JobState.SUCCEEDED else problem.reason if problem is not None else ""
        self._write(
            Line(
                time=_stamp(job.ended or self._clock()), event="job", rpc=origin.rpc or job.verb, outcome=outcome,
                caller=job.owner, way=origin.way, names=origin.names, peer=origin.peer,
                host=job.host, uuid=job.uuid, domain=job.name,
                request_id=job.request_id, job_id=job.id, job_state=job.state,
                may_still_apply=job.may_still_apply, cancel_reason=job.cancel_reason or "", reason=origin.reason,
                details=problem.metadata if problem is not None and problem.reason == "PERMISSION_DENIED" else {},
            )
        )  # fmt: skip

    def remembered(self, job: Job) -> None:
        """A job that was over when the server began: its line is written, unless an earlier life has."""
        if job.ended is not None and job.ended >= self._since and job.id not in self._written:
            self.ended(job)

    def begin(self, tail: bytes) -> None:
        """Look at what an earlier life has written last."""
        lines = [line for line in map(_read, tail.splitlines()) if line is not None]
        if lines:
            self._written = frozenset(line.job_id for line in lines if line.event == "job")
            self._since = max(datetime.fromisoformat(line.time).timestamp() for line in lines) - CAUGHT_UP_SECONDS

    def _write(self, line: Line) -> None:
        self._sink.write(printable_json(msgspec.json.encode(line)))


def _stamp(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="microseconds")


def _read(text: bytes) -> Line | None:
    try:
        return msgspec.json.decode(text, type=Line)
    except msgspec.MsgspecError:
        return None  # the first of a tail is cut
