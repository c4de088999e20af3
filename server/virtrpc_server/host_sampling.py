"""Sampling how busy a host is. Nothing here asks a domain, so that no guest can hold it up."""

from __future__ import annotations

import asyncio
import logging

from virtrpc_drivers.errors import DriverError
from virtrpc_drivers.protocol import Driver
from virtrpc_drivers.values import HostStats
from virtrpc_server.domains import Observed

log = logging.getLogger(__name__)

PERIOD = 5.0
LIVE_SECONDS = 3 * PERIOD


class HostSampler:
    """Samples one host every five seconds while it is connected; what it saw last stays."""

    def __init__(self, host: str, driver: Driver) -> None:
        self._host = host
        self._driver = driver
        self._task: asyncio.Task[None] | None = None
        self.reading: Observed[HostStats] | None = None

    def start(self) -> None:
        """Begin, or go on."""
        self.pause()
        self._task = asyncio.get_running_loop().create_task(self._sample_for_ever(), name=f"host statistics of {self._host}")

    def pause(self) -> None:
        """The connection is lost: sample nothing."""
        if self._task is not None:
            self._task.cancel()

    async def stop(self) -> None:
        """End."""
        self.pause()
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)

    async def _sample_for_ever(self) -> None:
        while True:
            try:
                stats = await self._driver.host_stats()
                self.reading = Observed(stats, stats.stamp)
            except DriverError as error:
                log.debug("host %s: its statistics could not be read: %s", self._host, error)
            await asyncio.sleep(PERIOD)
