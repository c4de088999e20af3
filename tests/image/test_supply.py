"""The bill of materials, and how a report on vulnerabilities is read."""

from __future__ import annotations

import json
import re
import tomllib

import pytest

from tests.image import supply
from tests.image.build import ROOT

FLAW = {"id": "PYSEC-1", "fix_versions": ["2.0"], "aliases": [], "description": ""}


def test_a_package_that_was_not_audited_is_no_success() -> None:
    """A report tells apart what is sound, what has a known flaw and what nobody knew; pip-audit ends well for the last."""
    sound = {"name": "a", "version": "1", "vulns": []}
    flawed = {"name": "b", "version": "1", "vulns": [FLAW]}
    unknown = {"name": "c", "skip_reason": "Dependency not found on PyPI and could not be audited: c (1)"}
    assert supply.judge([sound, flawed, unknown]) == (["b 1: PYSEC-1, fixed in 2.0"], ["c"])


@pytest.mark.parametrize(
    ("reports", "code"),
    [
        ([{"dependencies": [{"name": "a", "version": "1", "vulns": []}]}], 0),
        ([{"error": "no such host"}, {"dependencies": [{"name": "a", "version": "1", "vulns": [FLAW]}]}], 1),
        ([{"dependencies": [{"name": "a", "skip_reason": "not found"}]}, {"error": "no such host"}], 3),
    ],
)
def test_an_audit_ends_as_it_was(reports: list[dict[str, object]], code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """0 where a service knows every package and nothing bad, 1 where one knows something bad, 3 where none knows every package."""
    answers = iter(reports)
    monkeypatch.setattr(supply, "_ask", lambda _service: next(answers))
    assert supply.audit() == code


@pytest.mark.image
@pytest.mark.timeout(600)
def test_the_bill_has_every_locked_package() -> None:
    """Each direct requirement of the server is in it, in the locked version, with a package URL; what only tests need is not."""
    bill = json.loads(supply.sbom().read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    locked = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().lower().replace("_", "-").splitlines() if "==" in line)
    listed = {component["name"].lower().replace("_", "-"): component for component in bill["components"]}
    assert (bill["specVersion"], bill["metadata"]["component"]["name"]) == ("1.6", "virtrpc")
    for requirement in (*project["dependencies"], *project["optional-dependencies"]["server"]):
        name = re.split(r"[<>=\[ ]", requirement)[0].lower()
        assert listed[name]["version"] == locked[name]
        assert listed[name]["purl"].startswith("pkg:pypi/")
    assert not {"pytest", "mypy", "ruff", "pip"} & set(listed)
