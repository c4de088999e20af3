"""The bench and the soak run, small: what they measure here says nothing, that they measure at all does."""

from __future__ import annotations

import json
import math
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.bench import journals, report, restarts, rows, security
from tests.bench.figures import Figure, Ratio, p99, percentile, shown
from tests.bench.rows import ROWS, Row
from tests.bench.soak import GROWTH_BYTES, soak
from tests.bench.stage import simulated

STREAMS = 10_000


@pytest.mark.timeout(300)
async def test_every_row_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each gives figures that are numbers, misses nothing, and leaves the stage as it found it: a second round works."""
    for name, value in {"CALLS": 100, "EVENTS": 3, "CROWD": 20, "CANCELS": 12, "CROWD_EVENTS": 2}.items():
        monkeypatch.setattr(rows, name, value)
    measured: list[Row] = [row() for row in ROWS.values()]
    async with simulated() as stage:
        for _ in range(2):
            for row in measured:
                await row.idle(stage)
            async with stage.busy():
                for row in measured:
                    await row.busy(stage)
        lag = await stage.server.ask("lag")
    figures = [figure for row in measured for figure in row.figures()]
    assert all(math.isfinite(figure.value) for figure in figures)
    assert [figure.value for figure in figures if figure.unit in ("messages", "jobs")] == [0, 0, 0]
    assert lag["count"] > 100


@pytest.mark.timeout(300)
async def test_rows_on_stages_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a journal and without, over a long history, killed twice in each round (every job is there again), and with all security or none."""
    for module, values in (
        (journals, {"DOMAINS": 20, "AT_ONCE": 5, "SECONDS": 0.3, "REMEMBERED": 500, "LISTS": 10}),
        (security, {"DOMAINS": 20, "CALLS": 100}),
        (restarts, {"DOMAINS": 20, "RUNNING": 5, "FINISHED": 200, "STREAMS": 50, "SETTLE_SECONDS": 0.5}),
    ):
        for name, value in values.items():
            monkeypatch.setattr(module, name, value)
    measured = [await module.measure(2, print) for module in (journals, restarts, security)]
    figures = [figure for each in measured for figure in each.figures()]
    assert all(math.isfinite(figure.value) for figure in figures)
    assert [figure.value for figure in figures if figure.unit == "jobs"] == [0]


@pytest.mark.timeout(300)
async def test_streams_that_come_and_go_leave_nothing_behind() -> None:
    """Whether they are cancelled, cut off or killed: no task, no RPC, nobody who waits, and no memory."""
    soaked = await soak(STREAMS)
    assert soaked.after == soaked.before
    assert soaked.growth <= GROWTH_BYTES


def test_a_percentile_is_one_of_the_values() -> None:
    """The smallest that enough of them do not exceed; of nothing there is none."""
    assert percentile([3.0, 1.0, 2.0], 50) == 2.0
    assert percentile([3.0, 1.0, 2.0], 100) == 3.0
    assert p99([float(number) for number in range(1, 1001)]) == 990.0
    assert math.isnan(p99([]))


def test_a_ratio_has_its_cap_and_its_noise_beside_it() -> None:
    """Medians over rounds, of each round's own ratio; a noisy run says that it is void."""
    ratio = Ratio(idle=[[1.0], [2.0], [1.0]], again=[[1.0], [4.0], [2.0]], busy=[[1.1], [2.2], [9.0]])
    figures = ratio.figures("reads", "busy", ratio=1.2, cap_ms=15.0)
    assert [figure.value for figure in figures] == pytest.approx([1.1, 2200.0, 1000.0, 2.0])
    assert [figure.met for figure in figures] == [True, False, False, False]
    assert figures[-1].note == "VOID"


def test_figures_are_written_as_promised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """bench.json has name, value, unit, target and better of each; the chart is SVG with a bar for each."""
    monkeypatch.setattr(report, "BUILD", tmp_path / "build")
    figures = [
        Figure("a <slow> one", 30.0, "ms", 20.0),
        shown("jobs ran", holds=True),
        Figure("missed", 0.0, "messages", 0.0),
        Figure("?", math.nan, "ms", 1),
    ]
    report.write(figures, "a run")
    written = json.loads((tmp_path / "build/bench.json").read_text())
    assert [set(row) for row in written] == [{"name", "value", "unit", "target", "better"}] * 4
    assert [row["better"] for row in written] == ["lower", "higher", "lower", "lower"]
    chart = ElementTree.fromstring((tmp_path / "build/bench.svg").read_text())
    bars = [(bar.get("class"), float(bar.get("width", "nan"))) for bar in chart.findall(".//{*}rect") if bar.get("class")]
    assert [kind for kind, _ in bars] == ["missed", "met", "met", "missed"]
    assert bars[0][1] > bars[1][1] > bars[2][1] == bars[3][1] == 0
    assert report.table(figures, "a run").row_count == 4
