"""A migration's details as a MigrationProgress, and what stands in the way of one."""

from __future__ import annotations

from typing import Any

from virtrpc.v1 import types_pb2
from virtrpc_drivers.migration import Reading, Step
from virtrpc_drivers.operations import Migrate
from virtrpc_server.messages.common import duration, numbers, timestamp
from virtrpc_server.records import Job

_DURATIONS = {
    "expected_downtime": "expected_downtime_seconds",
    "downtime": "downtime_seconds",
    "setup_time": "setup_seconds",
    "max_downtime": "max_downtime_seconds",
}


def migration_message(job: Job) -> types_pb2.MigrationProgress:
    """How a migration goes: its last reading, and its schedule."""
    return types_pb2.MigrationProgress(**_read(job.migration or Reading()), **_scheduled(job))


def reading_message(reading: Reading) -> types_pb2.MigrationProgress:
    """One look at a migration."""
    return types_pb2.MigrationProgress(**_read(reading))


def _read(reading: Reading) -> dict[str, Any]:
    times: dict[str, Any] = {name: duration(getattr(reading, source)) for name, source in _DURATIONS.items()}
    plain = [name for name in reading.__struct_fields__ if name not in _DURATIONS.values()]
    return times | numbers(**{name: getattr(reading, name) for name in plain})


def _scheduled(job: Job) -> dict[str, Any]:
    state, operation = job.convergence, job.operation
    if state is None or not isinstance(operation, Migrate):
        return {}
    return {
        "stalled": duration(state.stalled),
        "steps_taken": state.taken if operation.schedule else None,
        "last_step": step_message(operation.schedule[state.taken - 1]) if state.taken else None,
        "last_step_time": timestamp(state.last_step_time),
        "last_step_error": state.last_step_error,
    }


def step_message(step: Step) -> types_pb2.MigrationStep:
    """A step as it was asked for."""
    tuning = step.tuning
    message = types_pb2.MigrationStep(after=duration(step.after))
    if tuning.max_downtime_seconds is not None:
        message.max_downtime.CopyFrom(duration(tuning.max_downtime_seconds) or message.max_downtime)
    elif tuning.bandwidth_bytes_per_second is not None:
        message.bandwidth_bytes_per_second = tuning.bandwidth_bytes_per_second
    elif tuning.start_post_copy:
        message.post_copy = True
    elif tuning.pause:
        message.pause = True
    else:
        message.abort = step.abort
    return message
