"""What every test shares."""

import os

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a hypervisor where none can be started, and say why."""
    if os.geteuid() == 0:
        return
    for item in items:
        if item.get_closest_marker("hypervisor"):
            item.add_marker(pytest.mark.skip(reason="guests and private daemons are started as root only"))
