"""A simulated migration's memory on its way: pass after pass, as QEMU sends it, and what can be tuned meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING

from virtrpc_drivers import operations as ops
from virtrpc_drivers.errors import Reason
from virtrpc_drivers.migration import Reading, TuneAnswer, Tuning
from virtrpc_drivers.sim.sdk import sdk_error
from virtrpc_drivers.values import Phase, State

if TYPE_CHECKING:
    from virtrpc_drivers.sim.domain import SimDomain

PAGE = 4096
DOWNTIME_SECONDS = 0.3
"""QEMU's own limit."""
MOST_PERCENT = 99


class Transfer:
    """What is left to send, and how fast; bytes, seconds. A pass sends what the guest wrote during the one before."""

    def __init__(self, operation: ops.Migrate, domain: SimDomain, total: int, seconds: float) -> None:
        self._operation = operation
        self._domain = domain
        self.total = total
        self.rate = operation.bandwidth_bytes_per_second or (total / seconds if seconds else float("inf"))
        self.max_downtime = operation.max_downtime_seconds or DOWNTIME_SECONDS
        self.iteration = 1
        self.sent = 0.0
        self.left = float(total)
        self.cache: int | None = operation.xbzrle_cache_bytes
        self.post_copy_rate = operation.post_copy_bandwidth_bytes_per_second
        self.post_copy = False
        self.throttled = 0
        self._written = 0.0
        self.downtime: float | None = None

    @property
    def phase(self) -> Phase:
        """Where it is."""
        return Phase.MIGRATION_POST_COPY if self.post_copy else Phase.MIGRATION_COPY

    @property
    def over(self) -> bool:
        """Whether all is at the destination."""
        return self.left <= 0

    @property
    def dirty_rate(self) -> float:
        """How fast the guest writes now: not at all where it stands still, or is gone."""
        if self.post_copy or self._domain.state is State.PAUSED:
            return 0.0
        return self._domain.dirty_rate * (100 - self.throttled) / 100

    def tick(self, longest: float) -> float:
        """Seconds until there is something to tell: at most `longest`, at least to the end of the pass."""
        return min(longest, self.left / self.rate)

    def advance(self, seconds: float) -> None:
        """So much time has passed."""
        sent = min(self.left, self.rate * seconds)
        self.sent, self.left = self.sent + sent, self.left - sent
        self._written = min(self.total, self._written + self.dirty_rate * seconds)
        if self.left <= 0.5:
            self._end_pass()

    def _end_pass(self) -> None:
        if self.post_copy or self._written / self.rate <= self.max_downtime:
            self.left, self.downtime = 0.0, self._written / self.rate
            return
        self.iteration += 1
        self.left, self._written = self._written, 0.0
        if self._operation.auto_converge:
            more = self._operation.auto_converge_increment or 10
            self.throttled = min(MOST_PERCENT, self.throttled + more if self.throttled else self._operation.auto_converge_initial or 20)

    def tune(self, tuning: Tuning) -> TuneAnswer:
        """As virDomainMigrateSetMaxDowntime and its neighbours do. Raises what libvirt would."""
        if self.post_copy and tuning != Tuning(post_copy_bandwidth_bytes_per_second=tuning.post_copy_bandwidth_bytes_per_second):
            return TuneAnswer(sent=False, message="the guest runs at the destination already: only the bandwidth of post-copy can be changed")
        if tuning.start_post_copy and not self._operation.post_copy:
            raise sdk_error(Reason.WRONG_STATE, "switching to post-copy requires migration to be started with VIR_MIGRATE_POSTCOPY flag")
        self.max_downtime = tuning.max_downtime_seconds or self.max_downtime
        self.rate = tuning.bandwidth_bytes_per_second or self.rate
        self.cache = tuning.compression_cache_bytes or self.cache
        self.post_copy_rate = tuning.post_copy_bandwidth_bytes_per_second or self.post_copy_rate
        if tuning.start_post_copy:
            self.post_copy, self.left = True, min(self.total, self.left + self._written)
        if self.post_copy:
            self.rate = self.post_copy_rate or self.rate
        return TuneAnswer(sent=True)

    def reading(self) -> Reading:
        """As job statistics tell it."""
        finite = self.rate != float("inf")
        return Reading(
            memory_iteration=self.iteration,
            dirty_rate_bytes_per_second=int(self.dirty_rate),
            memory_page_bytes=PAGE,
            memory_total_bytes=self.total,
            memory_processed_bytes=int(self.sent),
            memory_remaining_bytes=int(self.left),
            memory_rate_bytes_per_second=int(self.rate) if finite else None,
            expected_downtime_seconds=self._written / self.rate if self.downtime is None else None,
            downtime_seconds=self.downtime,
            setup_seconds=0.0,
            auto_converge_percent=self.throttled or None,
            compression_cache_bytes=self.cache,
            post_copy_requests=1 if self.post_copy else 0,
            max_downtime_seconds=self.max_downtime,
            bandwidth_bytes_per_second=int(self.rate) if finite else None,
        )
