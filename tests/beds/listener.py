"""A Unix socket that nobody should connect to, and who did."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path


@asynccontextmanager
async def listening(path: Path) -> AsyncIterator[list[str]]:
    """Listens there; the list grows with each connection, which is closed at once."""
    reached: list[str] = []

    def accept(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reached.append(str(path))
        writer.close()

    async with await asyncio.start_unix_server(accept, path):
        yield reached
