"""What every test shares."""

import os
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadScopeScheduling

# A slow example says something of the machine, and nothing of the code; and what a run finds is not left to chance, unless that is asked for.
settings.register_profile(
    "virtrpc", deadline=None, derandomize="VIRTRPC_FUZZ_EXAMPLES" not in os.environ, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("virtrpc")

BESIDE = (
    "tests/model/",
    "tests/mutants/",
    "tests/restart/test_sim_",
    "tests/restart/test_full_disk",
    "tests/hostile/",
    "tests/server/",
    "tests/clients/",
    "tests/mesh/",
    "tests/structure/",
    "tests/drivers/",
    "tests/test_",
)
"""Tests that may run beside those that share a daemon: they start no guests, or guests inside a driver process of their own."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a hypervisor where none can be started, and say why."""
    if os.geteuid() == 0:
        return
    for item in items:
        if item.get_closest_marker("hypervisor"):
            item.add_marker(pytest.mark.skip(reason="guests and private daemons are started as root only"))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """How `make test` shares the tests out. (Marks for `--dist loadgroup` get lost with pytest 9.2.)"""
    scheduler = LoadScopeScheduling(config, log)
    scheduler._split_scope = _scope
    return scheduler


def _scope(nodeid: str) -> str:
    """All that starts daemons goes to one process, one after the other; else a file goes as a whole to whoever is free."""
    file = nodeid.partition("::")[0]
    return file if file.startswith(BESIDE) else "guests"
