"""Commands that a guest's agent carries out."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer
from google.protobuf.timestamp_pb2 import Timestamp

from virtrpc.aio import AsyncClient
from virtrpc.cli import text
from virtrpc.cli.command import command, verb
from virtrpc.cli.lifecycle import Begun
from virtrpc.cli.panels import AGENT
from virtrpc.cli.params import parse_size, read_text
from virtrpc.cli.session import Session
from virtrpc.v1 import job_pb2 as j
from virtrpc.v1 import snapshot_pb2 as s
from virtrpc.v1 import types_pb2 as t

Mountpoints = Annotated[list[str], typer.Option("--mountpoint", metavar="PATH", help="One file system; may be repeated. All where none is named.")]
GuestUser = Annotated[str, typer.Argument(metavar="USER", help="The user inside the guest.")]
_PARTS = {name.removeprefix("GUEST_INFO_PART_").lower(): number for name, number in s.GuestInfoPart.items() if number}


def add_to(app: typer.Typer) -> None:
    """Adds this module's commands."""
    verb(app, "freeze", panel=AGENT, aliases=("domfsfreeze",))(freeze)
    verb(app, "thaw", panel=AGENT, aliases=("domfsthaw",))(thaw)
    verb(app, "trim", panel=AGENT, aliases=("domfstrim",))(trim)
    verb(app, "set-time", panel=AGENT, aliases=("domtime",))(set_time)
    verb(app, "set-guest-vcpus", panel=AGENT, aliases=("setguestvcpus",))(set_guest_vcpus)
    verb(app, "set-ssh-keys", panel=AGENT, aliases=("set-user-sshkeys",))(set_ssh_keys)
    command(app, "guest-vcpus", panel=AGENT, aliases=("guestvcpus",))(guest_vcpus)
    command(app, "ssh-keys", panel=AGENT, aliases=("get-user-sshkeys",))(ssh_keys)
    command(app, "guest-info", panel=AGENT, aliases=("guestinfo",))(guest_info)


def freeze(client: AsyncClient, domain: t.DomainRef, options: t.JobOptions, mountpoints: Mountpoints = []) -> Begun:  # noqa: B006 # Typer makes the list
    """Freeze a guest's file systems for a consistent copy; thaw them soon."""
    return client.freeze_filesystems(domain, options=options, mountpoints=mountpoints)


def thaw(client: AsyncClient, domain: t.DomainRef, options: t.JobOptions, mountpoints: Mountpoints = []) -> Begun:  # noqa: B006 # Typer makes the list
    """Let frozen file systems go on."""
    return client.thaw_filesystems(domain, options=options, mountpoints=mountpoints)


def trim(
    client: AsyncClient,
    domain: t.DomainRef,
    options: t.JobOptions,
    minimum: Annotated[str, typer.Option(metavar="SIZE", help="Leave shorter free stretches alone: 1MiB.")] = "0B",
) -> Begun:
    """Have the guest tell its disks which blocks it does not use."""
    return client.trim_filesystems(domain, options=options, minimum_bytes=parse_size(minimum))


def set_time(
    client: AsyncClient,
    domain: t.DomainRef,
    options: t.JobOptions,
    to: Annotated[str, typer.Option(metavar="TIME", help="2025-01-31T23:59:59+00:00; now where it is not said.")] = "",
    synchronise: Annotated[bool, typer.Option("--sync", help="Take the time of the guest's own hardware clock.")] = False,
) -> Begun:
    """Set a guest's clock, to the time here unless another is said."""
    if synchronise:
        return client.set_guest_time(domain, options=options, synchronise=True)
    time = Timestamp()
    time.FromDatetime(_moment(to))
    return client.set_guest_time(domain, options=options, guest_time=time)


def _moment(words: str) -> datetime:
    try:
        moment = datetime.fromisoformat(words) if words else datetime.now(UTC)
    except ValueError:
        raise typer.BadParameter(f"{words!r} is no time: say 2025-01-31T23:59:59+00:00") from None
    return moment.astimezone(UTC)


def set_guest_vcpus(
    client: AsyncClient,
    domain: t.DomainRef,
    numbers: Annotated[list[int], typer.Argument(metavar="NUMBER...", min=0, help="Which, by the guest's numbers.")],
    options: t.JobOptions,
    online: Annotated[bool, typer.Option("--online/--offline", help="Switch them on, or off.")] = True,
) -> Begun:
    """Switch virtual CPUs on or off inside a guest."""
    return client.set_guest_vcpus(domain, options=options, vcpus=numbers, online=online)


def guest_vcpus(session: Session, domain: t.DomainRef) -> None:
    """Show which virtual CPUs a guest uses."""
    with session.client() as client:
        told = client.get_guest_vcpus(domain)
    if session.json:
        session.document(told)
    else:
        session.table(("VCPU", "ONLINE", "CAN GO OFFLINE"), ((str(vcpu.number), *map(_yes, (vcpu.online, vcpu.offlinable))) for vcpu in told.vcpus))


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def set_ssh_keys(
    client: AsyncClient,
    domain: t.DomainRef,
    user: GuestUser,
    keys: Annotated[
        list[str], typer.Argument(parser=read_text, metavar="FILE...", help="Files of public keys, one a line; - reads them from stdin.")
    ],
    options: t.JobOptions,
    remove: Annotated[bool, typer.Option("--remove", help="Remove them instead of adding them.")] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Put them in place of all that are there; an empty file removes all.")] = False,
) -> Begun:
    """Change the SSH keys that a user may log in to a guest with."""
    if remove and replace:
        raise typer.BadParameter("--remove and --replace exclude each other")
    change = j.SSH_KEYS_CHANGE_REMOVE if remove else j.SSH_KEYS_CHANGE_REPLACE if replace else j.SSH_KEYS_CHANGE_ADD
    lines = [line for text in keys for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return client.set_authorized_ssh_keys(domain, options=options, user=user, keys=lines, change=change)


def ssh_keys(session: Session, domain: t.DomainRef, user: GuestUser) -> None:
    """Print the SSH keys that a user may log in to a guest with."""
    with session.client() as client:
        told = client.get_authorized_ssh_keys(domain, user=user)
    if session.json:
        session.document(told)
    else:
        for key in told.keys:
            print(key)


def guest_info(
    session: Session,
    domain: t.DomainRef,
    part: Annotated[list[str], typer.Option(metavar="|".join(_PARTS), help="May be repeated; all where none is named.")] = [],  # noqa: B006 # Typer makes the list
) -> None:
    """Show what a guest's agent tells of the guest."""
    unknown = [one for one in part if one not in _PARTS]
    if unknown:
        raise typer.BadParameter(f"{unknown[0]!r} is no part: say one of {', '.join(_PARTS)}")
    with session.client() as client:
        told = client.get_guest_info(domain, parts=[_PARTS[one] for one in part])
    if session.json:
        session.document(told)
        return
    session.facts(
        [
            ("Host name", told.hostname or text.NONE),
            ("System", told.os.pretty_name or told.os.id or text.NONE),
            ("Kernel", told.os.kernel_release or text.NONE),
            ("Clock", f"{text.moment(told, 'guest_time')} {told.timezone}".strip()),
            ("Users", ", ".join(user.name for user in told.users) or text.NONE),
        ]
    )
    if told.filesystems:
        session.table(("MOUNTED AT", "DEVICE", "TYPE", "SIZE", "USED"), (_filesystem(found) for found in told.filesystems))
    if told.interfaces:
        session.table(("INTERFACE", "MAC", "ADDRESSES"), ((card.name, card.mac_address, ", ".join(card.addresses)) for card in told.interfaces))


def _filesystem(found: s.GuestFilesystem) -> tuple[str, ...]:
    sizes = (text.size(text.optional(found, field)) for field in ("total_bytes", "used_bytes"))
    return (found.mountpoint, found.device, found.type, *sizes)
