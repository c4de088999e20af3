"""Commands that write a guest's memory to a file, and bring it back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from virtrpc.aio import AsyncClient
from virtrpc.cli.changes import OnHost
from virtrpc.cli.command import command, verb
from virtrpc.cli.lifecycle import Begun
from virtrpc.cli.panels import LIFECYCLE, QUERIES
from virtrpc.cli.params import BypassCache, Paused, Running, resume_state
from virtrpc.cli.session import Session
from virtrpc.jobs import AsyncJobHandle
from virtrpc.v1 import job_pb2 as j
from virtrpc.v1 import types_pb2 as t

HostFile = Annotated[str, typer.Argument(metavar="FILE", help="An absolute path on the host, inside the server's path roots.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a file that exists.")]
_FORMATS = {name.removeprefix("CORE_FORMAT_").lower().replace("_", "-"): number for name, number in j.CoreFormat.items() if number}


def _format(value: str) -> j.CoreFormat.ValueType:
    if value not in _FORMATS:
        raise typer.BadParameter(f"{value!r} is no format: say one of {', '.join(_FORMATS)}")
    return _FORMATS[value]


def add_to(app: typer.Typer) -> None:
    """Adds this module's commands."""
    verb(app, "save-to", panel=LIFECYCLE)(save_to)
    verb(app, "restore", panel=LIFECYCLE)(restore)
    verb(app, "dump", panel=LIFECYCLE)(dump)
    command(app, "save-image", panel=QUERIES, aliases=("save-image-dumpxml",))(save_image)
    command(app, "screenshot", panel=QUERIES)(screenshot)


def save_to(
    client: AsyncClient,
    domain: t.DomainRef,
    path: HostFile,
    options: t.JobOptions,
    overwrite: Overwrite = False,
    bypass_cache: BypassCache = False,
    running: Running = False,
    paused: Paused = False,
) -> Begun:
    """Save a domain's memory to a file of your choice, and stop it; `restore` brings it back."""
    state = resume_state(running, paused)
    return client.save_domain(domain, options=options, path=path, overwrite=overwrite, bypass_cache=bypass_cache, resume_state=state)


async def restore(
    client: AsyncClient,
    path: HostFile,
    options: t.JobOptions,
    host: OnHost = "",
    bypass_cache: BypassCache = False,
    running: Running = False,
    paused: Paused = False,
) -> AsyncJobHandle:
    """Bring a domain back from a file that `save-to` has written. Cannot be aborted."""
    image = (await client.get_save_image(host=host, path=path)).domain
    state = resume_state(running, paused)
    return await client.restore_domain(
        host=image.host, options=options, path=path, uuid=image.uuid, name=image.name, bypass_cache=bypass_cache, resume_state=state
    )


def dump(
    client: AsyncClient,
    domain: t.DomainRef,
    path: HostFile,
    options: t.JobOptions,
    overwrite: Overwrite = False,
    core_format: Annotated[str, typer.Option("--format", metavar="|".join(_FORMATS), help="How it is written.")] = "raw",
    memory_only: Annotated[bool, typer.Option("--memory-only", help="Memory and registers alone; cannot be aborted.")] = False,
    live: Annotated[bool, typer.Option("--live", help="Let the guest run on meanwhile.")] = False,
    crash: Annotated[bool, typer.Option("--crash", help="Leave the domain crashed.")] = False,
    reset: Annotated[bool, typer.Option("--reset", help="Reset the guest afterwards.")] = False,
    bypass_cache: BypassCache = False,
) -> Begun:
    """Write a domain's memory to a file for a debugger."""
    return client.dump_core(
        domain,
        options=options,
        path=path,
        overwrite=overwrite,
        format=_format(core_format),
        memory_only=memory_only,
        live=live,
        crash=crash,
        reset=reset,
        bypass_cache=bypass_cache,
    )


def save_image(session: Session, path: HostFile, host: OnHost = "") -> None:
    """Print the definition of the domain whose memory a file holds."""
    with session.client() as client:
        answer = client.get_save_image(host=host, path=path)
    if session.json:
        session.document(answer)
    else:
        print(answer.xml)


def screenshot(
    session: Session,
    domain: t.DomainRef,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where the picture goes, here.")],
    screen: Annotated[int, typer.Option(metavar="NUMBER", help="Which screen.")] = 0,
) -> None:
    """Take a picture of a domain's screen."""
    with session.client() as client:
        picture = client.take_screenshot(domain, screen_number=screen)
    file.write_bytes(picture.data)
    if session.json:
        picture.ClearField("data")
        session.document(picture)
    else:
        session.say(f"wrote {file}: {picture.mime_type}, {picture.total_bytes} bytes")
