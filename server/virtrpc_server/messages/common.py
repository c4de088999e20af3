"""What all messages are made of: times, freshness, identities, and tables from our enums to the contract's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Protocol, TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from virtrpc.v1 import types_pb2
from virtrpc_drivers.values import State
from virtrpc_server.domains import Entry, Observed
from virtrpc_server.hosts import Freshness

NANOS = 1_000_000_000
MAX_INT64 = (1 << 63) - 1
MIN_TIMESTAMP = -62_135_596_800
"""The first second of the year 1, which a Timestamp begins with."""
MAX_TIMESTAMP = 253_402_300_799
"""The last second of the year 9999, which a Timestamp ends with."""

E = TypeVar("E", bound=StrEnum)
V_co = TypeVar("V_co", covariant=True)


class ProtoEnum(Protocol[V_co]):
    """A generated enum: gives the number of a name, ValueError where it has none."""

    def Value(self, name: str) -> V_co:  # noqa: N802 # protobuf's name
        """The number."""


def enum_table(members: Iterable[E], enum: ProtoEnum[V_co], prefix: str, other: Mapping[E, str] | None = None) -> dict[E, V_co]:
    """The contract's value of each of our enum's members, by its name or as `other` says.

    Made when the module is imported, so that a member the contract lacks is found then and not by a caller.
    """
    names = other or {}
    return {member: enum.Value(prefix + names.get(member, member.name)) for member in members}


FRESHNESS = enum_table(Freshness, types_pb2.Freshness, "FRESHNESS_")
STATES = enum_table(State, types_pb2.DomainState, "DOMAIN_STATE_", {State.NOSTATE: "NO_STATE"})


def timestamp(seconds: float | None) -> Timestamp | None:
    """Wall time in seconds since the epoch; None and a time that no Timestamp can hold stay unset."""
    if seconds is None or seconds > MAX_TIMESTAMP:
        return None
    whole, nanos = divmod(round(seconds * NANOS), NANOS)
    return Timestamp(seconds=whole, nanos=nanos)


def duration(seconds: float | None) -> Duration | None:
    """A length of time in seconds; None stays unset."""
    return None if seconds is None else duration_ns(round(seconds * NANOS))


def duration_ns(nanoseconds: int | None) -> Duration | None:
    """A length of time in nanoseconds; None stays unset."""
    if nanoseconds is None:
        return None
    # A Duration's parts must have one sign: what divmod gives for a negative one would not.
    sign = -1 if nanoseconds < 0 else 1
    whole, nanos = divmod(abs(nanoseconds), NANOS)
    return Duration(seconds=sign * whole, nanos=sign * nanos)


def numbers(**found: int | None) -> dict[str, int | None]:
    """Numbers by their fields' names. One that no int64 can hold, as some guests report, stays unset instead of spoiling the whole answer."""
    return {name: number for name, number in found.items() if number is not None and -MAX_INT64 <= number <= MAX_INT64}


def observation(freshness: Freshness, reading: Observed[object] | None) -> types_pb2.Observation:
    """When a group was read, and whether that is still good."""
    if reading is None or freshness is Freshness.UNKNOWN:
        return types_pb2.Observation(freshness=FRESHNESS[Freshness.UNKNOWN])
    message = types_pb2.Observation(freshness=FRESHNESS[freshness])
    # In place: lists are full of these, and a Timestamp made apart takes as long again.
    message.observed_time.seconds, message.observed_time.nanos = divmod(round(reading.stamp.wall * NANOS), NANOS)
    return message


def identity_message(entry: Entry) -> types_pb2.DomainIdentity:
    """Which domain is meant."""
    return types_pb2.DomainIdentity(host=entry.host, uuid=entry.uuid, name=entry.name)
