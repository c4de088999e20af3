"""Limits in requests, checked: bandwidths, downtimes, counts."""

from __future__ import annotations

from google.protobuf.duration_pb2 import Duration

from virtrpc_drivers.migration import MIB
from virtrpc_server.orders.common import invalid

MAX_BYTES = (1 << 53) - 1
"""More than any link carries, and far below where libvirt's MiB overflow."""
MAX_DOWNTIME_SECONDS = 2000.0
"""What QEMU takes."""


def downtime(field: str, value: Duration) -> float:
    """Seconds for which a guest may stand still, in whole milliseconds."""
    seconds = value.seconds + value.nanos / 1e9
    if not 0.001 <= seconds <= MAX_DOWNTIME_SECONDS or value.nanos % 1_000_000:
        raise invalid(field, f"must be a whole number of milliseconds, at least 1 and at most {MAX_DOWNTIME_SECONDS:.0f} s")
    return seconds


def bandwidth(field: str, bytes_per_second: int) -> int | None:
    """A bandwidth, which libvirt counts in MiB a second; None for 0."""
    if bytes_per_second == 0:
        return None
    if not MIB <= bytes_per_second <= MAX_BYTES:
        raise invalid(field, f"must be 0, or {MIB} to {MAX_BYTES}")
    return bytes_per_second


def positive(field: str, number: int, most: int = MAX_BYTES) -> int | None:
    """A number that is 0 where it is left to the hypervisor; None then."""
    if not 0 <= number <= most:
        raise invalid(field, f"must be 0 to {most}")
    return number or None
