"""Long lists are dealt with in slices, so that no list holds up the loop for long, however long it is."""

from __future__ import annotations

import asyncio

ROWS = 100
"""Rows that are dealt with in one go: about 2 ms where each becomes a message."""


async def breathe() -> None:
    """Let everything else that is due have its turn, once.

    What was read before may be different after: go on by key. It waits for nothing, which is why handlers of NOTHING may call it.
    """
    await asyncio.sleep(0)
