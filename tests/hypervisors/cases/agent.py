"""Cases: what the guest's agent does."""

from __future__ import annotations

from google.protobuf.timestamp_pb2 import Timestamp

from tests.e2e.server import ended, eventually
from tests.hypervisors.case import case
from tests.hypervisors.stage import Stage
from virtrpc import AgentUnresponsive
from virtrpc.v1 import job_pb2 as j

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA one"


@case("JobService/SetUserPassword", lambda s: ended(s.client.set_user_password(s.ref, user="root", password="a secret")))
async def set_user_password(s: Stage) -> None:
    """The agent of a running guest sets a password."""
    ref = await s.booted()
    await s.with_agent(lambda: s.client.set_user_password(ref, user="root", password="a secret"))


@case("JobService/FreezeFilesystems", lambda s: ended(s.client.freeze_filesystems(s.ref)))
async def freeze(s: Stage) -> None:
    """The agent freezes what is mounted, and counts it; it is thawed afterwards."""
    ref = await s.booted()
    await s.with_agent(lambda: s.client.freeze_filesystems(ref))
    await s.done(s.client.thaw_filesystems(ref))


@case("JobService/ThawFilesystems", lambda s: ended(s.client.thaw_filesystems(s.ref)))
async def thaw(s: Stage) -> None:
    """The agent thaws what is frozen: nothing, where nothing is."""
    ref = await s.booted()
    await s.with_agent(lambda: s.client.thaw_filesystems(ref))


@case("JobService/TrimFilesystems", lambda s: ended(s.client.trim_filesystems(s.ref)))
async def trim(s: Stage) -> None:
    """The agent trims what it can."""
    ref = await s.booted()
    await s.with_agent(lambda: s.client.trim_filesystems(ref))


@case("JobService/SetGuestTime", lambda s: ended(s.client.set_guest_time(s.ref, synchronise=True)))
async def set_guest_time(s: Stage) -> None:
    """The agent sets the guest's clock."""
    ref = await s.booted()
    await s.with_agent(lambda: s.client.set_guest_time(ref, guest_time=Timestamp(seconds=1_900_000_000)))


@case("SnapshotService/GetGuestInfo", lambda s: s.client.get_guest_info(s.ref))
async def get_guest_info(s: Stage) -> None:
    """The agent tells something of the guest."""
    ref = await s.booted()

    async def told() -> bool:
        try:
            info = await s.client.get_guest_info(ref)
        except AgentUnresponsive:
            return False
        return bool(info.hostname or info.filesystems or info.interfaces)

    await eventually(told, "the agent to tell")


@case("JobService/SetGuestVcpus", lambda s: ended(s.client.set_guest_vcpus(s.ref, vcpus=[0], online=True)))
async def set_guest_vcpus(s: Stage) -> None:
    """The agent switches a virtual CPU on that is on."""
    ref = await s.booted()
    await s.with_agent(lambda: s.client.set_guest_vcpus(ref, vcpus=[0], online=True))


@case("SnapshotService/GetGuestVcpus", lambda s: s.client.get_guest_vcpus(s.ref))
async def get_guest_vcpus(s: Stage) -> None:
    """The agent tells of the first virtual CPU: it is online."""
    ref = await s.booted()
    await s.with_agent(lambda: s.client.set_guest_vcpus(ref, vcpus=[0], online=True))
    assert (await s.client.get_guest_vcpus(ref)).vcpus[0].online


@case("JobService/SetAuthorizedSshKeys", lambda s: ended(s.client.set_authorized_ssh_keys(s.ref, user="root", keys=[KEY])))
async def set_authorized_ssh_keys(s: Stage) -> None:
    """The agent adds a key."""
    ref = await s.booted()
    await s.with_agent(lambda: s.client.set_authorized_ssh_keys(ref, user="root", keys=[KEY]))


@case("SnapshotService/GetAuthorizedSshKeys", lambda s: s.client.get_authorized_ssh_keys(s.ref, user="root"))
async def get_authorized_ssh_keys(s: Stage) -> None:
    """The agent tells a user's keys."""
    ref = await s.booted()
    await s.with_agent(lambda: s.client.set_authorized_ssh_keys(ref, user="root", keys=[KEY], change=j.SSH_KEYS_CHANGE_REPLACE))
    assert (await s.client.get_authorized_ssh_keys(ref, user="root")).keys == [KEY]
