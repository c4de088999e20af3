"""Commands that show, follow and cancel jobs."""

from __future__ import annotations

from itertools import islice
from typing import Annotated

import typer

from virtrpc.aio import AsyncClient
from virtrpc.cli import complete, follow, text
from virtrpc.cli.command import command
from virtrpc.cli.display import backup, migration, progress, status
from virtrpc.cli.job_filters import Chosen
from virtrpc.cli.panels import JOBS
from virtrpc.cli.params import parse_size
from virtrpc.cli.samples import progress_table
from virtrpc.cli.session import Session, complain
from virtrpc.jobs import AsyncJobHandle, is_final
from virtrpc.v1 import job_pb2 as j
from virtrpc.v1 import types_pb2 as t

JobId = Annotated[str, typer.Argument(metavar="JOB", help="The job's id.", autocompletion=complete.jobs)]
AnyJobId = Annotated[str, typer.Argument(metavar="JOB", help="The job's id.", autocompletion=complete.recent_jobs)]


def add_to(app: typer.Typer) -> None:
    """Adds `jobs`, and `job` with its commands."""
    command(app, "jobs", panel=JOBS)(list_jobs)
    group = typer.Typer(no_args_is_help=True)
    app.add_typer(group, name="job", help="Show, follow or cancel one job.", rich_help_panel=JOBS)
    command(group, "show")(show)
    command(group, "watch")(watch)
    command(group, "cancel")(cancel)
    command(group, "finish")(finish)
    command(group, "speed")(speed)


def list_jobs(
    session: Session,
    chosen: Chosen,
    limit: Annotated[int, typer.Option("--limit", "-n", metavar="N", min=0, help="At most so many; 0 is all.")] = 100,
) -> None:
    """List jobs, newest first: those that have not ended, and those that are remembered."""
    with session.client() as client:
        listing = client.list_jobs(filter=chosen, page_size=min(limit, 1000))
        found = list(islice(listing, limit + 1 if limit else None))
    shown = found[:limit] if limit else found
    if session.json:
        session.document(j.ListJobsResponse(jobs=shown, unreachable=listing.unreachable))
    else:
        headers = ("JOB", "KIND", "HOST", "DOMAIN", "STATE", "PROGRESS", "OWNER", "CREATED", "ENDED", "TOOK", "ERROR")
        session.table(headers, (_row(job) for job in shown))
    if len(found) > len(shown):
        complain(f"only the newest {limit} are shown; --limit shows more", "note")
    session.unreachable(listing.unreachable)


def _row(job: t.Job) -> tuple[str, ...]:
    return (
        job.job_id,
        text.enum(t.JobKind, job.kind).removesuffix(" domain"),
        job.domain.host,
        job.domain.name or job.domain.uuid,
        text.enum(t.JobState, job.state) + ", ready" * (job.phase == t.JOB_PHASE_READY),
        f"{job.progress.percent:.0f} %" if job.progress.HasField("percent") else text.NONE,
        job.owner,
        text.today(job, "create_time"),
        text.today(job, "end_time"),
        _took(job),
        job.error.reason or text.NONE,
    )


def _took(job: t.Job) -> str:
    """From its acceptance to its end, as the server's clock has it."""
    if not job.HasField("end_time"):
        return text.NONE
    return text.seconds(max(0.0, (job.end_time.ToNanoseconds() - job.create_time.ToNanoseconds()) / 1e9))


def show(
    session: Session,
    job_id: AnyJobId,
    samples: Annotated[bool, typer.Option("--samples", help="Also how it went: readings of its progress, over its whole life.")] = False,
) -> None:
    """Show one job, running or over."""
    with session.client() as client:
        job = client.get_job(job_id=job_id, include_samples=samples)
    if session.json:
        session.document(job)
        return
    session.facts(_facts(job))
    if job.samples:
        session.say("")
        session.table(*progress_table(job.samples))
    elif samples:
        complain("no progress was reported of this job", "note")


def _facts(job: t.Job) -> list[tuple[str, str]]:
    pairs = [
        ("Job", job.job_id),
        ("Kind", text.enum(t.JobKind, job.kind)),
        ("Domain", f"{job.domain.host}/{job.domain.name or job.domain.uuid}"),
        ("State", status(job)),
        ("Owner", job.owner or text.NONE),
        ("Created", text.moment(job, "create_time")),
        ("Began", text.moment(job, "start_time")),
        ("Ended", text.moment(job, "end_time")),
        ("May wait", text.duration(job, "wait_timeout")),
        ("May run", text.duration(job, "run_timeout")),
        ("Progress", ", ".join(progress(job.progress)[: 1 if is_final(job) else None]) or text.NONE),
        ("Abortable", text.yes(job.abortable) + (f": {job.abort_reason}" if job.abort_reason else "")),
        ("Cancel asked for", text.enum(t.CancelReason, job.cancel_reason) if job.cancel_requested else "no"),
    ]
    if words := migration(job.migration):
        pairs.append(("Migration", ", ".join(words)))
    if words := backup(job.backup):
        pairs.append(("Backup", ", ".join(words)))
    if job.HasField("error"):
        pairs.append(("Error", f"{job.error.message} [{job.error.reason}]"))
    if job.may_still_apply:
        pairs.append(("May still apply", "yes: look at the domain before you repeat it"))
    if job.evidence:
        pairs.append(("Found", job.evidence))
    return pairs


def watch(session: Session, job_id: AnyJobId) -> int:
    """Follow a job to its end. Ctrl-C leaves it alone."""
    return _follow(session, job_id, t.JOB_STATE_SUCCEEDED)


def _follow(session: Session, job_id: str, wanted: t.JobState.ValueType) -> int:
    async def attach(client: AsyncClient) -> AsyncJobHandle:
        return client.watch_job(job_id)

    return follow.follow(session, attach, ours=False, wanted=wanted)


def cancel(
    session: Session,
    job_id: JobId,
    wait: Annotated[bool, typer.Option("--wait", help="Follow it to its end.")] = False,
) -> int | None:
    """Ask a job to stop. Answered at once, with what could be done about it; --wait follows it to its end (exit code 1 unless it was cancelled)."""
    with session.client() as client:
        answer = client.cancel_job(job_id=job_id)
    if not session.json:
        said = answer.message or text.enum(j.CancelOutcome, answer.outcome)
        session.say(f"{job_id}: {said}")
    elif not wait:
        session.document(answer)
    return _follow(session, job_id, t.JOB_STATE_CANCELLED) if wait else None


def finish(
    session: Session,
    job_id: JobId,
    stop: Annotated[bool, typer.Option("--stop", help="Break the copy off and keep it, instead of moving the guest over.")] = False,
) -> None:
    """Finish a block copy or commit whose mirror is ready: the guest moves over to it. Or, with --stop, a backup whose data has been fetched."""
    how = t.BLOCK_JOB_FINISH_STOP if stop else t.BLOCK_JOB_FINISH_PIVOT
    with session.client() as client:
        _answered(session, client.finish_block_job(job_id=job_id, finish=how))


def speed(
    session: Session,
    job_id: JobId,
    rate: Annotated[int, typer.Argument(parser=parse_size, metavar="SIZE", help="At most so much a second: 10MiB; 0B lifts the limit.")],
) -> None:
    """Limit how fast a block job goes."""
    with session.client() as client:
        _answered(session, client.set_job_speed(job_id=job_id, bandwidth_bytes_per_second=rate))


def _answered(session: Session, job: t.Job) -> None:
    if session.json:
        session.document(job)
    else:
        session.facts(_facts(job))
