"""The server's log by OTLP, beside what goes to stderr: in batches, on a thread of its own."""

from __future__ import annotations

import logging
import time

from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.context import Context
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor, LogRecordExporter

from virtrpc_drivers.logs import FIELDS
from virtrpc_server import caller, tracing
from virtrpc_server.telemetry import logs

SEVERITIES = (
    (logging.CRITICAL, SeverityNumber.FATAL),
    (logging.ERROR, SeverityNumber.ERROR),
    (logging.WARNING, SeverityNumber.WARN),
    (logging.INFO, SeverityNumber.INFO),
)
SEPARATE = ("trace_id", "span_id")
"""What an entry has a place of its own for."""


def make_exporter(endpoint: str | None) -> LogRecordExporter:
    """The exporter; without an endpoint OTEL_EXPORTER_OTLP_* decide."""
    from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter

    return OTLPLogExporter(endpoint=endpoint)


class LogExport(logging.Handler):
    """Sends each entry; of those that are not taken in time the newest 2048 are kept."""

    def __init__(self, exporter: LogRecordExporter) -> None:
        super().__init__()
        self._provider = LoggerProvider(resource=tracing.resource(), shutdown_on_exit=False)
        self._provider.add_log_record_processor(BatchLogRecordProcessor(exporter))
        # What sending has to say would be sent.
        self.addFilter(lambda record: not record.name.startswith(("opentelemetry", "grpc")))

    def emit(self, record: logging.LogRecord) -> None:
        """Queue one."""
        about = logs.about() | {name: str(value) for name in FIELDS if (value := getattr(record, name, None))}
        attributes = {name: value for name, value in about.items() if value and name not in SEPARATE}
        if record.exc_info and record.exc_info[0] is not None:
            attributes["exception.type"] = record.exc_info[0].__qualname__
            attributes["exception.stacktrace"] = _PLAIN.formatException(record.exc_info)
        severity = next((number for level, number in SEVERITIES if record.levelno >= level), SeverityNumber.DEBUG)
        entry = LogRecord(
            timestamp=int(record.created * 1e9), observed_timestamp=time.time_ns(), context=_context(), severity_text=record.levelname,
            severity_number=severity, body=record.getMessage(), attributes=attributes,
        )  # fmt: skip
        self._provider.get_logger(record.name).emit(entry)

    def close(self) -> None:
        """Send what is left; may wait for the collector for seconds."""
        self._provider.shutdown()
        super().close()


_PLAIN = logging.Formatter()


def _context() -> Context | None:
    """The trace that an entry belongs to, where that is not the current span's."""
    header = caller.call.get().traceparent
    return None if tracing.ids()[0] or not header else tracing.context_of({"traceparent": header})
