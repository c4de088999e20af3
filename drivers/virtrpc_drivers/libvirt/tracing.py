"""Spans of hypervisor calls, as plain records: only the server exports them."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager

from virtrpc_drivers.errors import DriverError
from virtrpc_drivers.protocol import Deliver, SpanRecord, Spans

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")


@contextmanager
def span(deliver: Deliver, enabled: bool, name: str, traceparent: str | None, attributes: dict[str, str | int | float | bool]) -> Iterator[None]:
    """Deliver a span of what happens inside. Without a sampled parent there is none."""
    parent = _TRACEPARENT.fullmatch(traceparent or "")
    if not enabled or parent is None or not int(parent[3], 16) & 1:
        yield
        return
    start = time.time_ns()
    error: str | None = None
    try:
        yield
    except DriverError as failed:
        error = str(failed.reason)
        raise
    finally:
        record = SpanRecord(
            name=name,
            trace_id=parent[1],
            span_id=secrets.token_hex(8),
            parent_id=parent[2],
            start_ns=start,
            end_ns=time.time_ns(),
            attributes=attributes,
            error=error,
        )
        deliver(Spans(spans=(record,)))
