"""Fixtures of the tests that kill."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.restart.qemu_bed import Bed, beds


@pytest.fixture(scope="session")
def qemu_bed() -> Iterator[Bed]:
    """Two hosts with real guests and one server, for all kills with real QEMU."""
    with beds() as bed:
        yield bed
        print(f"\nhow jobs ended:\n{bed.tell()}")
