"""How a job went, as a table of its samples."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from virtrpc.cli import text
from virtrpc.v1 import types_pb2 as t

COLUMNS: dict[str, Callable[[t.ProgressSample], str]] = {
    "TIME": lambda s: text.today(s.progress, "observed_time"),
    "PHASE": lambda s: text.enum(t.JobPhase, s.phase),
    "PROGRESS": lambda s: f"{s.progress.percent:.0f} %" if s.progress.HasField("percent") else text.NONE,
    "DONE": lambda s: text.size(text.optional(s.progress, "processed_bytes")),
    "LEFT": lambda s: text.size(text.optional(s.progress, "remaining_bytes")),
    "RATE": lambda s: text.rate(text.optional(s.progress, "rate_bytes_per_second")),
    "ROUND": lambda s: text.number(s.progress, "memory_iteration"),
    "GUEST WRITES": lambda s: text.rate(text.optional(s.migration, "dirty_rate_bytes_per_second")),
    "THROTTLED": lambda s: f"{s.migration.auto_converge_percent} %" if s.migration.auto_converge_percent else text.NONE,
    "DOWNTIME": lambda s: text.duration(s.migration, "downtime" if s.migration.HasField("downtime") else "expected_downtime"),
}
"""What is shown of a sample. DOWNTIME is what the hypervisor expects, and at the end what it was."""


def progress_table(samples: Iterable[t.ProgressSample]) -> tuple[Sequence[str], Iterable[Sequence[str]]]:
    """Headers and rows, without the columns that no sample has a value for."""
    columns = [(header, [cell(sample) for sample in samples]) for header, cell in COLUMNS.items()]
    told = [(header, cells) for header, cells in columns if any(cell != text.NONE for cell in cells)]
    return [header for header, _ in told], zip(*(cells for _, cells in told), strict=True)
