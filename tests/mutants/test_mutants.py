"""Thirteen seeded bugs, each a patch: the state machine finds every one, by the rule that it breaks, and nothing without them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
CAUGHT_BY = {
    "abort_after_the_end": "abort",
    "cancel_kept_per_domain": "cancel",
    "condition_wakes_two_waiters": "exclusion|order",
    "destroy_queues": "lost waiter",
    "earlier_calls_have_no_places": "exclusion|lost waiter|budget",
    "event_sets_state": "newest",
    "late_read_brings_a_domain_back": "presence",
    "late_reading_wins": "newest|back in time",
    "queued_without_detach_begins_again": "cut off",
    "refresh_dropped_while_a_job_runs": "refresh",
    "sent_before_it_is_stored": "stored first",
    "terminal_state_told_twice": "one end",
    "waiter_lost_on_time_out": "lost waiter|left behind",
}
"""By the rules of tests/model/, in brackets in what they say."""
RENEW = """{name}.patch no longer applies to the server:
{said}
Make the same bug in the code as it is now, write it with `git diff server > tests/mutants/{name}.patch`, and take it back."""


@pytest.fixture
def server(tmp_path: Path) -> Path:
    """A copy of the server."""
    shutil.copytree(ROOT / "server", tmp_path / "server", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def python(server: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a module with this copy of the server."""
    path = os.pathsep.join(str(folder) for folder in (server / "server", ROOT / "drivers", ROOT / "clients/python", ROOT))
    environment = {**os.environ, "PYTHONPATH": path}
    return subprocess.run([sys.executable, "-m", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True)


def seed(server: Path, name: str) -> None:
    """Put a bug into a copy of the server."""
    patch = (HERE / f"{name}.patch").read_text()
    done = subprocess.run(["patch", "-p1", "--fuzz=2"], cwd=server, input=patch, capture_output=True, text=True)
    assert done.returncode == 0, RENEW.format(name=name, said=done.stdout)


def broken(text: str) -> str | None:
    """The rule that is said to be broken."""
    found = re.search(r"(?:broken|AssertionError): \[([^]]+)\]", text)
    return found[1] if found else None


def test_every_patch_is_expected() -> None:
    """There are thirteen, each with the rule that must catch it."""
    assert {path.stem for path in HERE.glob("*.patch")} == CAUGHT_BY.keys()
    assert len(CAUGHT_BY) == 13


@pytest.mark.timeout(300)  # on a loaded machine; nothing here is measured
def test_nothing_is_found_without_a_bug(server: Path) -> None:
    """The same hunt finds nothing in the server as it is."""
    done = python(server, "tests.mutants.hunt")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.timeout(300)  # see above
@pytest.mark.parametrize("name", CAUGHT_BY)
def test_the_state_machine_finds_the_bug(name: str, server: Path) -> None:
    """With the bug, the hunt ends with the rule that it breaks."""
    seed(server, name)
    done = python(server, "tests.mutants.hunt")
    rule = broken(done.stdout)
    assert rule is not None, f"{name} was not found: {done.stdout}{done.stderr}"
    assert re.fullmatch(CAUGHT_BY[name], rule), f"{name} was found by another rule than its own: {done.stdout}"


@pytest.mark.timeout(300)  # see above
def test_a_failure_prints_a_short_script_that_fails_again(server: Path, tmp_path: Path) -> None:
    """It breaks the same rule as often as it is replayed, and none without the bug."""
    sound = shutil.copytree(server / "server", tmp_path / "sound" / "server").parent
    seed(server, "destroy_queues")
    found = python(server, "tests.mutants.hunt", "--script").stdout
    script = tmp_path / "script"
    script.write_text(found)
    assert 3 < found.count("\nstate") < 12, found
    again = python(server, "tests.model.replay", str(script))
    assert (again.returncode, broken(again.stderr)) == (1, broken(found))
    without = python(sound, "tests.model.replay", str(script))
    assert without.returncode == 0, without.stderr
