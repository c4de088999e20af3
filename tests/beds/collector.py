"""A stand-in for an OpenTelemetry collector: takes traces, metrics and logs by OTLP over gRPC, and keeps them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2 as logs
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2_grpc as logs_grpc
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as metrics
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2_grpc as metrics_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as trace
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as trace_grpc
from opentelemetry.proto.common.v1.common_pb2 import AnyValue

from tests.beds.wait import wait_until


def plain(attributes: Any) -> dict[str, Any]:
    """Attributes as a dict."""
    return {each.key: _value(each.value) for each in attributes}


def _value(value: AnyValue) -> Any:
    return getattr(value, value.WhichOneof("value") or "string_value")


@dataclass(frozen=True)
class Span:
    """A span, ids in hexadecimal."""

    name: str
    trace: str
    id: str
    parent: str
    attributes: dict[str, Any]
    failed: str
    """The description of its status where that is an error."""
    begin: int
    end: int


@dataclass(frozen=True)
class Entry:
    """An entry of a log."""

    text: str
    level: str
    trace: str
    attributes: dict[str, Any]


@dataclass
class Collector:
    """What was sent, in the order in which it came."""

    address: str = ""
    """As exporters take it: http://127.0.0.1:PORT."""
    spans: list[Span] = field(default_factory=list)
    metrics: dict[str, list[Any]] = field(default_factory=dict)
    """Data points by the name of their metric; the newest export last."""
    logs: list[Entry] = field(default_factory=list)
    resources: list[dict[str, Any]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def trace(self, *names: str, of: Callable[[Span], bool] = lambda span: True) -> list[Span]:
        """All spans of the trace of the first span that is so, once that trace has spans with all of these names."""
        wait_until(lambda: set(names) <= {span.name for span in self._of(of)}, f"a trace with {names}; there is {[s.name for s in self.spans]}")
        return self._of(of)

    def _of(self, of: Callable[[Span], bool]) -> list[Span]:
        first = next((span for span in list(self.spans) if of(span)), None)
        return [span for span in list(self.spans) if first is not None and span.trace == first.trace]

    def value(self, name: str, **attributes: str) -> Any:
        """The newest data point of a metric with these attributes; None where there is none."""
        found = [point for point in list(self.metrics.get(name, ())) if attributes.items() <= plain(point.attributes).items()]
        return found[-1] if found else None


class _Traces(trace_grpc.TraceServiceServicer):
    def __init__(self, kept: Collector) -> None:
        self._kept = kept

    def Export(self, request: trace.ExportTraceServiceRequest, context: grpc.ServicerContext) -> trace.ExportTraceServiceResponse:  # noqa: N802 # OTLP's name
        with self._kept.lock:
            for resource in request.resource_spans:
                self._kept.resources.append(plain(resource.resource.attributes))
                self._kept.spans += [_span(span) for scope in resource.scope_spans for span in scope.spans]
        return trace.ExportTraceServiceResponse()


def _span(span: Any) -> Span:
    failed = span.status.message or "?" if span.status.code == span.status.STATUS_CODE_ERROR else ""
    ids = span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex()
    return Span(span.name, *ids, plain(span.attributes), failed, span.start_time_unix_nano, span.end_time_unix_nano)


class _Metrics(metrics_grpc.MetricsServiceServicer):
    def __init__(self, kept: Collector) -> None:
        self._kept = kept

    def Export(self, request: metrics.ExportMetricsServiceRequest, context: grpc.ServicerContext) -> metrics.ExportMetricsServiceResponse:  # noqa: N802 # OTLP's name
        with self._kept.lock:
            for resource in request.resource_metrics:
                self._kept.resources.append(plain(resource.resource.attributes))
                for metric in (metric for scope in resource.scope_metrics for metric in scope.metrics):
                    data = getattr(metric, metric.WhichOneof("data") or "gauge")
                    self._kept.metrics.setdefault(metric.name, []).extend(data.data_points)
        return metrics.ExportMetricsServiceResponse()


class _Logs(logs_grpc.LogsServiceServicer):
    def __init__(self, kept: Collector) -> None:
        self._kept = kept

    def Export(self, request: logs.ExportLogsServiceRequest, context: grpc.ServicerContext) -> logs.ExportLogsServiceResponse:  # noqa: N802 # OTLP's name
        with self._kept.lock:
            for record in (record for resource in request.resource_logs for scope in resource.scope_logs for record in scope.log_records):
                self._kept.logs.append(Entry(_value(record.body), record.severity_text, record.trace_id.hex(), plain(record.attributes)))
        return logs.ExportLogsServiceResponse()


@contextmanager
def collector() -> Iterator[Collector]:
    """A collector on a free port of this machine."""
    kept = Collector()
    server = grpc.server(ThreadPoolExecutor(2, thread_name_prefix="collector"))
    trace_grpc.add_TraceServiceServicer_to_server(_Traces(kept), server)  # type: ignore[no-untyped-call] # generated without types
    metrics_grpc.add_MetricsServiceServicer_to_server(_Metrics(kept), server)  # type: ignore[no-untyped-call] # generated without types
    logs_grpc.add_LogsServiceServicer_to_server(_Logs(kept), server)  # type: ignore[no-untyped-call] # generated without types
    kept.address = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield kept
    finally:
        server.stop(None).wait()
