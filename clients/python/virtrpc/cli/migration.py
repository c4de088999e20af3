"""Commands that move domains."""

from __future__ import annotations

from typing import Annotated

import typer

from virtrpc.aio import AsyncClient
from virtrpc.cli import complete, text
from virtrpc.cli.command import command, verb
from virtrpc.cli.lifecycle import Begun
from virtrpc.cli.panels import MIGRATION
from virtrpc.cli.params import parse_size
from virtrpc.cli.parts import PARTS, Part, option
from virtrpc.cli.session import FAILED, OK, Session
from virtrpc.v1 import types_pb2 as t


def add_to(app: typer.Typer) -> None:
    """Adds this module's commands."""
    verb(app, "migrate", panel=MIGRATION)(migrate)
    command(app, "plan-migration", panel=MIGRATION)(plan_migration)


def migrate(client: AsyncClient, domain: t.DomainRef, settings: t.MigrationSettings, options: t.JobOptions) -> Begun:
    """Move a domain to another host."""
    return client.migrate_domain(domain, options=options, settings=settings)


def plan_migration(session: Session, domain: t.DomainRef, settings: t.MigrationSettings) -> int:
    """Say what would stand in the way of a migration, and change nothing. Exit code 1 where it would be refused. (Not in this version yet.)"""
    with session.client() as client:
        answer = client.plan_migration(domain, settings=settings)
    if session.json:
        session.document(answer)
    else:
        session.say("Nothing fatal was found." if answer.feasible else "It would be refused.")
        rows = ((found.host, text.yes(found.fatal), found.reason, found.message) for found in answer.obstacles)
        if answer.obstacles:
            session.table(("HOST", "FATAL", "REASON", "MESSAGE"), rows)
    return OK if answer.feasible else FAILED


def _settings(
    destination: str,
    migrate_uri: str,
    dname: str,
    live: bool | None,
    p2p: bool | None,
    persistent: bool,
    undefine_source: bool,
    offline: bool,
    unsafe: bool,
    paused: bool,
    bandwidth: int,
) -> t.MigrationSettings:
    made = t.MigrationSettings(
        migrate_uri=migrate_uri,
        destination_name=dname,
        live=live,
        peer_to_peer=p2p,
        persist_destination=persistent,
        undefine_source=undefine_source,
        offline=offline,
        unsafe=unsafe,
        paused=paused,
        bandwidth_bytes_per_second=bandwidth,
    )
    if "://" in destination or "+" in destination.partition(":")[0]:
        made.uri = destination
    else:
        made.host = destination
    return made


_DESTINATION = typer.Argument(metavar="DESTINATION", help="A configured host, or a libvirt URI.", autocompletion=complete.hosts)
_P2P = typer.Option("--p2p/--no-p2p", help="The daemons talk to each other (default), or through the server.")
_BANDWIDTH = typer.Option(metavar="SIZE", parser=parse_size, help="At most this much a second, with a unit: 100MiB.")

PARTS[t.MigrationSettings] = Part(
    (
        option("destination", Annotated[str, _DESTINATION]),
        option("migrate_uri", Annotated[str, typer.Option(metavar="URI", help="Where the guest's memory is sent: tcp://10.0.0.2:49152.")], ""),
        option("dname", Annotated[str, typer.Option(metavar="NAME", help="Its name at the destination.")], ""),
        option("live", Annotated[bool | None, typer.Option("--live/--no-live", help="Keep it running meanwhile (default), or pause it.")], None),
        option("p2p", Annotated[bool | None, _P2P], None),
        option("persistent", Annotated[bool, typer.Option("--persistent", help="Store the definition at the destination.")], False),
        option("undefine_source", Annotated[bool, typer.Option("--undefine-source", "--undefinesource", help="Remove it at the source.")], False),
        option("offline", Annotated[bool, typer.Option("--offline", help="Move the definition of a domain that is off.")], False),
        option("unsafe", Annotated[bool, typer.Option("--unsafe", help="Although disks could be damaged.")], False),
        option("paused", Annotated[bool, typer.Option("--suspend", help="Leave it paused at the destination.")], False),
        option("bandwidth", Annotated[int, _BANDWIDTH], "0B"),
    ),
    _settings,
)
