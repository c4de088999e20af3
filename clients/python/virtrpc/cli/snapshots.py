"""The commands `virtrpc snapshot …`."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from virtrpc.aio import AsyncClient
from virtrpc.cli import text
from virtrpc.cli.command import command, verb
from virtrpc.cli.lifecycle import Begun
from virtrpc.cli.panels import SNAPSHOTS
from virtrpc.cli.params import Paused, Running, read_xml, resume_state
from virtrpc.cli.session import Session
from virtrpc.cli.snapshot_specs import disk_spec, memory_spec
from virtrpc.v1 import job_pb2 as j
from virtrpc.v1 import snapshot_pb2 as s
from virtrpc.v1 import types_pb2 as t

Name = Annotated[str, typer.Argument(metavar="SNAPSHOT", help="The snapshot's name.")]


def add_to(app: typer.Typer) -> None:
    """Adds `snapshot` with this module's commands."""
    group = typer.Typer(no_args_is_help=True)
    app.add_typer(group, name="snapshot", help="Take, list, show, revert and delete snapshots.", rich_help_panel=SNAPSHOTS)
    verb(group, "create")(create)
    command(group, "list")(list_snapshots)
    command(group, "show", aliases=("info",))(show)
    command(group, "xml", aliases=("dumpxml",))(show_xml)
    command(group, "current")(current)
    verb(group, "revert")(revert)
    verb(group, "delete")(delete)


def create(
    client: AsyncClient,
    domain: t.DomainRef,
    options: t.JobOptions,
    name: Annotated[str, typer.Option(metavar="NAME", help="Its name; the server chooses one where none is given.")] = "",
    description: Annotated[str, typer.Option(metavar="TEXT")] = "",
    xml: Annotated[
        str | None, typer.Option("--xml", parser=read_xml, metavar="FILE", help="libvirt XML instead of name, description and specs.")
    ] = None,
    memspec: Annotated[str, typer.Option(metavar="[file=]PATH[,snapshot=KIND]", help="Where memory goes.")] = "",
    diskspec: Annotated[list[str], typer.Option(metavar="DISK[,snapshot=KIND][,file=PATH]", help="One disk; may be repeated.")] = [],  # noqa: B006 # Typer makes the list, and nothing here changes it
    disk_only: Annotated[bool, typer.Option("--disk-only", help="Disks without memory.")] = False,
    quiesce: Annotated[bool, typer.Option("--quiesce", help="Freeze the guest's file systems meanwhile; with --disk-only.")] = False,
    no_metadata: Annotated[bool, typer.Option("--no-metadata", help="Take it and forget it.")] = False,
    atomic: Annotated[bool, typer.Option("--atomic", help="All disks or none.")] = False,
    live: Annotated[bool, typer.Option("--live", help="Keep the guest running while its memory is written to a file.")] = False,
    halt: Annotated[bool, typer.Option("--halt", help="Stop the domain once it is taken.")] = False,
    reuse_external: Annotated[bool, typer.Option("--reuse-external", help="Use files that exist already.")] = False,
) -> Begun:
    """Take a snapshot."""
    definition = _definition(name, description, memspec, diskspec)
    if xml is not None and definition != j.SnapshotDefinition():
        raise typer.BadParameter("--xml excludes --name, --description, --memspec and --diskspec")
    make = partial(
        client.create_snapshot,
        domain,
        options=options,
        disk_only=disk_only,
        quiesce=quiesce,
        no_metadata=no_metadata,
        atomic=atomic,
        live=live,
        halt=halt,
        reuse_external=reuse_external,
    )
    return make(definition=definition) if xml is None else make(xml=xml)


def _definition(name: str, description: str, memory: str, disks: list[str]) -> j.SnapshotDefinition:
    made = j.SnapshotDefinition(name=name, description=description, disks=[disk_spec(disk) for disk in disks])
    if memory:
        made.memory_location, made.memory_path = memory_spec(memory)
    return made


def list_snapshots(
    session: Session,
    domain: t.DomainRef,
    parent: Annotated[str, typer.Option("--from", metavar="SNAPSHOT", help="Only its children.")] = "",
    descendants: Annotated[bool, typer.Option("--descendants", help="With --from: their children too.")] = False,
    roots: Annotated[bool, typer.Option("--roots", help="Only those that build on no other.")] = False,
    leaf: Annotated[bool | None, typer.Option("--leaves/--no-leaves", help="Only those that none, or some, build on.")] = None,
    metadata: Annotated[bool | None, typer.Option("--metadata/--no-metadata")] = None,
    external: Annotated[bool | None, typer.Option("--external/--internal")] = None,
) -> None:
    """List a domain's snapshots."""
    chosen = s.SnapshotFilter(roots=roots, leaf=leaf, has_metadata=metadata, external=external)
    with session.client() as client:
        answer = client.list_snapshots(domain, parent=parent, descendants=descendants, filter=chosen).merged()
    if session.json:
        session.document(answer)
    else:
        headers = ("NAME", "CREATED", "KIND", "STATE", "PARENT", "CURRENT", "EXTERNAL", "CHILDREN")
        session.table(headers, (_row(snapshot) for snapshot in answer.snapshots))


def _row(snapshot: t.Snapshot) -> tuple[str, ...]:
    return (
        snapshot.name,
        text.moment(snapshot, "create_time"),
        text.enum(t.SnapshotKind, snapshot.kind),
        text.state(snapshot.state),
        text.optional(snapshot, "parent") or text.NONE,
        text.yes(text.optional(snapshot, "current")),
        text.yes(text.optional(snapshot, "external")),
        text.number(snapshot, "children"),
    )


def show(session: Session, domain: t.DomainRef, name: Name) -> None:
    """Show one snapshot."""
    with session.client() as client:
        _show(session, client.get_snapshot(domain, name=name))


def current(session: Session, domain: t.DomainRef) -> None:
    """Show the snapshot that the domain's present state builds on."""
    with session.client() as client:
        _show(session, client.get_current_snapshot(domain))


def _show(session: Session, snapshot: t.Snapshot) -> None:
    if session.json:
        session.document(snapshot)
        return
    names = ("Name", "Created", "Kind", "State", "Parent", "Current", "External", "Children")
    session.facts(
        [
            ("Domain", f"{snapshot.domain.host}/{snapshot.domain.name}"),
            *zip(names, _row(snapshot), strict=True),
            ("Metadata", text.yes(text.optional(snapshot, "has_metadata"))),
            ("Description", snapshot.description or text.NONE),
        ]
    )


def show_xml(session: Session, domain: t.DomainRef, name: Name) -> None:
    """Print a snapshot's XML, without secrets."""
    with session.client() as client:
        answer = client.get_snapshot_xml(domain, name=name)
    if session.json:
        session.document(answer)
    else:
        print(answer.xml)


def revert(
    client: AsyncClient,
    domain: t.DomainRef,
    name: Name,
    options: t.JobOptions,
    running: Running = False,
    paused: Paused = False,
    force: Annotated[bool, typer.Option("--force", help="Although the guest must be stopped or the configuration does not fit.")] = False,
    reset_nvram: Annotated[bool, typer.Option("--reset-nvram", help="Set its NVRAM back to the firmware's template.")] = False,
) -> Begun:
    """Put a domain back to a snapshot: what it was since then is lost. Cannot be aborted."""
    return client.revert_to_snapshot(
        domain, options=options, name=name, resume_state=resume_state(running, paused), force=force, reset_nvram=reset_nvram
    )


def delete(
    client: AsyncClient,
    domain: t.DomainRef,
    name: Name,
    options: t.JobOptions,
    children: Annotated[bool, typer.Option("--children", help="And all that build on it.")] = False,
    children_only: Annotated[bool, typer.Option("--children-only", help="Only those that build on it.")] = False,
    metadata_only: Annotated[bool, typer.Option("--metadata", help="Forget it, and leave its data where it is.")] = False,
) -> Begun:
    """Delete a snapshot."""
    return client.delete_snapshot(domain, options=options, name=name, children=children, children_only=children_only, metadata_only=metadata_only)
