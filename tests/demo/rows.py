"""What the reads say: one row for each of the two conditions, and their ratio."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table

Window = tuple[float, float]
"""From when to when, in seconds of the machine's monotonic clock."""


@dataclass(frozen=True)
class Row:
    """The reads that were due within one kind of window; times in seconds."""

    name: str
    seconds: list[float]

    @property
    def p99(self) -> float:
        """The 99th percentile."""
        return statistics.quantiles(self.seconds, n=100)[98]

    def cells(self) -> list[str]:
        """The row as it is printed: count, p50, p99, max."""
        times = (statistics.median(self.seconds), self.p99, max(self.seconds))
        return [self.name, str(len(self.seconds)), *(f"{seconds * 1000:.2f} ms" for seconds in times)]


def row(name: str, reads: Iterable[dict[str, Any]], windows: Sequence[Window]) -> Row:
    """The reads that were due within one of the windows: one that was answered after its end counts, or the worst would be left out."""
    return Row(name, [read["seconds"] for read in reads if any(start <= read["due"] <= end for start, end in windows)])


def observations(reads: Iterable[dict[str, Any]], window: Window) -> int:
    """How many different readings of the memory statistics were given out within a window."""
    return len({read["observed"] for read in reads if "observed" in read and window[0] <= read["due"] <= window[1]})


def table(rows: Iterable[Row]) -> Table:
    """The rows side by side."""
    grid = Table("GetDomain, GetDomainXml, GetMemoryStats", "reads", "p50", "p99", "max")
    for each in rows:
        grid.add_row(*each.cells())
    return grid
