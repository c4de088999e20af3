"""The trace that a caller is in, for the server to go on with: OpenTelemetry's, where the caller uses it; this package does not need it."""

from __future__ import annotations

import os
import sys

Headers = tuple[tuple[str, str], ...]
VARIABLES = ("traceparent", "tracestate")

_inherited: Headers = ()


def headers() -> Headers:
    """What each call sends along: the current span as OpenTelemetry's propagators write it, else what was inherited."""
    # Who uses it has loaded it: nobody else pays for that.
    if "opentelemetry.trace" not in sys.modules:
        return _inherited
    try:
        from opentelemetry import propagate
    except ImportError:
        return _inherited
    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    return tuple((name.lower(), value) for name, value in carrier.items()) or _inherited


def inherit() -> None:
    """Go on with the trace that the environment names (TRACEPARENT, TRACESTATE): for a command that somebody's script runs."""
    global _inherited
    _inherited = tuple((name, value) for name in VARIABLES if (value := os.environ.get(name.upper())))
