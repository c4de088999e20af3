"""A migration at work: what its readings say, and its schedule, whose steps are taken by itself."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import msgspec
from opentelemetry.trace import SpanKind

from virtrpc_drivers.errors import DriverError
from virtrpc_drivers.migration import Reading, Step
from virtrpc_drivers.protocol import Report
from virtrpc_drivers.values import Phase
from virtrpc_server import tracing
from virtrpc_server.convergence import Convergence
from virtrpc_server.hosts import Host
from virtrpc_server.records import Job

log = logging.getLogger(__name__)


def read(job: Job, report: Report) -> dict[str, Any]:
    """What a report of a migration changes in its job."""
    if report.migration is None:
        return {}
    changes: dict[str, Any] = {"migration": merged(job.migration, report.migration)}
    if report.stamp is not None and report.remaining_bytes is not None:
        now = asyncio.get_running_loop().time()
        changes["convergence"] = (job.convergence or Convergence()).after(now, report.remaining_bytes, report.memory_iteration or 0)
    return changes


def merged(last: Reading | None, reading: Reading) -> Reading:
    """The newer reading, with the older one's values where it says nothing: some are asked for less often."""
    if last is None:
        return reading
    known = {name: value for name in reading.__struct_fields__ if (value := getattr(reading, name)) is not None}
    return msgspec.structs.replace(last, **known)


def due(job: Job, schedule: tuple[Step, ...]) -> Step | None:
    """The step of the schedule that is to be taken now: only while memory is copied, and only where nobody has asked the job to stop."""
    if job.phase is not Phase.MIGRATION_COPY or job.cancel_reason is not None or job.convergence is None:
        return None
    return job.convergence.due(schedule)


async def take(host: Host, call_id: str, step: Step, in_vain: Callable[[str], None]) -> None:
    """Have the hypervisor do what a step says; `in_vain` is told why it did not."""
    try:
        with tracing.start_span("tune", {"virtrpc.call": call_id, "virtrpc.host": host.name}, SpanKind.CLIENT):
            answer = await host.driver.tune(call_id, step.tuning)
    except DriverError as error:
        log.info("a step of the schedule of call %s: %s", call_id, error)
        in_vain(error.fault.message)
    else:
        if not answer.sent:
            in_vain(answer.message)
