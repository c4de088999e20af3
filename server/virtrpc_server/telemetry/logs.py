"""The server's log: as text or as JSON, with the trace, the RPC and the job that each entry belongs to."""

from __future__ import annotations

import logging
import os
import sys
import time
from contextvars import ContextVar

from virtrpc_drivers.logs import FORMAT_VARIABLE, LEVEL_VARIABLE, JsonFormatter, begin
from virtrpc_server import caller, tracing
from virtrpc_server.printable import printable
from virtrpc_server.records import Job

SELDOM_SECONDS = 60.0
TEXT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_job: ContextVar[Job | None] = ContextVar("job", default=None)


def work_on(job: Job) -> None:
    """What this task writes from now on concerns this job."""
    _job.set(job)


def about() -> dict[str, str]:
    """What the task that writes works on: the fields of `virtrpc_drivers.logs.FIELDS` that are known."""
    this, job = caller.call.get(), _job.get()
    trace_id, span_id = tracing.ids(this.traceparent)
    found = {"trace_id": trace_id, "span_id": span_id, "rpc": f"{this.service}/{this.rpc}" if this.rpc else ""}
    if this.domain is not None:
        found |= {"host": this.domain.host, "domain_uuid": this.domain.uuid}
    if job is not None:
        found |= {"job_id": job.id, "host": job.host, "domain_uuid": job.uuid}
    return found


class ServerFormatter(JsonFormatter):
    """An entry of the server."""

    def about(self) -> dict[str, str]:
        """See `about`."""
        return about()


class TextFormatter(logging.Formatter):
    """An entry as a line of text, which nothing that it tells of can end or colour; a traceback's lines follow."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 # logging's name
        """See logging.Formatter."""
        return printable(super().formatMessage(record))


def say(text: str) -> None:
    """Tell whoever started the server something, whatever the log's level is: as a line of its own, or as an entry where all entries are JSON."""
    handler = next((handler for handler in logging.getLogger().handlers if isinstance(handler.formatter, ServerFormatter)), None)
    if handler is None:
        print(text, file=sys.stderr, flush=True)
    else:
        handler.handle(logging.LogRecord(__name__, logging.INFO, __file__, 0, text, None, None))


class Seldom(logging.Filter):
    """Lets what the exporters say through once a minute: a collector that is away must not fill the log."""

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether it is written."""
        if not record.name.startswith("opentelemetry"):
            return True
        key, now = (record.name, str(record.msg)), time.monotonic()
        if now - self._said.get(key, float("-inf")) < SELDOM_SECONDS:
            return False
        self._said[key] = now
        return True


def configure(level: str, log_format: str) -> None:
    """Write the log to stderr; driver processes follow."""
    begin(level, ServerFormatter() if log_format == "json" else TextFormatter(TEXT))
    for handler in logging.getLogger().handlers:
        handler.addFilter(Seldom())
    os.environ[LEVEL_VARIABLE], os.environ[FORMAT_VARIABLE] = level, log_format
