"""The daemon's budget: how many calls that may block are out at once, so that one wedged guest never fills a daemon's workers.

Of the daemon's guaranteed workers one is kept for abort and its check and one for sampling and progress; the rest are places
for operations and slow reads. The driver process keeps the first two; the places here are the rest.
"""

from __future__ import annotations

from virtrpc_drivers.values import HostInfo
from virtrpc_server.slots import Slots

KEPT_PLACES = 2
DEFAULT_WORKERS = 5
PLACES_WITHOUT_DAEMON = 64


class Budget(Slots):
    """The places for operations and slow reads of one daemon. Hosts on one daemon share it."""

    @staticmethod
    def places(workers: int | None) -> int:
        """How many operations may be out at once where the daemon guarantees this many workers; 5 where it is not known."""
        return max(1, (workers or DEFAULT_WORKERS) - KEPT_PLACES)


class Budgets:
    """One budget for each daemon."""

    def __init__(self) -> None:
        self._budgets: dict[str, Budget] = {}

    def of(self, host: str, info: HostInfo, workers: int | None) -> Budget:
        """The budget of a host's daemon, the same each time; a host without one has 64 places of its own, and a simulated one no limit."""
        if info.daemon is not None:
            budget = self._budgets.setdefault(f"daemon {info.daemon}", Budget(None))
            budget.limit = Budget.places(workers)
        else:
            budget = self._budgets.setdefault(f"host {host}", Budget(None))
            budget.limit = None if info.hypervisor == "sim" else PLACES_WITHOUT_DAEMON
        return budget
