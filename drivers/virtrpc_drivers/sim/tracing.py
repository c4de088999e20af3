"""The span of one simulated operation, or of the question what became of it, as a plain record: only the server exports it."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from virtrpc_drivers.errors import DriverError
from virtrpc_drivers.protocol import Deliver, SpanRecord, Spans

T = TypeVar("T")
_SAMPLED = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f][13579bdf]")


@dataclass(frozen=True, slots=True)
class Work:
    """What a span says of the work that it is about."""

    name: str
    traceparent: str | None
    attributes: dict[str, str | int | float | bool]


async def traced(deliver: Deliver, span: Work, work: Coroutine[Any, Any, T]) -> T:
    """Do some work and deliver its span, where its parent is sampled."""
    parent = _SAMPLED.fullmatch(span.traceparent or "")
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
            name=span.name,
            trace_id=parent[1],
            span_id=secrets.token_hex(8),
            parent_id=parent[2],
            start_ns=start,
            end_ns=time.time_ns(),
            attributes=span.attributes,
            error=error,
        )
        deliver(Spans(spans=(record,)))
