"""Commands that plug devices in and out."""

from __future__ import annotations

from typing import Annotated

import typer

from virtrpc.aio import AsyncClient
from virtrpc.cli import device_specs
from virtrpc.cli.command import verb
from virtrpc.cli.lifecycle import Begun
from virtrpc.cli.panels import CHANGES
from virtrpc.cli.params import Xml
from virtrpc.cli.parts import Scope
from virtrpc.v1 import devices_pb2 as d
from virtrpc.v1 import types_pb2 as t

Disk = Annotated[d.Disk, typer.Argument(parser=device_specs.disk, metavar="DISK", help=device_specs.DISK_WORDS)]
Interface = Annotated[d.Interface, typer.Argument(parser=device_specs.interface, metavar="INTERFACE", help=device_specs.INTERFACE_WORDS)]
Force = Annotated[bool, typer.Option("--force", help="Do it although the guest has the device in use.")]


def add_to(app: typer.Typer) -> None:
    """Adds this module's commands."""
    verb(app, "attach", panel=CHANGES, aliases=("attach-device",))(attach)
    verb(app, "detach", panel=CHANGES, aliases=("detach-device",))(detach)
    verb(app, "update", panel=CHANGES, aliases=("update-device",))(update)
    verb(app, "attach-disk", panel=CHANGES)(attach_disk)
    verb(app, "attach-interface", panel=CHANGES)(attach_interface)
    verb(app, "detach-disk", panel=CHANGES)(detach_disk)
    verb(app, "detach-interface", panel=CHANGES)(detach_interface)
    verb(app, "update-disk", panel=CHANGES, aliases=("change-media",))(update_disk)
    verb(app, "update-interface", panel=CHANGES, aliases=("domif-setlink",))(update_interface)


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
    force: Force = False,
) -> Begun:
    """Change a device in place: a CD's medium, an interface's link, a graphics password."""
    return client.update_device(domain, options=options, scope=scope.value, force=force, xml=xml)


def attach_disk(client: AsyncClient, domain: t.DomainRef, disk: Disk, options: t.JobOptions, scope: Scope) -> Begun:
    """Plug a disk in, without XML: attach-disk web path=/images/b.qcow2,format=qcow2."""
    return client.attach_device(domain, options=options, scope=scope.value, disk=disk)


def attach_interface(client: AsyncClient, domain: t.DomainRef, interface: Interface, options: t.JobOptions, scope: Scope) -> Begun:
    """Plug a network interface in, without XML: attach-interface web network=default,model=virtio."""
    return client.attach_device(domain, options=options, scope=scope.value, interface=interface)


def detach_disk(
    client: AsyncClient,
    domain: t.DomainRef,
    target: Annotated[str, typer.Argument(metavar="TARGET", help="The disk's name: vdb.")],
    options: t.JobOptions,
    scope: Scope,
) -> Begun:
    """Unplug a disk by its name, and wait until the guest has let it go."""
    return client.detach_device(domain, options=options, scope=scope.value, disk_target=target)


def detach_interface(
    client: AsyncClient,
    domain: t.DomainRef,
    mac: Annotated[str, typer.Argument(metavar="MAC", help="The interface's hardware address.")],
    options: t.JobOptions,
    scope: Scope,
) -> Begun:
    """Unplug a network interface by its hardware address, and wait until the guest has let it go."""
    return client.detach_device(domain, options=options, scope=scope.value, interface_mac=mac)


def update_disk(client: AsyncClient, domain: t.DomainRef, disk: Disk, options: t.JobOptions, scope: Scope, force: Force = False) -> Begun:
    """Change what is said of a disk, and keep the rest: update-disk web target=sda,path=/images/b.iso; target=sda,empty ejects."""
    return client.update_device(domain, options=options, scope=scope.value, force=force, disk=disk)


def update_interface(
    client: AsyncClient, domain: t.DomainRef, interface: Interface, options: t.JobOptions, scope: Scope, force: Force = False
) -> Begun:
    """Change what is said of an interface, and keep the rest: update-interface web mac=52:54:00:00:00:01,link=down."""
    return client.update_device(domain, options=options, scope=scope.value, force=force, interface=interface)
