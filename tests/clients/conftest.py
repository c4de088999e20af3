"""Fixtures of the client's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.clients.fake import Fake, serving, serving_apart
from virtrpc import AsyncClient, Client


@pytest.fixture
async def fake() -> AsyncIterator[Fake]:
    """A fake server on the test's loop."""
    async with serving() as server:
        yield server


@pytest.fixture
async def client(fake: Fake) -> AsyncIterator[AsyncClient]:
    """An asynchronous client of `fake`."""
    async with AsyncClient(fake.address) as made:
        yield made


@pytest.fixture
def fake_apart() -> Iterator[Fake]:
    """A fake server for callers that block."""
    with serving_apart() as server:
        yield server


@pytest.fixture
def blocking(fake_apart: Fake) -> Iterator[Client]:
    """A blocking client of `fake_apart`."""
    with Client(fake_apart.address) as made:
        yield made
