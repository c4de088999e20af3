"""Fixtures of the drivers' tests: one bed for each hypervisor, kept for a whole module since a real one is slow to start."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.drivers.bed import KINDS, Bed

HYPERVISORS = [
    pytest.param("sim"),
    pytest.param("sim-process"),
    pytest.param("sim-daemon"),
    pytest.param("test"),
    pytest.param("embed", marks=pytest.mark.hypervisor),
]


@pytest_asyncio.fixture(params=HYPERVISORS, scope="module", loop_scope="module")
async def shared_bed(request: pytest.FixtureRequest) -> AsyncIterator[Bed]:
    """A connected driver of each kind, one for a module."""
    bed = await Bed.open(KINDS[request.param]())
    yield bed
    await bed.close()


@pytest_asyncio.fixture(loop_scope="module")
async def bed(shared_bed: Bed) -> AsyncIterator[Bed]:
    """The same; what a test makes is removed after it."""
    yield shared_bed
    await shared_bed.clean()


@pytest_asyncio.fixture(params=HYPERVISORS, loop_scope="module")
async def own_bed(request: pytest.FixtureRequest) -> AsyncIterator[Bed]:
    """A driver of each kind for one test alone, which may break it."""
    bed = await Bed.open(KINDS[request.param]())
    yield bed
    await bed.close()
