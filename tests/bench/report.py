"""What a run leaves: a table on the screen, a chart and a list of figures in build/."""

from __future__ import annotations

import json
from collections.abc import Sequence
from math import isfinite
from pathlib import Path

from rich.table import Table

from tests.bench.chart import svg
from tests.bench.figures import Figure

BUILD = Path("build")


def table(figures: Sequence[Figure], title: str) -> Table:
    """The figures beside their targets."""
    grid = Table("figure", "value", "target", "", title=title, title_justify="left")
    for figure in figures:
        bound = "at most" if figure.better == "lower" else "at least"
        verdict = "[green]met[/green]" if figure.met else "[bold red]missed[/bold red]"
        told = f"{figure.value:.2f} {figure.unit}"
        grid.add_row(figure.name, told, f"{bound} {figure.target:g}", f"{verdict} {figure.note}".rstrip())
    return grid


def write(figures: Sequence[Figure], title: str) -> None:
    """bench.json and bench.svg."""
    BUILD.mkdir(exist_ok=True)
    wanted = ("name", "unit", "target", "better")
    # What is no number is nothing in JSON.
    rows = [{**{key: getattr(each, key) for key in wanted}, "value": each.value if isfinite(each.value) else None} for each in figures]
    (BUILD / "bench.json").write_text(json.dumps(rows, indent=1) + "\n")
    (BUILD / "bench.svg").write_text(svg(figures, title))
