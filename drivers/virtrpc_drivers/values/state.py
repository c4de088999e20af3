"""What a domain does just now."""

from __future__ import annotations

from enum import StrEnum

from virtrpc_drivers.values.base import Value


class State(StrEnum):
    """virDomainState, in libvirt's words."""

    NOSTATE = "nostate"
    RUNNING = "running"
    BLOCKED = "blocked"
    PAUSED = "paused"
    SHUTDOWN = "shutdown"
    SHUTOFF = "shutoff"
    CRASHED = "crashed"
    PMSUSPENDED = "pmsuspended"


ACTIVE_STATES = frozenset({State.RUNNING, State.BLOCKED, State.PAUSED, State.SHUTDOWN, State.PMSUSPENDED})


class Control(StrEnum):
    """virDomainControlState: the health of the channel to the hypervisor process. Asynchronous jobs do not show in it."""

    OK = "ok"
    JOB = "job"
    OCCUPIED = "occupied"
    ERROR = "error"


class DomainState(Value, frozen=True):
    """virDomainGetState, virDomainGetInfo and the flags that change with the state. Memory in bytes, time in nanoseconds."""

    state: State
    reason: str = "unknown"
    """The state's reason in lower snake case ("booted", "saved", "migrated" …)."""
    id: int | None = None
    active: bool = False
    memory_bytes: int | None = None
    max_memory_bytes: int | None = None
    cpu_time_ns: int | None = None
    vcpus: int | None = None
    has_managed_save: bool | None = None
    updated: bool | None = None
    control: Control | None = None
    messages: tuple[str, ...] = ()
    """virDomainGetMessages: taints and deprecations."""
