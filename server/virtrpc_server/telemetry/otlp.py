"""Metrics by OTLP: from the same reading as the Prometheus endpoint's, in pieces, each sent on a thread while the loop waits for it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing

from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    HistogramDataPoint,
    MetricExporter,
    MetricExportResult,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.metrics.export import Histogram as HistogramData
from opentelemetry.sdk.metrics.export import Metric as MetricData
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from virtrpc_server import tracing
from virtrpc_server.telemetry.collecting import Collector
from virtrpc_server.telemetry.points import Distribution, Family, Kind, Metric, Point

log = logging.getLogger(__name__)

PIECE = 1000
"""Points that are sent at once."""
CUMULATIVE = AggregationTemporality.CUMULATIVE
_SCOPE = InstrumentationScope("virtrpc_server")


def make_exporter(endpoint: str | None) -> MetricExporter:
    """The exporter; without an endpoint OTEL_EXPORTER_OTLP_* decide."""
    from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter

    return OTLPMetricExporter(endpoint=endpoint)


class MetricsExport:
    """Sends all metrics every so many seconds, from `start` to `stop`. What cannot be sent is forgotten: the next numbers include it."""

    def __init__(self, collector: Collector, exporter: MetricExporter, seconds: float) -> None:
        self._collector = collector
        self._exporter = exporter
        self._seconds = seconds
        self._began = time.time_ns()
        self._resource = tracing.resource()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="otlp-metrics")
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.get_running_loop().create_task(self._send_for_ever())

    async def stop(self) -> None:
        """End, whatever the collector does."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        # Ends what is out, so that nobody waits for the thread.
        self._exporter.shutdown()
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _send_for_ever(self) -> None:
        while True:
            await asyncio.sleep(self._seconds)
            try:
                await self._send()
            except Exception:
                log.exception("a fault of this server in sending its metrics")

    async def _send(self) -> None:
        loop = asyncio.get_running_loop()
        async with aclosing(_pieces(self._collector.families())) as pieces:
            async for families in pieces:
                result = await loop.run_in_executor(self._thread, _export, self._exporter, self._resource, families, self._began)
                if result is not MetricExportResult.SUCCESS:
                    return  # nor would the rest be taken


async def _pieces(families: AsyncIterator[Family]) -> AsyncGenerator[list[Family], None]:
    piece: list[Family] = []
    async for family in families:
        if piece and piece[-1].metric is family.metric:
            piece[-1] = Family(family.metric, [*piece[-1].points, *family.points])
        else:
            piece.append(family)
        if sum(len(each.points) for each in piece) >= PIECE:
            yield piece
            piece = []
    if piece:
        yield piece


# On the thread


def _export(exporter: MetricExporter, resource: Resource, families: Iterable[Family], began: int) -> MetricExportResult:
    now = time.time_ns()
    metrics = [_metric(family.metric, family.points, began, now) for family in families]
    return exporter.export(MetricsData([ResourceMetrics(resource, [ScopeMetrics(_SCOPE, metrics, "")], "")]))


def _metric(metric: Metric, points: Iterable[Point], began: int, now: int) -> MetricData:
    data: Gauge | Sum | HistogramData
    if metric.kind is Kind.HISTOGRAM:
        data = HistogramData([_distribution(point, began, now) for point in points], CUMULATIVE)
    else:
        numbers = [NumberDataPoint(labels.pairs, began, now, value) for labels, value in points if not isinstance(value, Distribution)]
        data = Sum(numbers, CUMULATIVE, is_monotonic=True) if metric.kind is Kind.COUNTER else Gauge(numbers)
    return MetricData(metric.name, metric.help, metric.unit, data)


def _distribution(point: Point, began: int, now: int) -> HistogramDataPoint:
    assert isinstance(point.value, Distribution)
    bounds, counts, total = point.value
    extremes: float = None  # type: ignore[assignment] # the least and the greatest are not kept, which OTLP allows
    return HistogramDataPoint(point.labels.pairs, began, now, sum(counts), total, counts, bounds, extremes, extremes)
