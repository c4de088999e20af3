"""Commands that copy, pull and commit the images of a running domain's disks."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from virtrpc.aio import AsyncClient
from virtrpc.cli.command import verb
from virtrpc.cli.lifecycle import Begun
from virtrpc.cli.panels import CHANGES
from virtrpc.cli.params import parse_size, read_xml
from virtrpc.v1 import job_pb2 as j
from virtrpc.v1 import types_pb2 as t

Disk = Annotated[str, typer.Argument(metavar="DISK", help="Its target, such as vda.")]
Bandwidth = Annotated[int | None, typer.Option("--bandwidth", parser=parse_size, metavar="SIZE", help="At most so much a second: 10MiB.")]
Base = Annotated[str, typer.Option("--base", metavar="FILE", help="The image that stays below.")]
Pivot = Annotated[bool, typer.Option("--pivot", help="Have the guest move over as soon as it is ready.")]
Wait = Annotated[bool, typer.Option("--keep-mirroring", help="Go on until `job finish`.")]


def add_to(app: typer.Typer) -> None:
    """Adds this module's commands."""
    verb(app, "pull-block", panel=CHANGES, aliases=("blockpull",))(pull_block)
    verb(app, "copy-block", panel=CHANGES, aliases=("blockcopy",))(copy_block)
    verb(app, "commit-block", panel=CHANGES, aliases=("blockcommit",))(commit_block)


def pull_block(client: AsyncClient, domain: t.DomainRef, disk: Disk, options: t.JobOptions, base: Base = "", bandwidth: Bandwidth = None) -> Begun:
    """Copy a disk's backing files into its image, so that it needs them no longer."""
    return client.pull_block(domain, options=options, disk=disk, base=base, bandwidth_bytes_per_second=bandwidth or 0)


def copy_block(
    client: AsyncClient,
    domain: t.DomainRef,
    disk: Disk,
    options: t.JobOptions,
    to: Annotated[str, typer.Option("--to", metavar="FILE", help="The file to copy to, on the host.")] = "",
    image_format: Annotated[str, typer.Option("--format", metavar="FORMAT", help="Of that file; the disk's own unless given.")] = "",
    xml: Annotated[str | None, typer.Option("--xml", parser=read_xml, metavar="FILE", help="A <disk> instead of --to and --format.")] = None,
    pivot: Pivot = False,
    stop: Annotated[bool, typer.Option("--stop", help="Break the copy off and keep it as soon as it is ready.")] = False,
    shallow: Annotated[bool, typer.Option("--shallow", help="Copy only the disk's own image.")] = False,
    reuse_external: Annotated[bool, typer.Option("--reuse-external", help="Write into a file that is there already.")] = False,
    transient_job: Annotated[bool, typer.Option("--transient-job", help="Let it end with the guest.")] = False,
    bandwidth: Bandwidth = None,
) -> Begun:
    """Copy a disk to another file while its guest runs, and mirror it until `job finish` unless told otherwise."""
    if (xml is None) == (not to) or (pivot and stop):
        raise typer.BadParameter("say --to or --xml, and at most one of --pivot and --stop")
    finish = t.BLOCK_JOB_FINISH_PIVOT if pivot else t.BLOCK_JOB_FINISH_STOP if stop else t.BLOCK_JOB_FINISH_WAIT
    make = partial(
        client.copy_block,
        domain,
        options=options,
        disk=disk,
        finish=finish,
        shallow=shallow,
        reuse_external=reuse_external,
        transient_job=transient_job,
        bandwidth_bytes_per_second=bandwidth or 0,
    )
    return make(file=j.BlockCopyFile(path=to, format=image_format)) if xml is None else make(xml=xml)


def commit_block(
    client: AsyncClient,
    domain: t.DomainRef,
    disk: Disk,
    options: t.JobOptions,
    base: Base = "",
    top: Annotated[str, typer.Option("--top", metavar="FILE", help="The uppermost image to commit; the active one unless given.")] = "",
    keep: Wait = False,
    delete: Annotated[bool, typer.Option("--delete", help="Remove the files that are in the chain no longer.")] = False,
    bandwidth: Bandwidth = None,
) -> Begun:
    """Write the layers of a disk's chain into the one below them, and drop them."""
    return client.commit_block(
        domain,
        options=options,
        disk=disk,
        base=base,
        top=top,
        finish=t.BLOCK_JOB_FINISH_WAIT if keep else t.BLOCK_JOB_FINISH_PIVOT,
        delete_committed=delete,
        bandwidth_bytes_per_second=bandwidth or 0,
    )
