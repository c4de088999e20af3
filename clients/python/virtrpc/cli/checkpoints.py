"""The commands `virtrpc checkpoint …`."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from virtrpc.aio import AsyncClient
from virtrpc.cli import text
from virtrpc.cli.command import command, verb
from virtrpc.cli.lifecycle import Begun
from virtrpc.cli.panels import SNAPSHOTS
from virtrpc.cli.params import read_xml
from virtrpc.cli.session import Session
from virtrpc.v1 import job_pb2 as j
from virtrpc.v1 import types_pb2 as t

Name = Annotated[str, typer.Argument(metavar="CHECKPOINT", help="The checkpoint's name.")]


def add_to(app: typer.Typer) -> None:
    """Adds `checkpoint` with this module's commands."""
    group = typer.Typer(no_args_is_help=True)
    app.add_typer(group, name="checkpoint", help="Take, list, show and delete checkpoints.", rich_help_panel=SNAPSHOTS)
    verb(group, "create")(create)
    command(group, "list")(list_checkpoints)
    command(group, "show", aliases=("info",))(show)
    command(group, "xml", aliases=("dumpxml",))(show_xml)
    verb(group, "delete")(delete)


def create(
    client: AsyncClient,
    domain: t.DomainRef,
    options: t.JobOptions,
    name: Annotated[str, typer.Option(metavar="NAME", help="Its name; the server chooses one where none is given.")] = "",
    description: Annotated[str, typer.Option(metavar="TEXT")] = "",
    without: Annotated[list[str], typer.Option("--without", metavar="DISK", help="Leave a disk out; may be repeated.")] = [],  # noqa: B006 # Typer makes the list, and nothing here changes it
    xml: Annotated[str | None, typer.Option("--xml", parser=read_xml, metavar="FILE", help="libvirt XML instead of the others.")] = None,
    quiesce: Annotated[bool, typer.Option("--quiesce", help="Freeze the guest's file systems meanwhile.")] = False,
) -> Begun:
    """Take a checkpoint: from now on its disks remember what is written."""
    disks = [j.CheckpointDiskDefinition(device=disk, excluded=True) for disk in without]
    definition = j.CheckpointDefinition(name=name, description=description, disks=disks)
    if xml is not None and definition != j.CheckpointDefinition():
        raise typer.BadParameter("--xml excludes --name, --description and --without")
    make = partial(client.create_checkpoint, domain, options=options, quiesce=quiesce)
    return make(definition=definition) if xml is None else make(xml=xml)


def list_checkpoints(
    session: Session,
    domain: t.DomainRef,
    parent: Annotated[str, typer.Option("--from", metavar="CHECKPOINT", help="Only its children.")] = "",
    descendants: Annotated[bool, typer.Option("--descendants", help="With --from: their children too.")] = False,
) -> None:
    """List a domain's checkpoints."""
    with session.client() as client:
        answer = client.list_checkpoints(domain, parent=parent, descendants=descendants).merged()
    if session.json:
        session.document(answer)
    else:
        session.table(("NAME", "CREATED", "PARENT", "CHILDREN", "DISKS"), (_row(checkpoint) for checkpoint in answer.checkpoints))


def _row(checkpoint: t.Checkpoint) -> tuple[str, ...]:
    return (
        checkpoint.name,
        text.moment(checkpoint, "create_time"),
        text.optional(checkpoint, "parent") or text.NONE,
        text.number(checkpoint, "children"),
        ", ".join(checkpoint.disks) or text.NONE,
    )


def show(session: Session, domain: t.DomainRef, name: Name) -> None:
    """Show one checkpoint."""
    with session.client() as client:
        found = client.get_checkpoint(domain, name=name)
    if session.json:
        session.document(found)
    else:
        session.facts(
            [*zip(("Name", "Created", "Parent", "Children", "Disks"), _row(found), strict=True), ("Description", found.description or text.NONE)]
        )


def show_xml(
    session: Session,
    domain: t.DomainRef,
    name: Name,
    size: Annotated[bool, typer.Option("--size", help="Say how much has been written since.")] = False,
) -> None:
    """Print a checkpoint's XML, without secrets."""
    with session.client() as client:
        answer = client.get_checkpoint_xml(domain, name=name, size=size)
    if session.json:
        session.document(answer)
    else:
        print(answer.xml)


def delete(
    client: AsyncClient,
    domain: t.DomainRef,
    name: Name,
    options: t.JobOptions,
    children: Annotated[bool, typer.Option("--children", help="And all that build on it.")] = False,
    children_only: Annotated[bool, typer.Option("--children-only", help="All that build on it, but not itself.")] = False,
    metadata: Annotated[bool, typer.Option("--metadata", help="Forget it, and leave the images as they are.")] = False,
) -> Begun:
    """Delete a checkpoint: what it remembers goes to the one before it."""
    return client.delete_checkpoint(domain, options=options, name=name, children=children, children_only=children_only, metadata_only=metadata)
