"""Looks whether the hypervisor's own job on a domain could be taken. What one finds is news for all who wait for that domain."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from virtrpc_drivers.errors import DriverError, Reason
from virtrpc_drivers.protocol import Driver


class Probes:
    """Those of one host."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._waiting: dict[str, set[asyncio.Future[None]]] = {}

    async def look(self, uuid: str) -> None:
        """Driver.probe; returns once the domain is free, or gone. Raises DriverError."""
        # Who begins to wait later may wait for a call that was sent after this look.
        waiting = list(self._waiting.get(uuid, ()))
        try:
            await self._driver.probe(uuid)
        except DriverError as error:
            if error.reason is not Reason.DOMAIN_NOT_FOUND:
                raise
        for freed in waiting:
            if not freed.done():
                freed.set_result(None)

    @contextmanager
    def waiting(self, uuid: str) -> Iterator[asyncio.Future[None]]:
        """Done once a look that anybody begins from now on has found the domain free."""
        freed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting = self._waiting.setdefault(uuid, set())
        waiting.add(freed)
        try:
            yield freed
        finally:
            waiting.discard(freed)
            if not waiting:
                self._waiting.pop(uuid, None)
