"""Commands that plug devices in and out."""

from __future__ import annotations

from typing import Annotated

import typer

from virtrpc.aio import AsyncClient
from virtrpc.cli.command import verb
from virtrpc.cli.lifecycle import Begun
from virtrpc.cli.panels import CHANGES
from virtrpc.cli.params import Xml
from virtrpc.cli.parts import Scope
from virtrpc.v1 import types_pb2 as t


def add_to(app: typer.Typer) -> None:
    """Adds this module's commands."""
    verb(app, "attach", panel=CHANGES, aliases=("attach-device",))(attach)
    verb(app, "detach", panel=CHANGES, aliases=("detach-device",))(detach)
    verb(app, "update", panel=CHANGES, aliases=("update-device",))(update)


def attach(client: AsyncClient, domain: t.DomainRef, xml: Xml, options: t.JobOptions, scope: Scope) -> Begun:
    """Plug a device in."""
    return client.attach_device(domain, options=options, scope=scope.value, xml=xml)


def detach(client: AsyncClient, domain: t.DomainRef, xml: Xml, options: t.JobOptions, scope: Scope) -> Begun:
    """Unplug a device, and wait until the guest has let it go (5 minutes unless --run-timeout says else)."""
    return client.detach_device(domain, options=options, scope=scope.value, xml=xml)


def update(
    client: AsyncClient,
    domain: t.DomainRef,
    xml: Xml,
    options: t.JobOptions,
    scope: Scope,
    force: Annotated[bool, typer.Option("--force", help="Do it although the guest has the device in use.")] = False,
) -> Begun:
    """Change a device in place: a CD's medium, an interface's link, a graphics password."""
    return client.update_device(domain, options=options, scope=scope.value, force=force, xml=xml)
