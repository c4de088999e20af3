"""The messages between the server and a driver process, as msgpack: requests, replies in pieces, and their size.

How they get across the socket is in `channel.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from virtrpc_drivers.errors import Fault, Reason, failure
from virtrpc_drivers.migration import Arrival, Departure, Facts, TuneAnswer, Tuning
from virtrpc_drivers.operations import Migrate, Scope
from virtrpc_drivers.protocol import AnyNotice, Call, DriverSettings
from virtrpc_drivers.resources import ResourceParameters
from virtrpc_drivers.values import (
    CancelAnswer,
    Checkpoints,
    DirtyRate,
    Failed,
    FoundFile,
    Group,
    GuestInfo,
    GuestPart,
    GuestVcpu,
    HostStats,
    Listing,
    NamedFile,
    Outcome,
    Pulses,
    Readings,
    Samples,
    SaveImage,
    Screenshot,
    Snapshots,
    Steering,
)

MAX_MESSAGE = 8 << 20
"""The largest body of a frame, in bytes."""
PIECE = 256 << 10
"""Long answers are cut to about this many bytes, so that control messages pass between the pieces."""
_NIL = b"\xc0"


class Request(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The base of what the server sends; `id` grows and is never used twice on a channel."""

    id: int


class Hello(Request, frozen=True):
    """The first message: what to serve. It travels here and not in argv, since a URI may hold credentials."""

    settings: DriverSettings


class ListDomains(Request, frozen=True):
    """Driver.list."""


class ReadDomains(Request, frozen=True):
    """Driver.read."""

    uuids: tuple[str, ...]
    group: Group


class SampleDomains(Request, frozen=True):
    """Driver.sample."""

    uuids: tuple[str, ...]


class ReadPulses(Request, frozen=True):
    """Driver.pulses."""

    uuids: tuple[str, ...]


class ReadHostStats(Request, frozen=True):
    """Driver.host_stats."""


class RunCall(Request, frozen=True):
    """Driver.run."""

    call: Call


class ResumeCall(Request, frozen=True):
    """Driver.resume."""

    call: Call


class CancelCall(Request, frozen=True):
    """Driver.cancel."""

    call_id: str


class TuneCall(Request, frozen=True):
    """Driver.tune."""

    call_id: str
    tuning: Tuning


class AskDeparture(Request, frozen=True):
    """Driver.departure."""

    operation: Migrate


class AskArrival(Request, frozen=True):
    """Driver.arrival."""

    operation: Migrate
    facts: Facts
    uri: str = ""


class SteerCall(Request, frozen=True):
    """Driver.steer."""

    call_id: str
    steering: Steering


class Probe(Request, frozen=True):
    """Driver.probe."""

    uuid: str


class ListSnapshots(Request, frozen=True):
    """Driver.snapshots."""

    uuid: str


class ReadSnapshotXml(Request, frozen=True):
    """Driver.snapshot_xml."""

    uuid: str
    name: str


class ReadCurrentSnapshot(Request, frozen=True):
    """Driver.current_snapshot."""

    uuid: str


class ReadSaveImage(Request, frozen=True):
    """Driver.save_image."""

    path: str


class FollowFiles(Request, frozen=True):
    """Driver.follow."""

    files: tuple[NamedFile, ...]


class ReadGuestInfo(Request, frozen=True):
    """Driver.guest_info."""

    uuid: str
    parts: tuple[GuestPart, ...]


class ReadManagedSaveImage(Request, frozen=True):
    """Driver.managed_save_image."""

    uuid: str


class ReadGuestVcpus(Request, frozen=True):
    """Driver.guest_vcpus."""

    uuid: str


class ReadAuthorizedSshKeys(Request, frozen=True):
    """Driver.authorized_ssh_keys."""

    uuid: str
    user: str


class ReadResourceParameters(Request, frozen=True):
    """Driver.resource_parameters."""

    uuid: str
    scope: Scope


class ReadDirtyRate(Request, frozen=True):
    """Driver.dirty_rate."""

    uuid: str


class TakeScreenshot(Request, frozen=True):
    """Driver.screenshot."""

    uuid: str
    screen: int


class ReadDomainCapabilities(Request, frozen=True):
    """Driver.domain_capabilities."""

    emulator: str
    arch: str
    machine: str
    virt_type: str


class ListCheckpoints(Request, frozen=True):
    """Driver.checkpoints."""

    uuid: str


class ReadCheckpointXml(Request, frozen=True):
    """Driver.checkpoint_xml."""

    uuid: str
    name: str
    size: bool


class Simulate(Request, frozen=True):
    """A command that only a simulated hypervisor answers; its body is the simulation's own."""

    command: msgspec.Raw


class Close(Request, frozen=True):
    """Driver.close; the process ends after its reply."""


AnyRequest = (
    Hello
    | ListDomains
    | ReadDomains
    | SampleDomains
    | ReadPulses
    | ReadHostStats
    | RunCall
    | ResumeCall
    | CancelCall
    | TuneCall
    | AskDeparture
    | AskArrival
    | SteerCall
    | Probe
    | ListSnapshots
    | ListCheckpoints
    | ReadCheckpointXml
    | ReadSnapshotXml
    | ReadCurrentSnapshot
    | ReadSaveImage
    | FollowFiles
    | ReadGuestInfo
    | ReadManagedSaveImage
    | ReadGuestVcpus
    | ReadAuthorizedSshKeys
    | ReadResourceParameters
    | ReadDirtyRate
    | TakeScreenshot
    | ReadDomainCapabilities
    | Simulate
    | Close
)

ANSWERS: dict[type[Request], Any] = {
    Hello: None,
    ListDomains: Listing,
    ReadDomains: Readings,
    SampleDomains: Samples,
    ReadPulses: Pulses,
    ReadHostStats: HostStats,
    RunCall: Outcome,
    ResumeCall: Outcome,
    CancelCall: CancelAnswer,
    TuneCall: TuneAnswer,
    AskDeparture: Departure,
    AskArrival: Arrival,
    SteerCall: CancelAnswer,
    Probe: None,
    ListSnapshots: Snapshots,
    ListCheckpoints: Checkpoints,
    ReadCheckpointXml: str,
    ReadSnapshotXml: str,
    ReadCurrentSnapshot: str | None,
    ReadSaveImage: SaveImage,
    FollowFiles: tuple[FoundFile, ...],
    ReadGuestInfo: GuestInfo,
    ReadManagedSaveImage: SaveImage,
    ReadGuestVcpus: tuple[GuestVcpu, ...],
    ReadAuthorizedSshKeys: tuple[str, ...],
    ReadResourceParameters: ResourceParameters,
    ReadDirtyRate: DirtyRate,
    TakeScreenshot: Screenshot,
    ReadDomainCapabilities: str,
    Simulate: Any,
    Close: None,
}
"""The type of each request's answer."""
BULK: frozenset[type[Request]] = frozenset(
    {ListDomains, ReadDomains, SampleDomains, ListSnapshots, ListCheckpoints, ReadCheckpointXml, ReadSnapshotXml, TakeScreenshot}
)
"""Requests whose answers give way to control messages."""


class Reply(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The answer to the request `id`, or one piece of it: `more` says that another follows."""

    id: int
    value: msgspec.Raw = msgspec.Raw(_NIL)
    fault: Fault | None = None
    more: bool = False


FromDriver = Reply | AnyNotice
_encoder = msgspec.msgpack.Encoder()


def encode(message: msgspec.Struct) -> bytes:
    """A message as a frame's body. Raises DriverError (OPERATION_FAILED) where it is larger than MAX_MESSAGE."""
    body = _encoder.encode(message)
    if len(body) > MAX_MESSAGE:
        raise failure(Reason.FAILED, f"a message of {len(body)} bytes is larger than the {MAX_MESSAGE} that fit between server and driver")
    return body


def replies(request: int, value: object, piece: int = PIECE) -> Iterator[bytes]:
    """The bodies of the Reply messages that carry one answer: several where it is long and made of parts.

    Raises DriverError where a part that cannot be cut is larger than MAX_MESSAGE; a reading so large becomes a `Failed`.
    """
    parts = list(_cut(value, piece)) if isinstance(value, Readings | Samples | Listing | Pulses | Snapshots | Checkpoints | Screenshot) else [value]
    for index, part in enumerate(parts):
        yield encode(Reply(id=request, value=msgspec.Raw(_encoder.encode(part)), more=index + 1 < len(parts)))


def refusal(request: int, fault: Fault) -> bytes:
    """The body of a Reply that carries an error."""
    return encode(Reply(id=request, fault=fault))


def _cut(value: msgspec.Struct, piece: int) -> Iterator[msgspec.Struct]:
    """The value in parts of about `piece` bytes, each with some of the items of its tuples."""
    empty = {name: () for name in value.__struct_fields__ if isinstance(getattr(value, name), tuple)}
    part: dict[str, list[object]] = {name: [] for name in empty}
    room = piece
    for name in empty:
        for item in getattr(value, name):
            size = len(_encoder.encode(item))
            if size > room and any(part.values()):
                yield msgspec.structs.replace(value, **{key: tuple(items) for key, items in part.items()})
                part, room = {key: [] for key in empty}, piece
            if size > MAX_MESSAGE // 2 and name == "found":
                part["failed"].append(Failed(uuid=item.uuid, message=f"its reading of {size} bytes is too large to be sent"))
                continue
            part[name].append(item)
            room -= size
    yield msgspec.structs.replace(value, **{key: tuple(items) for key, items in part.items()})


def join(parts: list[Any]) -> Any:
    """One answer of its pieces."""
    first = parts[0]
    if len(parts) == 1:
        return first
    tuples = [name for name in first.__struct_fields__ if isinstance(getattr(first, name), tuple)]
    return msgspec.structs.replace(first, **{name: tuple(item for part in parts for item in getattr(part, name)) for name in tuples})
