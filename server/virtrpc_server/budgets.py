"""The daemon's budget: how many calls that may block are out at once, so that one wedged guest never fills a daemon's workers.

Of the daemon's guaranteed workers one is kept for abort and its check and one for sampling and progress; the rest are places
for operations and slow reads. What the driver process may have out beside them is bounded by its lanes: see `BESIDE`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from virtrpc_drivers.values import HostInfo
from virtrpc_server.slots import Slots

KEPT_PLACES = 2
DEFAULT_WORKERS = 5
PLACES_WITHOUT_DAEMON = 64
BESIDE = 15
"""The most calls that a driver process has out beside the budget and that may hang: 4 aborts, 4 polls, 4 sweeps, 3 probes."""
ROOM = 5
"""Workers for what may still run when everything else hangs."""
LEARN_SECONDS = 60.0
LEARN_SOON_SECONDS = 2.0
"""The pause between two looks at a daemon's limits, and the same while somebody waits for a place."""


def enough_workers(running: int) -> int:
    """How many workers a daemon needs so that it answers although each of its running guests holds one for ever."""
    return running + BESIDE + ROOM


class Budget(Slots):
    """The places for operations and slow reads of one daemon. Hosts on one daemon share it."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        super().__init__(None, clock)
        self._claims: dict[str, int | None] = {}

    @property
    def claimed(self) -> bool:
        """Whether any host has said whose budget it is."""
        return bool(self._claims)

    @staticmethod
    def places(workers: int | None) -> int:
        """How many operations may be out at once where the daemon guarantees this many workers; 5 where it is not known."""
        return max(1, (workers or DEFAULT_WORKERS) - KEPT_PLACES)

    def claim(self, host: str, places: int | None) -> None:
        """What this host knows of the number of places (None: no limit). The smallest that any host knows of holds."""
        self._claims[host] = places
        self.limit = min((known for known in self._claims.values() if known is not None), default=None)


class Budgets:
    """One budget for each daemon."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._budgets: dict[str, Budget] = {}
        self._clock = clock

    def of(self, host: str, info: HostInfo, workers: int | None) -> Budget:
        """The budget of a host's daemon, the same each time; a host without one has 64 places of its own, and a simulated one no limit."""
        key = f"host {host}" if info.daemon is None else f"daemon {info.daemon}"
        budget = self._budgets.get(key)
        if budget is None:
            budget = self._budgets[key] = Budget(self._clock)
        budget.claim(host, self._places(info, workers))
        return budget

    @staticmethod
    def _places(info: HostInfo, workers: int | None) -> int | None:
        if info.daemon is not None:
            return Budget.places(workers)
        return None if info.hypervisor == "sim" else PLACES_WITHOUT_DAEMON


async def keep_learning(read: Callable[[], Awaitable[int | None]], budget: Callable[[], Budget], learnt: Callable[[int | None], None]) -> None:
    """Tell `learnt` for ever how many workers a daemon guarantees: an administrator may raise them while it runs (`virtrpcd doctor --fix`)."""
    loop = asyncio.get_running_loop()
    while True:
        learnt(await read())
        next_look = loop.time() + LEARN_SECONDS
        while loop.time() < next_look:
            await asyncio.sleep(LEARN_SOON_SECONDS)
            if budget().waiters:
                break
