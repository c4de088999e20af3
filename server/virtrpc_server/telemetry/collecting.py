"""All metrics of a server, as they are now: read on the loop, a few at a time."""

from __future__ import annotations

from collections.abc import AsyncIterator

from virtrpc_server.telemetry import guests, process, recorded, state
from virtrpc_server.telemetry.guests import Guests
from virtrpc_server.telemetry.points import Family, Metric
from virtrpc_server.telemetry.state import View

CATALOG: tuple[Metric, ...] = (
    recorded.RPC_DURATION,
    recorded.JOB_DURATION,
    recorded.JOB_WAIT,
    *(metric for metric, _ in state.LOOKS),
    state.CACHE_AGE,
    *process.PROCESS,
    *(shown.metric for shown in guests.SHOWN),
)
"""Every metric that there may be."""


class Collector:
    """Reads a server's metrics."""

    def __init__(self, view: View) -> None:
        self._view = view

    async def families(self) -> AsyncIterator[Family]:
        """Every metric with its points; one that has many comes in several pieces, one after another. What has no point is left out."""
        for family in (*self._view.core.jobs.recorded.families(), *state.families(self._view), *process.families()):
            if family.points:
                yield family
        shown = Guests()
        domains, hosts = self._view.core.domains, self._view.core.hosts
        await shown.gather(domains.all(), hosts.__getitem__)
        yield state.cache_ages(shown.ages)
        async for family in shown.families():
            if family.points:
                yield family
