"""What every test shares."""

import os
from pathlib import Path

import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a hypervisor where none can be started, and say why; keep together what must not run side by side."""
    with_guests = {item.path for item in items if item.get_closest_marker("hypervisor")}
    for item in items:
        item.add_marker(pytest.mark.xdist_group(_group(item.path, with_guests)))
        if os.geteuid() != 0 and item.get_closest_marker("hypervisor"):
            item.add_marker(pytest.mark.skip(reason="guests and private daemons are started as root only"))


def _group(file: Path, with_guests: set[Path]) -> str:
    """All that starts guests is one group, and so in one process, one after the other; else a file is one."""
    return "guests" if file in with_guests else str(file)
