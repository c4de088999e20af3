"""Changing a migration while it runs."""

from __future__ import annotations

from typing import Any

import libvirt

from virtrpc_drivers.libvirt.migration import mib_per_second, milliseconds
from virtrpc_drivers.migration import TuneAnswer, Tuning

ONLY_POST_COPY = "the guest runs at the destination already: only the bandwidth of post-copy can be changed"


def refused(tuning: Tuning, *, post_copy: bool) -> str:
    """Why a migration that runs cannot be tuned so now; empty where it can."""
    possible = Tuning(post_copy_bandwidth_bytes_per_second=tuning.post_copy_bandwidth_bytes_per_second)
    return ONLY_POST_COPY if post_copy and tuning != possible else ""


def tune(domain: Any, tuning: Tuning) -> TuneAnswer:
    """virDomainMigrateSetMaxDowntime, SetMaxSpeed, SetCompressionCache, StartPostCopy, in this order; what fails leaves what was before it."""
    if tuning.max_downtime_seconds is not None:
        domain.migrateSetMaxDowntime(milliseconds(tuning.max_downtime_seconds))
    if tuning.bandwidth_bytes_per_second is not None:
        domain.migrateSetMaxSpeed(mib_per_second(tuning.bandwidth_bytes_per_second), 0)
    if tuning.compression_cache_bytes is not None:
        domain.migrateSetCompressionCache(tuning.compression_cache_bytes)
    if tuning.post_copy_bandwidth_bytes_per_second is not None:
        speed = mib_per_second(tuning.post_copy_bandwidth_bytes_per_second)
        domain.migrateSetMaxSpeed(speed, libvirt.VIR_DOMAIN_MIGRATE_MAX_SPEED_POSTCOPY)
    if tuning.pause:
        domain.suspend()
    if tuning.start_post_copy:
        domain.migrateStartPostCopy()
    return TuneAnswer(sent=True)
