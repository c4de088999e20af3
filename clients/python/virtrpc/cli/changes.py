"""Commands that change definitions, memory and passwords."""

from __future__ import annotations

from typing import Annotated

import typer

from virtrpc.aio import AsyncClient
from virtrpc.cli import complete
from virtrpc.cli.command import verb
from virtrpc.cli.definitions import Definition
from virtrpc.cli.lifecycle import Begun
from virtrpc.cli.panels import CHANGES
from virtrpc.cli.params import Paused, Size, as_duration, parse_seconds, read_xml
from virtrpc.cli.parts import Password, Scope
from virtrpc.v1 import types_pb2 as t

OnHost = Annotated[str, typer.Option("--host", metavar="HOST", help="Where; not needed with one host.", autocompletion=complete.hosts)]


def add_to(app: typer.Typer) -> None:
    """Adds this module's commands."""
    verb(app, "define", panel=CHANGES)(define)
    verb(app, "undefine", panel=CHANGES)(undefine)
    verb(app, "create", panel=CHANGES)(create)
    verb(app, "set-memory", panel=CHANGES, aliases=("setmem",))(set_memory)
    verb(app, "set-vcpus", panel=CHANGES, aliases=("setvcpus",))(set_vcpus)
    verb(app, "set-stats-period", panel=CHANGES)(set_stats_period)
    verb(app, "set-autostart", panel=CHANGES, aliases=("autostart",))(set_autostart)
    verb(app, "set-metadata", panel=CHANGES, aliases=("desc",))(set_metadata)
    verb(app, "rename", panel=CHANGES, aliases=("domrename",))(rename)
    verb(app, "resize-block", panel=CHANGES, aliases=("blockresize",))(resize_block)
    verb(app, "set-password", panel=CHANGES, aliases=("set-user-password",))(set_password)


def define(
    client: AsyncClient,
    definition: Definition,
    options: t.JobOptions,
    host: OnHost = "",
    replace: Annotated[bool, typer.Option("--replace", help="With --name: what is not said does not stay as it is stored.")] = False,
) -> Begun:
    """Store a domain's definition: a new domain, or a new definition of one that exists. Without XML, what is not said stays as it is stored."""
    return client.define_domain(host=host, options=options, replace=replace, **definition.fields)


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


def create(client: AsyncClient, definition: Definition, options: t.JobOptions, host: OnHost = "", paused: Paused = False) -> Begun:
    """Start a domain that is not stored: when it stops, it is gone."""
    return client.create_domain(host=host, options=options, paused=paused, **definition.fields)


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


def set_vcpus(
    client: AsyncClient,
    domain: t.DomainRef,
    number: Annotated[int, typer.Argument(metavar="NUMBER", help="How many virtual CPUs.")],
    options: t.JobOptions,
    scope: Scope,
    maximum: Annotated[bool, typer.Option("--maximum", help="Set the most that it may be given, instead of what it has.")] = False,
    guest: Annotated[bool, typer.Option("--guest", help="Have the agent switch them inside the guest.")] = False,
    hotpluggable: Annotated[bool, typer.Option("--hotpluggable", help="So that they can be unplugged again.")] = False,
) -> Begun:
    """Set how many virtual CPUs a domain has."""
    return client.set_vcpus(domain, options=options, scope=scope.value, vcpus=number, maximum=maximum, guest=guest, hotpluggable=hotpluggable)


def set_stats_period(
    client: AsyncClient,
    domain: t.DomainRef,
    period: Annotated[float, typer.Argument(parser=parse_seconds, metavar="PERIOD", help="10s, 1m; 0 switches the reports off.")],
    options: t.JobOptions,
    scope: Scope,
) -> Begun:
    """Set how often a guest's balloon driver reports memory statistics."""
    return client.set_memory_stats_period(domain, options=options, scope=scope.value, stats_period=as_duration(period))


def set_autostart(
    client: AsyncClient,
    domain: t.DomainRef,
    options: t.JobOptions,
    autostart: Annotated[bool, typer.Option("--enable/--disable", help="Start it when its host boots, or not.")] = True,
) -> Begun:
    """Have a domain started when its host boots, or not."""
    return client.set_autostart(domain, options=options, autostart=autostart)


def set_metadata(
    client: AsyncClient,
    domain: t.DomainRef,
    options: t.JobOptions,
    scope: Scope,
    title: Annotated[str | None, typer.Option(metavar="TEXT", help="Set the title; empty removes it.")] = None,
    description: Annotated[str | None, typer.Option(metavar="TEXT", help="Set the description; empty removes it.")] = None,
    uri: Annotated[str, typer.Option(metavar="URI", help="Set the element of this namespace; without --xml it is removed.")] = "",
    key: Annotated[str, typer.Option(metavar="PREFIX", help="The prefix of the namespace, with --xml.")] = "",
    xml: Annotated[str, typer.Option(metavar="FILE", help="The element; - reads it from stdin.")] = "",
) -> Begun:
    """Set a domain's title, its description, or an element of an application's own."""
    given = [title is not None, description is not None, bool(uri)]
    if sum(given) != 1:
        raise typer.BadParameter("say one of --title, --description and --uri")
    if title is not None:
        return client.set_metadata(domain, options=options, scope=scope.value, title=title)
    if description is not None:
        return client.set_metadata(domain, options=options, scope=scope.value, description=description)
    element = t.MetadataElement(uri=uri, key=key, xml=read_xml(xml) if xml else "")
    return client.set_metadata(domain, options=options, scope=scope.value, element=element)


def rename(
    client: AsyncClient,
    domain: t.DomainRef,
    new_name: Annotated[str, typer.Argument(metavar="NAME", help="Its new name.")],
    options: t.JobOptions,
) -> Begun:
    """Give a domain that is off another name."""
    return client.rename_domain(domain, options=options, name=new_name)


def resize_block(
    client: AsyncClient,
    domain: t.DomainRef,
    device: Annotated[str, typer.Argument(metavar="DISK", help="vda, or its path.")],
    size: Size,
    options: t.JobOptions,
) -> Begun:
    """Give a disk of a running domain another size; shrinking loses data."""
    return client.resize_block(domain, options=options, device=device, capacity_bytes=size)


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
