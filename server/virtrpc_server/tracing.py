"""Traces: spans of RPCs, jobs, waits and hypervisor calls. Off until `configure`: then spans record nothing and cost next to nothing.

Whether a trace is recorded is decided once, where its RPC comes in: by the caller, where that says so, else by lot. There is a current span
in nothing else, so that what is not recorded costs no more than the question whether there is one.

A provider of our own and not OpenTelemetry's global one, which can be set only once in a process. Driver processes make their
spans by themselves and send them here: only the server exports.
"""

from __future__ import annotations

import random
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING
from uuid import uuid4

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, Span, SpanContext, SpanKind, StatusCode, TraceFlags, format_span_id, format_trace_id
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from virtrpc_drivers.protocol import SpanRecord

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter

SERVICE = "virtrpcd"
"""service.name of everything that is exported."""

_INSTANCE = str(uuid4())
Attribute = str | int | float | bool

_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?")

_propagator = TraceContextTextMapPropagator()
_tracer: trace.Tracer | None = None
_provider: TracerProvider | None = None
_processor: SpanProcessor | None = None
_ratio = 1.0


def make_exporter(exporter: str, endpoint: str | None = None) -> SpanExporter | None:
    """An exporter by its configured name: "none", "console" (stderr) or "otlp" (gRPC; without an endpoint, OTEL_EXPORTER_OTLP_* decide)."""
    if exporter == "console":
        from opentelemetry.sdk.trace.export import ConsoleSpanExporter

        return ConsoleSpanExporter(out=sys.stderr)
    if exporter == "otlp":
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

        return OTLPSpanExporter(endpoint=endpoint)
    return None


def configure(exporter: SpanExporter | None, ratio: float = 1.0) -> None:
    """Record this share of the traces that begin here, and those that the caller records; None records none.

    Spans are handed to the exporter in batches and on a thread of its own; of what it does not take in time the newest 2048 are kept.
    """
    global _tracer, _provider, _processor, _ratio
    shutdown()
    if exporter is None:
        return
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.sampling import ALWAYS_ON

    _ratio = ratio
    _processor = BatchSpanProcessor(exporter)
    # It is asked for nothing that is not to be recorded.
    _provider = TracerProvider(sampler=ALWAYS_ON, resource=resource(), shutdown_on_exit=False)
    _provider.add_span_processor(_processor)
    _tracer = _provider.get_tracer("virtrpc_server")


def resource() -> Resource:
    """Who it is that tells: this service, its version and this very process."""
    from opentelemetry.sdk.resources import Resource

    return Resource.create({"service.name": SERVICE, "service.version": version("virtrpc"), "service.instance.id": _INSTANCE})


def enabled() -> bool:
    """Whether spans are recorded."""
    return _tracer is not None


def wanted(headers: Mapping[str, str]) -> bool:
    """Whether an RPC that came with these headers is to be recorded: as its caller does, else by lot."""
    if _tracer is None:
        return False
    parent = headers.get("traceparent")
    found = _TRACEPARENT.fullmatch(parent) if parent is not None else None
    if found is None:
        return _ratio >= 1 or random.random() < _ratio
    return int(found[3], 16) & TraceFlags.SAMPLED != 0


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
def start_trace(name: str, headers: Mapping[str, str], attributes: Mapping[str, Attribute], kind: SpanKind = SpanKind.SERVER) -> Iterator[Span]:
    """A span for the block that begins a trace here, or goes on with the one in these headers: for what is `wanted`. Says itself how it ended."""
    if _tracer is None:
        yield INVALID_SPAN
        return
    with _started(_tracer, name, kind, context_of(headers) or Context(), attributes) as span:
        yield span


@contextmanager
def start_span(name: str, attributes: Mapping[str, Attribute] | None = None, kind: SpanKind = SpanKind.INTERNAL) -> Iterator[Span]:
    """A span for the block, a child of the current one; none where nothing is recorded. An exception that leaves it marks it as failed."""
    if _tracer is None or not _current().is_valid:
        yield INVALID_SPAN
        return
    with _started(_tracer, name, kind, None, attributes or {}) as span:
        try:
            yield span
        except Exception as error:
            # Not its text: it may have anything in it.
            span.set_attribute("error.type", type(error).__qualname__)
            failed(span, type(error).__qualname__)
            raise


@contextmanager
def _started(tracer: trace.Tracer, name: str, kind: SpanKind, parent: Context | None, attributes: Mapping[str, Attribute]) -> Iterator[Span]:
    with tracer.start_as_current_span(
        name, context=parent, kind=kind, attributes=attributes, record_exception=False, set_status_on_exception=False
    ) as span:
        yield span


def about(host: str, uuid: str, name: str) -> dict[str, Attribute]:
    """The attributes of what concerns one domain."""
    return {"virtrpc.host": host, "virtrpc.domain.uuid": uuid, "virtrpc.domain.name": name}


def note(attributes: Mapping[str, Attribute]) -> None:
    """Attributes of the current span."""
    trace.get_current_span().set_attributes(attributes)


def _current() -> SpanContext:
    return trace.get_current_span().get_span_context()


def failed(span: Span, text: str) -> None:
    """Mark a span as failed."""
    span.set_status(StatusCode.ERROR, text)


def context_of(headers: Mapping[str, str]) -> Context | None:
    """The caller's span from W3C headers (traceparent, tracestate), as a parent for `start_span`."""
    return _propagator.extract(headers) if "traceparent" in headers else None


def traceparent() -> str | None:
    """The current span in W3C form, for a driver's Call and for a later life of a job; None where nothing is recorded.

    Also of one that is over: a job outlives the RPC that began it.
    """
    here = _current()
    if _tracer is None or not here.is_valid:
        return None
    return f"00-{format_trace_id(here.trace_id)}-{format_span_id(here.span_id)}-01"


def ids(headers_traceparent: str = "") -> tuple[str, str]:
    """The current trace and span, or those in a header of a trace that is not recorded here; both empty where there is none."""
    here = _current()
    if here.is_valid:
        return format_trace_id(here.trace_id), format_span_id(here.span_id)
    found = _TRACEPARENT.fullmatch(headers_traceparent)
    return (found[1], found[2]) if found is not None else ("", "")


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
