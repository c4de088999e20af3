"""How far a job has come, as its last reading says."""

from __future__ import annotations

import msgspec

from virtrpc_drivers.protocol import Report


class Progress(msgspec.Struct, frozen=True):
    """How far the hypervisor has come: bytes, bytes a second, seconds. `percent` never runs backwards."""

    processed_bytes: int | None = None
    total_bytes: int | None = None
    remaining_bytes: int | None = None
    rate_bytes_per_second: int | None = None
    remaining_seconds: float | None = None
    percent: float | None = None
    observed: float | None = None
    """Wall time in seconds."""
    elapsed_seconds: float | None = None
    memory_iteration: int | None = None

    @classmethod
    def after(cls, last: Progress | None, report: Report) -> Progress:
        """The progress after a report: what the report lacks is unset, and the per cent only grows."""
        percent = report.percent
        if percent is None and report.migration is not None:
            percent = _moved(report)
        elif percent is None and report.total_bytes and report.processed_bytes is not None:
            percent = 100.0 * report.processed_bytes / max(report.total_bytes, report.processed_bytes)
        floor = last.percent if last is not None else None
        if floor is not None:
            percent = floor if percent is None else max(floor, percent)
        return cls(
            report.processed_bytes,
            report.total_bytes,
            report.remaining_bytes,
            report.rate_bytes_per_second,
            report.remaining_seconds,
            None if percent is None else min(percent, 100.0),
            report.stamp.wall if report.stamp else None,
            report.elapsed_seconds,
            report.memory_iteration,
        )


def _moved(report: Report) -> float | None:
    """Per cent of a migration: memory that was empty counts as sent, and what the guest writes again comes on top."""
    total, left = report.total_bytes, report.remaining_bytes
    if total is None or left is None:
        return None
    done = max(report.processed_bytes or 0, total - left)
    return 100.0 * done / (done + left) if done + left > 0 else None
