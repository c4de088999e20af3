"""What a guest's agent told, as messages."""

from __future__ import annotations

from virtrpc.v1 import snapshot_pb2
from virtrpc_drivers import values
from virtrpc_server.domains import Entry
from virtrpc_server.messages.common import enum_table, identity_message, numbers, timestamp

PARTS = enum_table(values.GuestPart, snapshot_pb2.GuestInfoPart, "GUEST_INFO_PART_")


def guest_info_message(entry: Entry, info: values.GuestInfo) -> snapshot_pb2.GetGuestInfoResponse:
    """The whole answer."""
    return snapshot_pb2.GetGuestInfoResponse(
        domain=identity_message(entry),
        observed_time=timestamp(info.stamp.wall),
        hostname=info.hostname,
        os=_os(info.os) if info.os else None,
        timezone=info.timezone,
        guest_time=timestamp(info.time),
        users=[snapshot_pb2.GuestUser(name=user.name, domain=user.domain, login_time=timestamp(user.login)) for user in info.users],
        filesystems=[_filesystem(found) for found in info.filesystems],
        interfaces=[snapshot_pb2.GuestInterface(name=card.name, mac_address=card.mac, addresses=card.addresses) for card in info.interfaces],
    )


def _os(told: dict[str, str]) -> snapshot_pb2.GuestOs:
    return snapshot_pb2.GuestOs(
        id=told.get("id", ""),
        pretty_name=told.get("pretty-name", ""),
        version=told.get("version", ""),
        kernel_release=told.get("kernel-release", ""),
        kernel_version=told.get("kernel-version", ""),
        machine=told.get("machine", ""),
    )


def _filesystem(found: values.GuestFilesystem) -> snapshot_pb2.GuestFilesystem:
    return snapshot_pb2.GuestFilesystem(
        mountpoint=found.mountpoint,
        device=found.device,
        type=found.type,
        disks=found.disks,
        **numbers(total_bytes=found.total_bytes, used_bytes=found.used_bytes),
    )
