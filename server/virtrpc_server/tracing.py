"""Traces: spans of RPCs, waits and hypervisor calls. Off until `configure`: then spans record nothing and cost next to nothing.

A provider of our own and not OpenTelemetry's global one, which can be set only once in a process. Driver processes make their
spans by themselves and send them here: only the server exports.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, Span, SpanContext, SpanKind, StatusCode, TraceFlags
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from virtrpc_drivers.protocol import SpanRecord

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter

SERVICE = "virtrpcd"
"""service.name of everything that is exported."""

Attribute = str | int | float | bool

_propagator = TraceContextTextMapPropagator()
_tracer: trace.Tracer | None = None
_provider: TracerProvider | None = None
_processor: SpanProcessor | None = None


def make_exporter(exporter: str, endpoint: str | None = None) -> SpanExporter | None:
    """An exporter by its configured name: "none", "console" (stderr) or "otlp" (gRPC; without an endpoint, OTEL_EXPORTER_OTLP_* decide)."""
    if exporter == "console":
        from opentelemetry.sdk.trace.export import ConsoleSpanExporter

        return ConsoleSpanExporter(out=sys.stderr)
    if exporter == "otlp":
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

        return OTLPSpanExporter(endpoint=endpoint)
    return None


def configure(exporter: SpanExporter | None) -> None:
    """Record spans and hand them to this exporter, in batches and on a thread of its own; None records none."""
    global _tracer, _provider, _processor
    shutdown()
    if exporter is None:
        return
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    _processor = BatchSpanProcessor(exporter)
    _provider = TracerProvider(resource=Resource.create({"service.name": SERVICE}), shutdown_on_exit=False)
    _provider.add_span_processor(_processor)
    _tracer = _provider.get_tracer("virtrpc_server")


def enabled() -> bool:
    """Whether spans are recorded."""
    return _tracer is not None


def flush() -> None:
    """Hand over what is finished; may block on the exporter's network."""
    if _provider is not None:
        _provider.force_flush()


def shutdown() -> None:
    """Hand over what is finished and record no more; may block on the exporter's network for seconds."""
    global _tracer, _provider, _processor
    provider, _tracer, _provider, _processor = _provider, None, None, None
    if provider is not None:
        provider.shutdown()


@contextmanager
def start_span(name: str, *, kind: SpanKind = SpanKind.INTERNAL, parent: Context | None = None, **attributes: Attribute) -> Iterator[Span]:
    """A span for the block, a child of the current one unless `parent` is given. An exception that leaves the block marks it as failed."""
    if _tracer is None:
        yield INVALID_SPAN
        return
    with _tracer.start_as_current_span(
        name, context=parent, kind=kind, attributes=attributes, record_exception=False, set_status_on_exception=False
    ) as span:
        try:
            yield span
        except Exception as error:
            failed(span, f"{type(error).__name__}: {error}")
            raise


def failed(span: Span, text: str) -> None:
    """Mark a span as failed."""
    span.set_status(StatusCode.ERROR, text)


def context_of(headers: Mapping[str, str]) -> Context | None:
    """The caller's span from W3C headers (traceparent, tracestate), as a parent for `start_span`."""
    return _propagator.extract(headers) if "traceparent" in headers else None


def traceparent() -> str | None:
    """The current span in W3C form for a driver's Call; None where it is not recorded."""
    if _tracer is None or not trace.get_current_span().is_recording():
        return None
    headers: dict[str, str] = {}
    _propagator.inject(headers)
    return headers.get("traceparent")


def export(records: Iterable[SpanRecord]) -> None:
    """Hand a driver process's finished spans to the same exporter. Never blocks; without an exporter they are dropped."""
    if _provider is None or _processor is None:
        return
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope
    from opentelemetry.trace import Status

    scope = InstrumentationScope("virtrpc_drivers")
    for record in records:
        span = ReadableSpan(
            record.name,
            context=_span_context(record.trace_id, record.span_id, remote=False),
            parent=_span_context(record.trace_id, record.parent_id, remote=True) if record.parent_id else None,
            resource=_provider.resource,
            attributes=record.attributes,
            kind=SpanKind.CLIENT,
            status=Status(StatusCode.UNSET) if record.error is None else Status(StatusCode.ERROR, record.error),
            start_time=record.start_ns,
            end_time=record.end_ns,
            instrumentation_scope=scope,
        )
        _processor.on_end(span)


def _span_context(trace_id: str, span_id: str, *, remote: bool) -> SpanContext:
    # Driver processes record only what was sampled: traceparent() gives them nothing else.
    return SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=remote, trace_flags=TraceFlags(TraceFlags.SAMPLED))
