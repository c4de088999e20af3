"""The command that backs up a running domain's disks."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from virtrpc.aio import AsyncClient
from virtrpc.cli.command import verb
from virtrpc.cli.lifecycle import Begun
from virtrpc.cli.panels import SNAPSHOTS
from virtrpc.cli.params import read_xml
from virtrpc.v1 import job_pb2 as j
from virtrpc.v1 import types_pb2 as t

MAX_PORT = 65535
Disks = Annotated[list[str], typer.Option("--disk", metavar="DISK=FILE", help="A disk, and the file on the host; may be repeated.")]
Checkpoint = Annotated[str | None, typer.Option("--checkpoint-xml", parser=read_xml, metavar="FILE", help="Instead of --checkpoint.")]


def add_to(app: typer.Typer) -> None:
    """Adds `backup`."""
    verb(app, "backup", panel=SNAPSHOTS, aliases=("backup-begin",))(backup)


def backup(
    client: AsyncClient,
    domain: t.DomainRef,
    options: t.JobOptions,
    disks: Disks = [],  # noqa: B006 # Typer makes the list, and nothing here changes it
    image_format: Annotated[str, typer.Option("--format", metavar="FORMAT", help="Of those files: qcow2 or raw.")] = "",
    incremental: Annotated[str, typer.Option("--since", metavar="CHECKPOINT", help="Only what was written since a checkpoint.")] = "",
    checkpoint: Annotated[str, typer.Option("--checkpoint", metavar="NAME", help="Take a checkpoint at the same moment.")] = "",
    socket: Annotated[str, typer.Option("--socket", metavar="FILE", help="Serve the data by NBD at this socket until `job finish --stop`.")] = "",
    port: Annotated[int, typer.Option("--port", min=0, max=MAX_PORT, help="As --socket, at a TCP port of the host's loopback.")] = 0,
    reuse_external: Annotated[bool, typer.Option("--reuse-external", help="Write into files that are there already.")] = False,
    xml: Annotated[str | None, typer.Option("--xml", parser=read_xml, metavar="FILE", help="A <domainbackup> instead of --disk.")] = None,
    checkpoint_xml: Checkpoint = None,
) -> Begun:
    """Back up disks as they are at this moment, while the guest goes on."""
    if (xml is None) == (not disks) or (xml is not None and (incremental or socket or port or image_format)):
        raise typer.BadParameter("say --disk once for each disk, with what goes with it, or --xml")
    if (socket and port) or (checkpoint and checkpoint_xml):
        raise typer.BadParameter("say one of --socket and --port, and one of --checkpoint and --checkpoint-xml")
    make = partial(client.backup_domain, domain, options=options, reuse_external=reuse_external)
    if checkpoint_xml is not None:
        make = partial(make, checkpoint_xml=checkpoint_xml)
    elif checkpoint:
        make = partial(make, checkpoint=j.CheckpointDefinition(name=checkpoint))
    if xml is not None:
        return make(xml=xml)
    chosen = [_disk(disk, image_format) for disk in disks]
    if socket or port:
        return make(definition=j.BackupDefinition(mode=t.BACKUP_MODE_PULL, incremental=incremental, disks=chosen, server=_server(socket, port)))
    return make(definition=j.BackupDefinition(mode=t.BACKUP_MODE_PUSH, incremental=incremental, disks=chosen))


def _disk(text: str, image_format: str) -> t.BackupDisk:
    device, _, path = text.partition("=")
    if not (device and path):
        raise typer.BadParameter(f"--disk is a disk and a file, such as vda=/var/lib/libvirt/backups/vda.qcow2, not {text!r}")
    return t.BackupDisk(device=device, path=path, format=image_format)


def _server(socket: str, port: int) -> t.BackupServer:
    return t.BackupServer(socket=socket) if socket else t.BackupServer(tcp=t.BackupEndpoint(port=port))
