"""Commands that go on until they are stopped."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Annotated

import typer
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from virtrpc.cli import text
from virtrpc.cli.command import command
from virtrpc.cli.display import status, title
from virtrpc.cli.job_filters import Chosen
from virtrpc.cli.panels import WATCHES
from virtrpc.cli.parts import Hosts
from virtrpc.cli.queries import domain_filter
from virtrpc.cli.session import Session, complain, lost
from virtrpc.errors import VirtrpcError
from virtrpc.sync import Watch
from virtrpc.v1 import job_pb2 as j
from virtrpc.v1 import query_pb2 as q
from virtrpc.v1 import types_pb2 as t
from virtrpc.watch import Batch

Token = Annotated[str, typer.Option("--resume-token", metavar="TOKEN", help="Go on after the batch that had this token (--json shows them).")]


def add_to(app: typer.Typer) -> None:
    """Adds this module's commands."""
    command(app, "watch", panel=WATCHES, aliases=("event",))(watch)
    command(app, "watch-jobs", panel=WATCHES)(watch_jobs)


def watch(
    session: Session,
    host: Hosts = [],  # noqa: B006 # Typer makes the lists, and nothing here changes them
    name: Annotated[str, typer.Option(metavar="GLOB", help="Names that fit, with * and ?.")] = "",
    state: Annotated[list[str], typer.Option(metavar="STATE", help="In this state; may be repeated.")] = [],  # noqa: B006
    resume_token: Token = "",
) -> None:
    """Follow state and configuration of domains, the present state first. --timeout ends it."""
    with session.client() as client:
        lines = _DomainLines(session)
        batches = client.watch_domains(filter=domain_filter(host, name, state), resume_token=resume_token)
        for batch in _told(session, batches, bool(resume_token)):
            for change in batch.changes:
                lines.tell(change)


_RESTLESS = ("cpu_time", "control_state")
"""What moves by itself."""


class _DomainLines:
    """A line for each change that can be seen. That a domain is about to be read again, and was, is none."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._seen: dict[tuple[str, str], t.Domain] = {}

    def tell(self, change: q.DomainChange) -> None:
        """Prints the change."""
        if change.WhichOneof("change") == "removed":
            gone = change.removed.domain
            self._seen.pop((gone.host, gone.uuid), None)
            self._session.say(f"{_now()} {gone.host}/{gone.name or gone.uuid} gone")
        elif change.WhichOneof("change") == "current":
            self._tell(change.current)

    def _tell(self, domain: t.Domain) -> None:
        before = self._seen.get((domain.host, domain.uuid))
        self._seen[domain.host, domain.uuid] = domain
        changed = _changed(before, domain) if before is not None else []
        if before is not None and not changed:
            return
        reason = f" ({domain.state_reason.replace('_', ' ')})" if domain.state_reason else ""
        old = "" if domain.state_observation.freshness == t.FRESHNESS_LIVE else f" [{text.observed(domain.state_observation)}]"
        others = [name.replace("_", " ") for name in changed if not name.startswith("state")]
        what = f": {', '.join(others)} changed" if others else ""
        self._session.say(f"{_now()} {domain.host}/{domain.name} {text.state(domain.state)}{reason}{old}{what}")


def _changed(before: t.Domain, after: t.Domain) -> list[str]:
    fields = [field for field in t.Domain.DESCRIPTOR.fields if not field.name.endswith("_observation") and field.name not in _RESTLESS]
    return [field.name for field in fields if _value(before, field) != _value(after, field)]


def _value(domain: Message, field: FieldDescriptor) -> object:
    return None if field.has_presence and not domain.HasField(field.name) else getattr(domain, field.name)


def watch_jobs(session: Session, chosen: Chosen, resume_token: Token = "") -> None:
    """Follow jobs, the present state first. --timeout ends it."""
    with session.client() as client:
        batches = client.watch_jobs(filter=chosen, resume_token=resume_token)
        for batch in _told(session, batches, bool(resume_token)):
            for change in batch.changes:
                _job_line(session, change)


def _job_line(session: Session, change: j.JobChange) -> None:
    if change.WhichOneof("change") == "removed":
        session.say(f"{_now()} {change.removed.job_id} gone")
    elif change.WhichOneof("change") == "current":
        job = change.current
        percent = f" {job.progress.percent:.0f} %" if job.progress.HasField("percent") else ""
        failure = f" [{job.error.reason}] {job.error.message}" if job.HasField("error") else ""
        session.say(f"{_now()} {job.job_id} {title(job)}: {status(job)}{percent}{failure}")


def _told(session: Session, batches: Watch[Batch], resumed: bool) -> Iterable[Batch]:
    """The batches that are to be printed as lines; with --json they are printed here, without heartbeats."""
    before: tuple[str, ...] | None = None
    gap = _Gap()
    batches.on_broken = gap.opened
    for batch in batches:
        gap.closed()
        down = tuple(sorted(host.host for host in batch.unreachable))
        news = bool(batch.changes) or batch.reset or down != (before or ())
        if session.json:
            if news or before is None:
                session.line(batch)
        else:
            if batch.reset and (before is not None or resumed):
                complain("starting over: what follows is the present state", "note")
            if down != (before or ()):
                _hosts_changed(session, batch.unreachable, down, before or ())
            yield batch
        before = down


class _Gap:
    """Says once that the server is away, and once that it is back."""

    def __init__(self) -> None:
        self._open = self._begun = False

    def opened(self, error: VirtrpcError | None) -> None:
        """The stream broke, or could not be opened."""
        if not self._open:
            complain(lost(error, begun=self._begun) + "; what changes meanwhile is told then" * self._begun, "note")
        self._open = True

    def closed(self) -> None:
        """A batch came."""
        if self._open:
            complain("connected again, the watch goes on", "note")
        self._open, self._begun = False, True


def _hosts_changed(session: Session, hosts: Iterable[t.UnreachableHost], down: tuple[str, ...], before: tuple[str, ...]) -> None:
    session.unreachable(host for host in hosts if host.host not in before)
    for host in before:
        if host not in down:
            complain(f"host {host} is live again", "note")


def _now() -> str:
    return datetime.now().astimezone().strftime("%H:%M:%S")
