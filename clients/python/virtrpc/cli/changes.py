"""Commands that change definitions, memory and passwords."""

from __future__ import annotations

from typing import Annotated

import typer

from virtrpc.aio import AsyncClient
from virtrpc.cli import complete
from virtrpc.cli.command import verb
from virtrpc.cli.lifecycle import Begun
from virtrpc.cli.panels import CHANGES
from virtrpc.cli.params import Paused, Size, Xml
from virtrpc.cli.parts import Password, Scope
from virtrpc.v1 import types_pb2 as t

OnHost = Annotated[str, typer.Option("--host", metavar="HOST", help="Where; not needed with one host.", autocompletion=complete.hosts)]


def add_to(app: typer.Typer) -> None:
    """Adds this module's commands."""
    verb(app, "define", panel=CHANGES)(define)
    verb(app, "undefine", panel=CHANGES)(undefine)
    verb(app, "create", panel=CHANGES)(create)
    verb(app, "set-memory", panel=CHANGES, aliases=("setmem",))(set_memory)
    verb(app, "set-password", panel=CHANGES, aliases=("set-user-password",))(set_password)


def define(client: AsyncClient, xml: Xml, options: t.JobOptions, host: OnHost = "") -> Begun:
    """Store a domain's definition: a new domain, or a new definition of one that exists."""
    return client.define_domain(host=host, options=options, xml=xml)


def undefine(
    client: AsyncClient,
    domain: t.DomainRef,
    options: t.JobOptions,
    managed_save: Annotated[bool, typer.Option("--managed-save", help="Remove its managed-save image too.")] = False,
    snapshots_metadata: Annotated[bool, typer.Option("--snapshots-metadata", help="Forget its snapshots too.")] = False,
    checkpoints_metadata: Annotated[bool, typer.Option("--checkpoints-metadata", help="Forget its checkpoints too.")] = False,
    nvram: Annotated[bool | None, typer.Option("--nvram/--keep-nvram", help="Remove its NVRAM file, or keep it.")] = None,
) -> Begun:
    """Remove a domain's stored definition; a running domain goes on, transient."""
    return client.undefine_domain(
        domain,
        options=options,
        managed_save=managed_save,
        snapshots_metadata=snapshots_metadata,
        checkpoints_metadata=checkpoints_metadata,
        nvram=nvram is True,
        keep_nvram=nvram is False,
    )


def create(client: AsyncClient, xml: Xml, options: t.JobOptions, host: OnHost = "", paused: Paused = False) -> Begun:
    """Start a domain that is not stored: when it stops, it is gone."""
    return client.create_domain(host=host, options=options, paused=paused, xml=xml)


def set_memory(
    client: AsyncClient,
    domain: t.DomainRef,
    size: Size,
    options: t.JobOptions,
    scope: Scope,
    maximum: Annotated[bool, typer.Option("--maximum", help="Set the most that it may be given, instead of what it has.")] = False,
) -> Begun:
    """Set how much memory a domain has."""
    return client.set_memory(domain, options=options, scope=scope.value, memory_bytes=size, maximum=maximum)


def set_password(
    client: AsyncClient,
    domain: t.DomainRef,
    user: Annotated[str, typer.Argument(metavar="USER", help="The user's name in the guest.")],
    options: t.JobOptions,
    password: Password,
    encrypted: Annotated[bool, typer.Option("--encrypted", help="It is a hash as crypt(3) makes it.")] = False,
) -> Begun:
    """Set a user's password inside the guest, through its agent. The password is asked for, or read from stdin."""
    return client.set_user_password(domain, options=options, user=user, password=password.text, encrypted=encrypted)
