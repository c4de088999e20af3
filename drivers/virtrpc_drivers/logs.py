"""The log as JSON, one object a line, or as text: the same in the server and in its driver processes, which are told by the environment."""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from contextvars import ContextVar
from datetime import UTC, datetime

from virtrpc_drivers.protocol import Call

LEVEL_VARIABLE = "VIRTRPC_LOG"
FORMAT_VARIABLE = "VIRTRPC_LOG_FORMAT"
FIELDS = ("trace_id", "span_id", "job_id", "host", "domain_uuid", "rpc", "error_id")
"""What an entry may tell beside its text, where that is known; given by `extra` or by who writes it."""

call: ContextVar[Call | None] = ContextVar("call", default=None)
"""The call that a task of a driver process carries out."""
_PARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-.*")


class JsonFormatter(logging.Formatter):
    """An entry as a JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        entry: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **self.about(),
        }
        entry |= {name: value for name in FIELDS if (value := getattr(record, name, None))}
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps({name: value for name, value in entry.items() if value}, ensure_ascii=False)

    def about(self) -> dict[str, str]:
        """What the task that writes works on."""
        return {}


class DriverFormatter(JsonFormatter):
    """An entry of a driver process."""

    host = ""
    """Which host it serves, once it was told."""

    def about(self) -> dict[str, str]:
        """Its process and host, and the call that it carries out."""
        found = {"driver": str(os.getpid()), "host": self.host}
        if (this := call.get()) is not None:
            found |= {"job_id": this.id.rpartition(".")[0], "domain_uuid": this.operation.uuid}
            if (parent := _PARENT.fullmatch(this.traceparent or "")) is not None:
                found |= {"trace_id": parent[1], "span_id": parent[2]}
        return found


def begin(level: str, formatter: logging.Formatter) -> None:
    """Write entries of this level and above to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    logging.basicConfig(level=level, handlers=[handler])


def begin_in_driver() -> None:
    """The same for a driver process, as its server says."""
    plain = logging.Formatter("%(levelname)s driver[%(process)d] %(name)s: %(message)s")
    begin(os.environ.get(LEVEL_VARIABLE, "INFO"), DriverFormatter() if os.environ.get(FORMAT_VARIABLE) == "json" else plain)
