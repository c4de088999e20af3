"""What a job looks like while it is followed: a bar on a terminal, sparse lines elsewhere, JSON lines where asked for."""

from __future__ import annotations

from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from virtrpc.cli import text
from virtrpc.cli.session import Session, complain, console
from virtrpc.v1 import types_pb2 as t

_LINE_EVERY_PERCENT = 10


class Display(Protocol):
    """Where the states of a job go."""

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None: ...

    def show(self, job: t.Job) -> None:
        """The job as it is now."""

    def note(self, words: str) -> None:
        """Something to say beside it."""

    def lost(self, words: str) -> None:
        """The server is away: what is shown is what was last seen. Said once until it is back."""

    def mended(self) -> None:
        """It is back, if it was away."""


def title(job: t.Job) -> str:
    """Which job it is: `managed save web`."""
    verb = text.enum(t.JobKind, job.kind).removesuffix(" domain")
    return f"{verb} {job.domain.name or job.domain.uuid}"


def status(job: t.Job) -> str:
    """Where it stands: what it waits for and who is in the way, or its phase and how far it has come."""
    if job.state == t.JOB_STATE_QUEUED:
        return _queued(job)
    words = [text.enum(t.JobState, job.state)]
    if job.phase:
        words.append(text.enum(t.JobPhase, job.phase))
    if job.cancel_requested and job.state == t.JOB_STATE_RUNNING:
        words.append("cancel asked for" if job.abortable else f"cancel asked for, cannot be aborted now{_why(job)}")
    if job.trouble.message:
        words.append(f"tries again: {job.trouble.message}")
    # How fast it was, and how long it had to go, says nothing of a job that is over.
    return ", ".join(words + (progress(job.progress) if job.state == t.JOB_STATE_RUNNING else []))


def progress(reading: t.JobProgress) -> list[str]:
    """Bytes, rate and time to go, as far as the hypervisor tells."""
    done, total = text.optional(reading, "processed_bytes"), text.optional(reading, "total_bytes")
    words = [f"{text.size(done)} of {text.size(total)}"] if done is not None and total is not None else []
    if reading.HasField("rate_bytes_per_second"):
        words.append(text.rate(reading.rate_bytes_per_second))
    if reading.HasField("memory_iteration"):
        words.append(f"round {reading.memory_iteration}")
    if reading.HasField("eta"):
        words.append(f"{text.duration(reading, 'eta')} left")
    return words


def migration(reading: t.MigrationProgress) -> list[str]:
    """How a move goes, as far as the hypervisor tells: what is special about it, not what every job has."""
    words = []
    if reading.dirty_rate_bytes_per_second:
        words.append(f"guest writes {text.rate(reading.dirty_rate_bytes_per_second)}")
    if reading.auto_converge_percent:
        words.append(f"throttled by {reading.auto_converge_percent} %")
    if reading.HasField("downtime"):
        words.append(f"stood still for {text.duration(reading, 'downtime')}")
    elif reading.HasField("expected_downtime"):
        words.append(f"expected downtime {text.duration(reading, 'expected_downtime')}")
    if reading.HasField("max_downtime"):
        words.append(f"at most {text.duration(reading, 'max_downtime')}")
    if reading.stalled.seconds:
        words.append(f"no progress for {text.duration(reading, 'stalled')}")
    if reading.HasField("last_step"):
        words.append(
            f"step {reading.steps_taken} taken: {reading.last_step.WhichOneof('action')}"
            + f" ({reading.last_step_error})" * bool(reading.last_step_error)
        )
    return words


def backup(found: t.Backup) -> list[str]:
    """Where each disk goes, or is fetched from."""
    if found.mode == t.BACKUP_MODE_PULL:
        return [f"fetch {disk.device} from {_nbd(found.server, disk.export_name or disk.device)}" for disk in found.disks]
    return [f"{disk.device} to {disk.path}" for disk in found.disks]


def ready(job: t.Job) -> list[str]:
    """What can be done with a job that is READY and goes on until it is told to finish; empty for one that does not wait for that."""
    if job.phase != t.JOB_PHASE_READY or job.state != t.JOB_STATE_RUNNING:
        return []
    finish = f"`virtrpc job finish {job.job_id}"
    if job.backup.mode == t.BACKUP_MODE_PULL:
        return [*backup(job.backup), f"{finish} --stop` ends the backup when all is fetched"]
    if job.block_job.finish == t.BLOCK_JOB_FINISH_WAIT:
        return [f"{finish}` moves the guest over, and with --stop leaves it where it is"]
    return []


def _nbd(server: t.BackupServer, export: str) -> str:
    scheme = "nbds" if server.tls else "nbd"
    if server.socket:
        return f"{scheme}+unix:///{export}?socket={server.socket}"
    return f"{scheme}://{server.tcp.host}:{server.tcp.port}/{export}"


def holder(who: t.JobHolder) -> str:
    """Who is in the way, whose it is, and for how long it has been."""
    ours = f"{text.enum(t.JobKind, who.kind)} {who.job_id}".strip(" -") or "another job"
    words = [who.foreign_text or ours]
    if who.owner:
        words.append(f"by {who.owner}")
    if who.HasField("age"):
        words.append(f"for {text.duration(who, 'age')}")
    if who.ghost:
        words.append("a call that never returned: destroy is the way out")
    if who.waiting_for in _WAITING:
        words.append(f"itself waiting for {_WAITING[who.waiting_for]}")
    return ", ".join(words)


def _queued(job: t.Job) -> str:
    words = f"queued, waiting for {_WAITING[job.waiting_for]}" if job.waiting_for in _WAITING else "queued"
    if job.HasField("queue_position") and job.queue_position > 1:
        words += f" (place {job.queue_position})"
    return f"{words}: {'; '.join(holder(who) for who in job.holders)}" if job.holders else words


_WAITING = {
    t.JOB_WAITING_FOR_CONDITION: "the domain",
    t.JOB_WAITING_FOR_HOST_LIMIT: "the host's limit",
    t.JOB_WAITING_FOR_DAEMON_BUDGET: "a place at the hypervisor's daemon",
    t.JOB_WAITING_FOR_BLOCKED_BY_OTHER: "a job outside virtrpc",
}


def _why(job: t.Job) -> str:
    return f" ({job.abort_reason})" if job.abort_reason else ""


class _Display:
    _lost = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        return None

    def note(self, words: str) -> None:
        """Something to say beside it."""
        complain(words, "note")

    def lost(self, words: str) -> None:
        """A line, the first time."""
        if not self._lost:
            self.note(words)
        self._lost = True

    def mended(self) -> None:
        """A line, where it was lost."""
        if self._lost:
            self.note("connected again")
        self._lost = False


class JsonDisplay(_Display):
    """Every state as a line of JSON on stdout."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def show(self, job: t.Job) -> None:
        """The job as it is now."""
        self._session.line(job)


class LineDisplay(_Display):
    """A line on stderr when something changes, and at every tenth of the way."""

    def __init__(self) -> None:
        self._told: tuple[object, ...] = ()

    def show(self, job: t.Job) -> None:
        """The job as it is now."""
        if job.phase == t.JOB_PHASE_REFRESHING:
            return  # a moment that is not worth a line
        tenth = int(job.progress.percent) // _LINE_EVERY_PERCENT
        key = (job.state, job.phase, job.waiting_for, job.cancel_requested, tuple(who.job_id for who in job.holders), tenth, job.trouble.message)
        if key != self._told:
            percent = f" {job.progress.percent:.0f} %" if job.progress.HasField("percent") else ""
            complain(f"{status(job)}{percent}", title(job))
            self._told = key


class BarDisplay(_Display):
    """A live bar on a terminal."""

    def __init__(self, screen: Console) -> None:
        # The bar takes what the words leave, so that they fit on 80 columns.
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[percent]}"),
            TextColumn("{task.fields[status]}"),
        )
        self._bar = Progress(*columns, console=screen, transient=True, expand=True)
        self._task: TaskID | None = None
        self._job: t.Job | None = None
        self._lost = False

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._bar.stop()

    def show(self, job: t.Job) -> None:
        """The job as it is now."""
        known = job.progress.HasField("percent")
        self._job = job
        if self._task is None:
            self._task = self._bar.add_task(escape(text.one_line(title(job))), total=None, percent="", status="")
        self._bar.update(
            self._task,
            total=100 if known else None,
            completed=job.progress.percent if known else 0,
            percent=f"{job.progress.percent:3.0f} %" if known else "",
            status=escape(text.one_line(status(job).removeprefix("running, "))),
        )

    def note(self, words: str) -> None:
        """Something to say beside it."""
        self._bar.console.print(escape(text.one_line(words)))

    def lost(self, words: str) -> None:
        """In the place of the job's status, or a line where there is no job yet."""
        if self._task is not None:
            self._bar.update(self._task, status=escape(text.one_line(words)))
        elif not self._lost:
            self.note(words)
        self._lost = True

    def mended(self) -> None:
        """The job's status again."""
        if self._lost and self._job is not None:
            self.show(self._job)
        self._lost = False


def display(session: Session) -> Display:
    """The one that fits."""
    if session.json:
        return JsonDisplay(session)
    screen = console(stderr=True)
    return BarDisplay(screen) if screen.is_terminal else LineDisplay()
