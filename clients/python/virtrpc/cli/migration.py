"""Commands that move domains."""

from __future__ import annotations

from typing import Annotated

import typer

from virtrpc.aio import AsyncClient
from virtrpc.cli import migration_options as migration_options  # fills PARTS
from virtrpc.cli import text
from virtrpc.cli.command import command, verb
from virtrpc.cli.jobs import JobId
from virtrpc.cli.lifecycle import Begun
from virtrpc.cli.panels import MIGRATION
from virtrpc.cli.params import as_duration, parse_seconds, parse_size
from virtrpc.cli.session import FAILED, OK, Session
from virtrpc.v1 import job_pb2 as j
from virtrpc.v1 import types_pb2 as t

Downtime = Annotated[str | None, typer.Option("--downtime", metavar="TIME", help="How long it may stand still at the end, such as 500ms.")]
Bandwidth = Annotated[int, typer.Option("--bandwidth", metavar="SIZE", parser=parse_size, help="At most this much a second, with a unit: 100MiB.")]
Cache = Annotated[int, typer.Option("--compression-cache", metavar="SIZE", parser=parse_size, help="The size of XBZRLE's cache.")]
Late = Annotated[int, typer.Option("--post-copy-bandwidth", metavar="SIZE", parser=parse_size, help="The same as --bandwidth, once it is there.")]
PostCopy = Annotated[bool, typer.Option("--post-copy", help="Have it go on at the destination now.")]
NOTHING = "0B"


def add_to(app: typer.Typer) -> None:
    """Adds this module's commands."""
    verb(app, "migrate", panel=MIGRATION)(migrate)
    command(app, "tune-migration", panel=MIGRATION)(tune_migration)
    command(app, "plan-migration", panel=MIGRATION)(plan_migration)


def migrate(client: AsyncClient, domain: t.DomainRef, settings: t.MigrationSettings, options: t.JobOptions) -> Begun:
    """Move a domain to another host."""
    return client.migrate_domain(domain, options=options, settings=settings)


def tune_migration(
    session: Session,
    job_id: JobId,
    downtime: Downtime = None,
    bandwidth: Bandwidth = NOTHING,  # type: ignore[assignment] # the parser takes the text
    compression_cache: Cache = NOTHING,  # type: ignore[assignment]
    post_copy_bandwidth: Late = NOTHING,  # type: ignore[assignment]
    post_copy: PostCopy = False,
) -> None:
    """Change a migration that runs, by its job. Answered at once."""
    wanted = j.TuneMigrationRequest(
        job_id=job_id,
        max_downtime=None if downtime is None else as_duration(parse_seconds(downtime)),
        bandwidth_bytes_per_second=bandwidth,
        compression_cache_bytes=compression_cache,
        post_copy_bandwidth_bytes_per_second=post_copy_bandwidth,
        start_post_copy=post_copy,
    )
    with session.client() as client:
        job = client.tune_migration(**{field.name: value for field, value in wanted.ListFields()})
    if session.json:
        session.document(job)
    else:
        session.say(f"{job_id}: changed")


def plan_migration(session: Session, domain: t.DomainRef, settings: t.MigrationSettings) -> int:
    """Say what would stand in the way of a migration, and change nothing. Exit code 1 where it would be refused."""
    with session.client() as client:
        answer = client.plan_migration(domain, settings=settings)
    if session.json:
        session.document(answer)
    else:
        session.say("Nothing fatal was found." if answer.feasible else "It would be refused.")
        rows = ((found.host or text.NONE, text.yes(found.fatal), found.reason, found.message) for found in answer.obstacles)
        if answer.obstacles:
            session.table(("HOST", "FATAL", "REASON", "MESSAGE"), rows)
    return OK if answer.feasible else FAILED
