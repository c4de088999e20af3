"""Arguments and options that several commands share, and how their texts are read."""

from __future__ import annotations

import re
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from virtrpc.v1 import types_pb2 as t

MAX_XML_BYTES = 1024 * 1024

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([a-zA-Z]+)?")
_SIZE_FACTORS: dict[str, int] = {
    "b": 1,
    **{name: 1024**power for power, letter in enumerate("kmgtpe", 1) for name in (letter, f"{letter}ib")},
    **{f"{letter}b": 1000**power for power, letter in enumerate("kmgtpe", 1)},
}
_TIME = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|min|h|d)?")
_TIME_FACTORS: dict[str, float] = {"ms": 0.001, "": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86_400.0}


def parse_size(value: str) -> int:
    """Bytes of a text like 2GiB, 512M or 1.5GiB; KB, MB, GB are powers of 1000. A unit is demanded: virsh takes bare numbers for KiB."""
    match = _SIZE.fullmatch(value.strip())
    unit = (match.group(2) or "").lower() if match else ""
    if match is None or (unit and unit not in _SIZE_FACTORS):
        raise typer.BadParameter(f"{value!r} is no size: say 2GiB, 512MiB, 1048576KiB or 4096B")
    if not unit:
        raise typer.BadParameter(f"{value!r} has no unit: say {value}B for bytes, or {value}KiB as virsh would take it")
    return round(float(match.group(1)) * _SIZE_FACTORS[unit])


def parse_seconds(value: str) -> float:
    """Seconds of a text like 30, 1.5s, 500ms, 5m, 2h or 3d."""
    match = _TIME.fullmatch(value.strip())
    if match is None:
        raise typer.BadParameter(f"{value!r} is no length of time: say 30, 1.5s, 500ms, 5m, 2h or 3d")
    return float(match.group(1)) * _TIME_FACTORS[match.group(2) or ""]


def parse_moment(value: str) -> float:
    """Seconds since the epoch of a text like 2h (so long ago), 2026-11-27T10:00 or 10:00 (today); local time unless it says another."""
    text = value.strip()
    length = _TIME.fullmatch(text)
    if length is not None and length.group(2):
        return time.time() - parse_seconds(text)
    for whole in (text, f"{datetime.now().date()}T{text}"):  # noqa: DTZ005 # a day of the user's
        try:
            return datetime.fromisoformat(whole).astimezone().timestamp()
        except ValueError:
            continue
    raise typer.BadParameter(f"{value!r} is no time: say 90s, 30m, 2h or 3d for so long ago, or 2026-11-27T10:00, 2026-11-27 or 10:00")


def parse_numbers(value: str) -> list[int]:
    """The numbers of a text like 0-3,8."""
    if not re.fullmatch(r"\d{1,5}(-\d{1,5})?(,\d{1,5}(-\d{1,5})?)*", value):
        raise typer.BadParameter(f"{value!r} is no set of numbers: say 0-3,8")
    bounds = [part.split("-") for part in value.split(",")]
    return [number for first, *last in bounds for number in range(int(first), int(last[0] if last else first) + 1)]


def as_duration(seconds: float) -> Duration:
    """A length of time as the contract says it."""
    duration = Duration()
    duration.FromNanoseconds(round(seconds * 1e9))
    return duration


def as_timestamp(seconds: float) -> Timestamp:
    """A moment as the contract says it."""
    moment = Timestamp()
    moment.FromNanoseconds(round(seconds * 1e9))
    return moment


def read_xml(path: str) -> str:
    """The text of an XML file; of stdin where the path is `-`."""
    return read_text(path, "XML")


def read_text(path: str, what: str = "text") -> str:
    """The text of a file; of stdin where the path is `-`."""
    try:
        data = sys.stdin.buffer.read(MAX_XML_BYTES + 1) if path == "-" else Path(path).read_bytes()
    except OSError as error:
        raise typer.BadParameter(f"cannot read {path}: {error.strerror}") from error
    if len(data) > MAX_XML_BYTES:
        raise typer.BadParameter(f"{path} has more than 1 MiB of {what}")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise typer.BadParameter(f"{path} is not UTF-8") from error


def resume_state(running: bool, paused: bool) -> t.ResumeState.ValueType:
    """virsh's --running and --paused."""
    if running and paused:
        raise typer.BadParameter("--running and --paused exclude each other")
    return t.RESUME_STATE_RUNNING if running else t.RESUME_STATE_PAUSED if paused else t.RESUME_STATE_UNSPECIFIED


Size = Annotated[int, typer.Argument(parser=parse_size, metavar="SIZE", help="With a unit: 2GiB, 512M, 1048576KiB.")]
Xml = Annotated[str, typer.Argument(parser=read_xml, metavar="FILE", help="libvirt XML; - reads it from stdin.")]
Paused = Annotated[bool, typer.Option("--paused", help="Leave the guest paused.")]
Running = Annotated[bool, typer.Option("--running", help="Let the guest run, however it was when it was saved.")]
Force = Annotated[bool, typer.Option("--force")]
BypassCache = Annotated[bool, typer.Option("--bypass-cache", help="Go past the host's file cache.")]
