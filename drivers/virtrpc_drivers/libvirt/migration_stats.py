"""What libvirt's job statistics say of a migration beside its bytes, and what is set for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import libvirt

from virtrpc_drivers.libvirt.readings import optional
from virtrpc_drivers.migration import MIB, Reading

_NUMBERS = {
    "memory_iteration": libvirt.VIR_DOMAIN_JOB_MEMORY_ITERATION,
    "memory_page_bytes": libvirt.VIR_DOMAIN_JOB_MEMORY_PAGE_SIZE,
    "memory_total_bytes": libvirt.VIR_DOMAIN_JOB_MEMORY_TOTAL,
    "memory_processed_bytes": libvirt.VIR_DOMAIN_JOB_MEMORY_PROCESSED,
    "memory_remaining_bytes": libvirt.VIR_DOMAIN_JOB_MEMORY_REMAINING,
    "memory_rate_bytes_per_second": libvirt.VIR_DOMAIN_JOB_MEMORY_BPS,
    "memory_normal_bytes": libvirt.VIR_DOMAIN_JOB_MEMORY_NORMAL_BYTES,
    "disk_total_bytes": libvirt.VIR_DOMAIN_JOB_DISK_TOTAL,
    "disk_processed_bytes": libvirt.VIR_DOMAIN_JOB_DISK_PROCESSED,
    "disk_remaining_bytes": libvirt.VIR_DOMAIN_JOB_DISK_REMAINING,
    "disk_rate_bytes_per_second": libvirt.VIR_DOMAIN_JOB_DISK_BPS,
    "auto_converge_percent": libvirt.VIR_DOMAIN_JOB_AUTO_CONVERGE_THROTTLE,
    "compression_cache_bytes": libvirt.VIR_DOMAIN_JOB_COMPRESSION_CACHE,
    "compression_bytes": libvirt.VIR_DOMAIN_JOB_COMPRESSION_BYTES,
    "compression_pages": libvirt.VIR_DOMAIN_JOB_COMPRESSION_PAGES,
    "compression_cache_misses": libvirt.VIR_DOMAIN_JOB_COMPRESSION_CACHE_MISSES,
    "compression_overflows": libvirt.VIR_DOMAIN_JOB_COMPRESSION_OVERFLOW,
    "post_copy_requests": libvirt.VIR_DOMAIN_JOB_MEMORY_POSTCOPY_REQS,
}
UNLIMITED_MIB = (1 << 63) // MIB - 1
"""What libvirt says of a bandwidth that nobody has limited: all that fits into 64 bits, in MiB."""


@dataclass(frozen=True)
class Limits:
    """What is set for a migration: seconds, bytes, bytes a second."""

    max_downtime: float | None = None
    bandwidth: int | None = None
    compression_cache: int | None = None


UNKNOWN = Limits()
"""Not asked for."""


def limits(domain: Any) -> Limits:
    """virDomainMigrateGetMaxDowntime, GetMaxSpeed and GetCompressionCache. They ask the monitor, as the statistics do, and can hang as those can."""
    downtime = optional(domain.migrateGetMaxDowntime)
    speed = optional(lambda: domain.migrateGetMaxSpeed(0))
    return Limits(
        max_downtime=None if downtime is None else downtime / 1000,
        bandwidth=None if not speed or speed >= UNLIMITED_MIB else speed * MIB,
        compression_cache=optional(domain.migrateGetCompressionCache),
    )


def reading(fields: dict[str, Any], found: Limits, *, completed: bool = False) -> Reading:
    """What the statistics say: of a migration that runs what it expects, of a completed one what it was."""
    numbers = {name: fields.get(field) for name, field in _NUMBERS.items()}
    page, rate, constant = (numbers["memory_page_bytes"], fields.get(libvirt.VIR_DOMAIN_JOB_MEMORY_DIRTY_RATE), _constant(fields))
    downtime = _seconds(fields.get(libvirt.VIR_DOMAIN_JOB_DOWNTIME))
    if numbers["compression_cache_bytes"] is None:
        numbers["compression_cache_bytes"] = found.compression_cache
    return Reading(
        **numbers,
        # libvirt counts pages.
        dirty_rate_bytes_per_second=None if rate is None or page is None else rate * page,
        memory_constant_bytes=None if constant is None or page is None else constant * page,
        expected_downtime_seconds=None if completed else downtime,
        downtime_seconds=downtime if completed else None,
        setup_seconds=_seconds(fields.get(libvirt.VIR_DOMAIN_JOB_SETUP_TIME)),
        max_downtime_seconds=found.max_downtime,
        bandwidth_bytes_per_second=found.bandwidth,
    )


def _constant(fields: dict[str, Any]) -> int | None:
    pages: int | None = fields.get(libvirt.VIR_DOMAIN_JOB_MEMORY_CONSTANT)
    return pages


def _seconds(milliseconds: int | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000


def completed(connection: Any, uuid: str) -> Reading | None:
    """The statistics of the migration that has just ended, which the source keeps where the domain is still defined there; None elsewhere."""
    try:
        fields = connection.lookupByUUIDString(uuid).jobStats(libvirt.VIR_DOMAIN_JOB_STATS_COMPLETED)
    except libvirt.libvirtError:
        return None  # it went with the guest
    if fields.get(libvirt.VIR_DOMAIN_JOB_OPERATION) != libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT:
        return None
    return reading(fields, UNKNOWN, completed=True)
