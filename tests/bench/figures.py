"""What was measured, beside what it should be."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

NOISE_LIMIT = 1.5
"""A run in which the second idle block's p99 is so much above the first's measured the machine, not the server."""


@dataclass(frozen=True)
class Figure:
    """One number and its target; `note` is for people."""

    name: str
    value: float
    unit: str
    target: float
    better: Literal["lower", "higher"] = "lower"
    note: str = ""

    @property
    def met(self) -> bool:
        """Whether the target is reached; a value that is no number reaches none."""
        return self.value <= self.target if self.better == "lower" else self.value >= self.target


def milliseconds(name: str, seconds: float, target: float, note: str = "") -> Figure:
    """A time, which lower is better."""
    return Figure(name, seconds * 1000, "ms", target, note=note)


def shown(name: str, holds: bool, note: str = "") -> Figure:
    """Something that is to be so: 1, or 0 where it is not."""
    return Figure(name, float(holds), "yes", 1.0, "higher", note)


def percentile(seconds: Sequence[float], per_cent: float) -> float:
    """The smallest of these that at least `per_cent` of them do not exceed; not a number where there are none."""
    if not seconds:
        return math.nan
    return sorted(seconds)[max(0, math.ceil(len(seconds) * per_cent / 100) - 1)]


def p99(seconds: Sequence[float]) -> float:
    """The 99th percentile."""
    return percentile(seconds, 99)


def median_p99(rounds: Sequence[Sequence[float]]) -> float:
    """The median over rounds of their 99th percentiles."""
    return statistics.median(p99(seconds) for seconds in rounds)


@dataclass(frozen=True)
class Ratio:
    """Blocks of one round: idle, idle again, and what is compared with idle; times in seconds."""

    idle: list[list[float]]
    again: list[list[float]]
    busy: list[list[float]]

    @property
    def noise(self) -> float:
        """The median over rounds of the second idle block's p99 over the first's."""
        return _median_ratio(self.again, self.idle)

    def figures(self, what: str, when: str, ratio: float, cap_ms: float) -> list[Figure]:
        """The ratio with its absolute cap and the noise beside it."""
        return [
            Figure(f"{what} p99, {when} / idle", _median_ratio(self.busy, self.idle), "ratio", ratio),
            milliseconds(f"{what} p99, {when}", median_p99(self.busy), cap_ms),
            milliseconds(f"{what} p99, idle", median_p99(self.idle), cap_ms),
            Figure(f"{what}: noise, idle again / idle", self.noise, "ratio", NOISE_LIMIT, note="" if self.noise <= NOISE_LIMIT else "VOID"),
        ]


def _median_ratio(over: Sequence[Sequence[float]], under: Sequence[Sequence[float]]) -> float:
    return statistics.median(p99(a) / p99(b) for a, b in zip(over, under, strict=True))
