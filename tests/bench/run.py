"""Measures the server: a table, build/bench.json and build/bench.svg. What is measured, and how: docs/performance.md."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import typer
from rich.console import Console

from tests.bench import journals, report, restarts, security, stopped
from tests.bench.figures import NOISE_LIMIT, Figure, milliseconds
from tests.bench.rows import ROWS, Queries, Row
from tests.bench.stage import Stage, simulated

ROUNDS = 7
LONGEST_STRETCH_MS = 100.0
"""Above this the server warns in its log."""
ATTEMPTS = 3
"""Runs of a ratio whose idle blocks differ too much, the first included."""

STOPPED = "stopped"
Say = Callable[[str], None]
APART: dict[str, Callable[[int, Say], Awaitable[journals.Costs | restarts.Seen | security.Costs]]] = {
    "history": journals.measure,
    "restarts": restarts.measure,
    "security": security.measure,
}
"""Rows on stages of their own."""
TITLES = [*ROWS, *APART, STOPPED]

console = Console(highlight=False, soft_wrap=True)


async def measure(titles: list[str], rounds: int, profile: str) -> list[Figure]:
    """All figures of the rows with these titles."""
    rows: list[Row] = [row() for title, row in ROWS.items() if title in titles]
    figures = await _simulated(rows, rounds, profile) if rows else []
    for title, row in APART.items():
        figures += (await row(rounds, _say)).figures() if title in titles else []
    return [*figures, *(await _stopped(rounds) if STOPPED in titles else [])]


async def _simulated(rows: list[Row], rounds: int, profile: str) -> list[Figure]:
    async with simulated() as stage:
        if profile:
            await stage.server.ask("profile_on")
        await stage.server.ask("lag")
        await _rounds(stage, rows, rounds)
        rows = [await _until_quiet(stage, row, rounds) if isinstance(row, Queries) else row for row in rows]
        if profile:
            await stage.server.ask("profile_off", path=profile)
        lag = await stage.server.ask("lag")
    return [*(figure for row in rows for figure in row.figures()), *_lag(lag)]


async def _stopped(rounds: int) -> list[Figure]:
    for _ in range(ATTEMPTS - 1):
        seen = await stopped.measure(rounds, _say)
        if seen.stopped.noise <= NOISE_LIMIT:
            return seen.figures()
        _say(_void(seen.stopped.noise))
    return (await stopped.measure(rounds, _say)).figures()


def _void(noise: float) -> str:
    return f"void: the second idle block took {noise:.2f} of the first; once more"


def _lag(lag: dict[str, Any]) -> list[Figure]:
    """How late the loop was through all of it, and where it stood longest."""
    return [
        milliseconds("loop lag through all of it, p99.9", lag["p999"], 10.0, f"{lag['count']} looks"),
        milliseconds("loop lag, longest stretch", lag["max"], LONGEST_STRETCH_MS, lag["place"]),
    ]


async def _until_quiet(stage: Stage, row: Queries, rounds: int) -> Queries:
    """The row, measured anew where the machine was too noisy for it to mean anything."""
    for _ in range(ATTEMPTS - 1):
        if row.ratio.noise <= NOISE_LIMIT:
            break
        _say(_void(row.ratio.noise))
        row = Queries()
        await _rounds(stage, [row], rounds)
    return row


async def _rounds(stage: Stage, rows: list[Row], rounds: int) -> None:
    for number in range(1, rounds + 1):
        for row in rows:
            _say(f"round {number} of {rounds}: {row.title}, idle")
            await row.idle(stage)
        async with stage.busy():
            for row in rows:
                _say(f"round {number} of {rounds}: {row.title}, busy")
                await row.busy(stage)


def _say(text: str) -> None:
    console.print(f"{time.strftime('%H:%M:%S')}  {text}")


def main(
    rows: Annotated[str, typer.Option(help=f"Which, separated by commas: {', '.join(TITLES)}.")] = ",".join(TITLES),
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of each row; figures are medians over them.")] = ROUNDS,
    profile: Annotated[str, typer.Option(help="Where to write a profile of the server's loop; it costs the server half of its speed.")] = "",
) -> None:
    """Measure the server, with its callers and watchers in other processes."""
    titles = rows.split(",")
    unknown = set(titles) - set(TITLES)
    if unknown:
        raise typer.BadParameter(f"no such rows: {', '.join(sorted(unknown))}")
    began = time.monotonic()
    figures = asyncio.run(measure(titles, rounds, profile))
    title = f"virtrpc: {rounds} rounds"
    console.print(report.table(figures, title))
    report.write(figures, title)
    console.print(f"written: build/bench.json, build/bench.svg; took {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    typer.run(main)
