"""virsh's --memspec and --diskspec."""

from __future__ import annotations

import typer

from virtrpc.v1 import job_pb2 as j

_LOCATIONS = {
    "no": j.SNAPSHOT_LOCATION_NONE,
    "none": j.SNAPSHOT_LOCATION_NONE,
    "internal": j.SNAPSHOT_LOCATION_INTERNAL,
    "external": j.SNAPSHOT_LOCATION_EXTERNAL,
}


def memory_spec(spec: str) -> tuple[j.SnapshotLocation.ValueType, str]:
    """Location and path of `[file=]PATH[,snapshot=KIND]`; a path alone means external."""
    first, *rest = split(spec)
    settings = _settings(rest if "=" not in first else [first, *rest], spec)
    path = settings.get("file", first if "=" not in first else "")
    return _location(settings, path, spec), path


def disk_spec(spec: str) -> j.SnapshotDisk:
    """The disk of `DISK[,snapshot=KIND][,file=PATH]`; a path alone means external."""
    device, *rest = split(spec)
    settings = _settings(rest, spec)
    path = settings.get("file", "")
    return j.SnapshotDisk(device=device, location=_location(settings, path, spec), path=path)


def split(spec: str) -> list[str]:
    """The parts of a word with commas."""
    # As in virsh, two commas stand for one that belongs to a path.
    return [part.replace("\0", ",") for part in spec.replace(",,", "\0").split(",")]


def _settings(parts: list[str], spec: str) -> dict[str, str]:
    settings = {key: value for key, _, value in (part.partition("=") for part in parts)}
    if not settings.keys() <= {"file", "snapshot"}:
        raise typer.BadParameter(f"{spec!r}: only file= and snapshot= are known here; --xml takes everything")
    return settings


def _location(settings: dict[str, str], path: str, spec: str) -> j.SnapshotLocation.ValueType:
    kind = settings.get("snapshot", "external" if path else "")
    if kind and kind not in _LOCATIONS:
        raise typer.BadParameter(f"{spec!r}: snapshot= takes no, internal or external")
    return _LOCATIONS[kind] if kind else j.SNAPSHOT_LOCATION_UNSPECIFIED
