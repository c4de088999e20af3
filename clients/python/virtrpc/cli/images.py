"""Commands that show and change the definitions in images of saved guests."""

from __future__ import annotations

import typer

from virtrpc.aio import AsyncClient
from virtrpc.cli.changes import OnHost
from virtrpc.cli.command import command, verb
from virtrpc.cli.files import HostFile
from virtrpc.cli.lifecycle import Begun
from virtrpc.cli.panels import CHANGES, QUERIES
from virtrpc.cli.params import Paused, Running, Xml, resume_state
from virtrpc.cli.session import Session
from virtrpc.v1 import types_pb2 as t


def add_to(app: typer.Typer) -> None:
    """Adds this module's commands."""
    command(app, "managed-save-image", panel=QUERIES, aliases=("managedsave-dumpxml",))(managed_save_image)
    verb(app, "define-save-image", panel=CHANGES, aliases=("save-image-define",))(define_save_image)
    verb(app, "define-managed-save-image", panel=CHANGES, aliases=("managedsave-define",))(define_managed_save_image)


def managed_save_image(session: Session, domain: t.DomainRef) -> None:
    """Print the definition that a domain's managed-save image brings it back with."""
    with session.client() as client:
        answer = client.get_managed_save_image(domain)
    if session.json:
        session.document(answer)
    else:
        print(answer.xml)


def define_save_image(
    client: AsyncClient,
    path: HostFile,
    xml: Xml,
    options: t.JobOptions,
    host: OnHost = "",
    running: Running = False,
    paused: Paused = False,
) -> Begun:
    """Change the definition that a file of `save-to` brings its domain back with."""
    return client.define_save_image(host=host, options=options, path=path, xml=xml, resume_state=resume_state(running, paused))


def define_managed_save_image(
    client: AsyncClient,
    domain: t.DomainRef,
    xml: Xml,
    options: t.JobOptions,
    running: Running = False,
    paused: Paused = False,
) -> Begun:
    """Change the definition that a domain's managed-save image brings it back with."""
    return client.define_managed_save_image(domain, options=options, xml=xml, resume_state=resume_state(running, paused))
