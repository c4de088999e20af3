"""Spans: off by default, exported on request, the drivers' among them."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode, format_span_id, format_trace_id

from virtrpc_drivers.protocol import SpanRecord
from virtrpc_server import tracing

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"


@pytest.fixture
def exporter() -> Iterator[InMemorySpanExporter]:
    """Tracing into memory."""
    exporter = InMemorySpanExporter()
    tracing.configure(exporter)
    yield exporter
    tracing.shutdown()


def record(**changes: object) -> SpanRecord:
    """A driver's span as it comes over the socket."""
    fields: dict[str, object] = {
        "name": "virDomainSave", "trace_id": TRACE, "span_id": "00f067aa0ba902b7", "parent_id": PARENT,
        "start_ns": 5, "end_ns": 9, "attributes": {"host": "a", "bytes": 3},
    }  # fmt: skip
    return SpanRecord(**{**fields, **changes})  # type: ignore[arg-type] # the fields are right by the test's own reading


def test_nothing_is_recorded_by_default() -> None:
    """Without a configured exporter spans do not record, drivers get no traceparent, and their spans are dropped."""
    assert not tracing.enabled()
    with tracing.start_span("anything", {"host": "a"}) as span:
        assert not span.is_recording()
        assert tracing.traceparent() is None
    tracing.export((record(),))


def test_spans_nest_and_carry_attributes(exporter: InMemorySpanExporter) -> None:
    """A span started inside another is its child, with its attributes."""
    with tracing.start_trace("outer", {}, {}), tracing.start_span("inner", {"host": "a", "place": 2}):
        pass
    tracing.flush()
    inner, outer = exporter.get_finished_spans()
    assert inner.parent is not None
    assert outer.context is not None
    assert inner.parent.span_id == outer.context.span_id
    assert dict(inner.attributes or {}) == {"host": "a", "place": 2}
    assert outer.resource.attributes["service.name"] == "virtrpcd"


def test_an_exception_marks_the_span(exporter: InMemorySpanExporter) -> None:
    """What leaves a span's block by an exception is ERROR, with the exception's type and not its text, and the exception goes on."""
    with tracing.start_trace("outer", {}, {}), pytest.raises(ValueError, match="no"), tracing.start_span("failing"):
        raise ValueError("no")
    tracing.flush()
    span = exporter.get_finished_spans()[0]
    assert span.status.status_code is StatusCode.ERROR
    assert span.status.description == "ValueError"
    assert dict(span.attributes or {}) == {"error.type": "ValueError"}


def test_the_callers_trace_goes_on(exporter: InMemorySpanExporter) -> None:
    """A traceparent in the metadata is the span's parent, and the driver is given the span's own."""
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "vendor=1"}
    assert tracing.wanted(headers)
    with tracing.start_trace("rpc", headers, {}) as span:
        own = format_span_id(span.get_span_context().span_id)
        assert tracing.traceparent() == f"00-{TRACE}-{own}-01"
    tracing.flush()
    (finished,) = exporter.get_finished_spans()
    assert finished.parent is not None
    assert format_span_id(finished.parent.span_id) == PARENT
    assert finished.kind is SpanKind.SERVER
    assert finished.context is not None
    assert dict(finished.context.trace_state) == {"vendor": "1"}


def test_a_caller_that_does_not_sample_is_respected(exporter: InMemorySpanExporter) -> None:
    """Where the caller's trace is not sampled nothing is recorded, whatever the ratio; its ids are for the log all the same."""
    header = f"00-{TRACE}-{PARENT}-00"
    assert not tracing.wanted({"traceparent": header})
    with tracing.start_span("wait"):
        assert tracing.traceparent() is None
    assert tracing.ids(header) == (TRACE, PARENT)
    tracing.flush()
    assert exporter.get_finished_spans() == ()


def test_a_share_of_the_traces_is_recorded() -> None:
    """tracing_ratio is for what begins here; a caller that records is recorded here too, and nonsense in its header is no trace."""
    tracing.configure(InMemorySpanExporter(), 0.2)
    try:
        assert 100 < sum(tracing.wanted({}) for _ in range(1000)) < 300
        assert all(tracing.wanted({"traceparent": f"00-{TRACE}-{PARENT}-01"}) for _ in range(100))
        assert 100 < sum(tracing.wanted({"traceparent": "nonsense"}) for _ in range(1000)) < 300
    finally:
        tracing.shutdown()
    assert not tracing.wanted({})


def test_what_goes_on_after_a_span_is_its_child(exporter: InMemorySpanExporter) -> None:
    """A job outlives the RPC that began it: what it does later belongs to the same trace."""
    with tracing.start_trace("rpc", {}, {}):
        header = tracing.traceparent()
    assert header is not None
    with tracing.start_trace("job", {"traceparent": header}, {}, SpanKind.INTERNAL):
        pass
    tracing.flush()
    rpc, job = exporter.get_finished_spans()
    assert job.parent is not None
    assert rpc.context is not None
    assert (job.parent.span_id, job.parent.trace_id) == (rpc.context.span_id, rpc.context.trace_id)


def test_headers_without_a_trace_give_no_parent() -> None:
    """No traceparent, or a malformed one, starts a new trace instead of failing."""
    assert tracing.context_of({}) is None
    assert tracing.context_of({"traceparent": "nonsense"}) is not None


def test_a_drivers_spans_reach_the_same_exporter(exporter: InMemorySpanExporter) -> None:
    """SpanRecords come out with their ids, times, attributes and error."""
    tracing.export((record(), record(parent_id=None, error="Timed out")))
    tracing.flush()
    first, second = exporter.get_finished_spans()
    assert first.context is not None
    assert first.parent is not None
    assert (format_trace_id(first.context.trace_id), format_span_id(first.parent.span_id)) == (TRACE, PARENT)
    assert (first.name, first.start_time, first.end_time) == ("virDomainSave", 5, 9)
    assert dict(first.attributes or {}) == {"host": "a", "bytes": 3}
    assert second.parent is None
    assert (second.status.status_code, second.status.description) == (StatusCode.ERROR, "Timed out")


def test_the_console_exporter_writes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    """tracing = "console" prints each span as JSON on stderr, a driver's too; stdout stays clean."""
    tracing.configure(tracing.make_exporter("console"))
    tracing.export((record(),))
    tracing.shutdown()
    captured = capsys.readouterr()
    assert json.loads(captured.err)["name"] == "virDomainSave"
    assert captured.out == ""


def test_an_otlp_exporter_is_made_for_the_endpoint() -> None:
    """tracing = "otlp" makes the gRPC exporter; "none" makes nothing."""
    exporter = tracing.make_exporter("otlp", "http://127.0.0.1:4317")
    assert type(exporter).__name__ == "OTLPSpanExporter"
    assert exporter is not None
    exporter.shutdown()
    assert tracing.make_exporter("none") is None
