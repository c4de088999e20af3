"""What is written about metrics holds: the document's table, the dashboard's and the alerts' expressions against a real scrape."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.beds.certificates import Authority
from tests.beds.watched import Scrape, watched
from tests.test_docs import ROOT, tables
from virtrpc_server.settings.identity import TlsSettings
from virtrpc_server.telemetry.collecting import CATALOG

DASHBOARD = ROOT / "server/grafana/virtrpc.json"
ALERTS = ROOT / "server/grafana/alerts.yaml"
DOCUMENT = ROOT / "docs/telemetry.md"
METRIC = re.compile(r"\b(?:rpc|virtrpc|libvirt|process)_[a-z_]+\b")
GIVEN = {"instance", "job"}
"""Labels that Prometheus itself gives."""


def rows() -> list[list[str]]:
    """The table of docs/telemetry.md, as the code would have it."""
    return [
        [
            f"`{metric.prometheus}`",
            str(metric.kind),
            ", ".join(f"`{label.replace('.', '_')}`" for label in metric.labels),
            metric.help.replace("|", "\\|"),
        ]
        for metric in CATALOG
    ]


def test_every_metric_is_told() -> None:
    """docs/telemetry.md has every metric with its kind, labels and meaning, and no other."""
    assert [row for row in tables(DOCUMENT) if METRIC.search(row[0])] == rows()


def expressions() -> list[str]:
    """Every query of the dashboard and of the alerts."""
    panels: list[dict[str, Any]] = json.loads(DASHBOARD.read_text())["panels"]
    found = [target["expr"] for panel in panels for target in panel.get("targets", ())]
    return found + re.findall(r"^ +expr: (.*)$", ALERTS.read_text(), re.MULTILINE)


def words(expression: str) -> Iterator[str]:
    """The labels that a query speaks of."""
    for braces in re.findall(r"\{(.*?)\}", expression):
        yield from re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", braces)
    for group in re.findall(r"\b(?:by|on|without)\s*\((.*?)\)", expression):
        yield from (label.strip() for label in group.split(","))


def labels_of(scrape: Scrape, names: set[str]) -> set[str]:
    """All labels of these samples."""
    return {label for sample in scrape.samples if sample.name in names for label in sample.labels}


def secured(path: Path) -> dict[str, Any]:
    """Settings of a server with a certificate."""
    ca = Authority(path)
    pair = ca.server()
    return {"tls": TlsSettings(certificate=pair.certificate, key=pair.key, client_ca=ca.path)}


async def test_dashboard_and_alerts_ask_for_what_there_is(tmp_path: Path) -> None:
    """Each metric that they name is in the scrape of a server that has worked, and has each label that is asked for or shown."""
    async with watched(tmp_path, listen="127.0.0.1:0", **secured(tmp_path)) as bed, bed.client() as client:
        await client.get_domain("guest-1")
        await (await client.suspend_domain("guest-1")).wait()
        scrape = await bed.scrape()
    there = {sample.name for sample in scrape.samples}
    assert len(expressions()) > 30
    for expression in expressions():
        names = set(METRIC.findall(re.sub(r'"[^"]*"', "", expression))) - GIVEN
        asked = {word for word in words(expression) if not METRIC.fullmatch(word)}
        names = {name for name in names if name not in labels_of(scrape, there)}
        assert names, expression
        assert names <= there, expression
        assert asked <= labels_of(scrape, names) | GIVEN, expression


async def test_the_dashboard_shows_and_chooses_by_labels_that_there_are(tmp_path: Path) -> None:
    """Legends name labels that their query leaves, and variables are filled from metrics that have them; ids differ."""
    async with watched(tmp_path) as bed, bed.client() as client:
        await client.get_domain("guest-1")
        scrape = await bed.scrape()
    dashboard = json.loads(DASHBOARD.read_text())
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            grouped = re.findall(r"\bby\s*\((.*?)\)", target["expr"])
            left = {label.strip() for label in grouped[-1].split(",")} if grouped else labels_of(scrape, set(METRIC.findall(target["expr"])))
            assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= left, target
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            metric, label = re.fullmatch(r"label_values\((\w+)(?:\{.*\})?, (\w+)\)", variable["definition"]).groups()  # type: ignore[union-attr] # else it fails
            assert label in labels_of(scrape, {metric}) | GIVEN
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(ids)) == len(ids)


if __name__ == "__main__":
    print("| metric | kind | labels | meaning |\n|---|---|---|---|")
    for cells in rows():
        print(f"| {' | '.join(cells)} |")
