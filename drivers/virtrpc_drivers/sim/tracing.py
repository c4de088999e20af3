"""The span of one simulated operation, as a plain record: only the server exports it."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Coroutine
from typing import Any, TypeVar

from virtrpc_drivers.errors import DriverError
from virtrpc_drivers.protocol import Call, Deliver, SpanRecord, Spans, attributes

T = TypeVar("T")
_SAMPLED = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f][13579bdf]")


async def traced(deliver: Deliver, call: Call, host: str, work: Coroutine[Any, Any, T]) -> T:
    """Do the work of a call and deliver its span, where its parent is sampled."""
    parent = _SAMPLED.fullmatch(call.traceparent or "")
    if parent is None:
        return await work
    start, error = time.time_ns(), None
    try:
        return await work
    except DriverError as failed:
        error = failed.reason.value
        raise
    finally:
        record = SpanRecord(
            name=f"sim {call.operation.verb}",
            trace_id=parent[1],
            span_id=secrets.token_hex(8),
            parent_id=parent[2],
            start_ns=start,
            end_ns=time.time_ns(),
            attributes=attributes(call, host),
            error=error,
        )
        deliver(Spans(spans=(record,)))
