"""Values of the contract as people read them. A value that was not read is "-", never zero."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from virtrpc.v1 import types_pb2 as t

NONE = "-"
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


def size(count: int | None) -> str:
    """Bytes, to three digits: `2.00 GiB`."""
    if count is None:
        return NONE
    value, unit = float(count), 0
    while abs(value) >= 1024 and unit < len(_UNITS) - 1:
        value, unit = value / 1024, unit + 1
    return f"{count} B" if unit == 0 else f"{value:.{_decimals(value)}f} {_UNITS[unit]}"


def rate(count: int | None) -> str:
    """Bytes per second."""
    return NONE if count is None else f"{size(count)}/s"


def seconds(length: float) -> str:
    """A length of time: `0.4 s`, `59 s`, `3 min 20 s`, `2 h 5 min`."""
    if length < 10:
        return f"{length:.1f} s"
    whole = round(length)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def duration(message: Message, field: str) -> str:
    """A Duration field."""
    value: Duration = getattr(message, field)
    return seconds(value.seconds + value.nanos / 1e9) if message.HasField(field) else NONE


def moment(message: Message, field: str) -> str:
    """A Timestamp field, in local time."""
    value: Timestamp = getattr(message, field)
    return value.ToDatetime(UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S") if message.HasField(field) else NONE


def today(message: Message, field: str) -> str:
    """A Timestamp field in local time, without its date where that is today."""
    date, _, time = moment(message, field).partition(" ")
    return time if date == datetime.now().astimezone().strftime("%Y-%m-%d") else f"{date} {time}".strip()


def age(time: Timestamp) -> float:
    """Seconds since then, by this machine's clock; not below zero."""
    return max(0.0, (datetime.now(UTC) - time.ToDatetime(UTC)).total_seconds())


def observed(observation: t.Observation) -> str:
    """How old a reading is and how far it can be trusted: `live, 0.4 s ago`."""
    freshness = enum(t.Freshness, observation.freshness)
    return f"{freshness}, {seconds(age(observation.observed_time))} ago" if observation.HasField("observed_time") else freshness


def enum(kind: Any, value: int) -> str:
    """An enum's value without its prefix, in lower case with spaces; the number where this client does not know it, "-" where it is unset."""
    names = kind.DESCRIPTOR.values_by_number
    if value == 0:
        return NONE
    if value not in names:
        return str(value)
    prefix: str = names[0].name.removesuffix("UNSPECIFIED")
    return str(names[value].name).removeprefix(prefix).replace("_", " ").lower()


def state(value: t.DomainState.ValueType) -> str:
    """A domain's state in virsh's words."""
    return {t.DOMAIN_STATE_SHUTOFF: "shut off", t.DOMAIN_STATE_SHUTDOWN: "in shutdown", t.DOMAIN_STATE_UNSPECIFIED: "unknown"}.get(
        value, enum(t.DomainState, value)
    )


def number(message: Message, field: str) -> str:
    """An optional number."""
    return str(getattr(message, field)) if message.HasField(field) else NONE


def optional(message: Message, field: str) -> Any:
    """An optional field's value, or None where it was not read."""
    return getattr(message, field) if message.HasField(field) else None


def yes(value: bool | None) -> str:
    """yes, no or "-"."""
    return NONE if value is None else "yes" if value else "no"


def one_line(text: str) -> str:
    """A message without line breaks and control codes: libvirt's and gRPC's can have both, and a guest's name could."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _decimals(value: float) -> int:
    return 2 if abs(value) < 10 else 1 if abs(value) < 100 else 0
