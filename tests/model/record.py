"""What passed between the server and its hypervisors, in order: what the model judges by, whatever the server says of itself."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass, field

from virtrpc_drivers.errors import DriverError, Reason
from virtrpc_drivers.operations import AnyOperation
from virtrpc_drivers.protocol import AnyNotice, Call, Change, DomainChanged, EventsLost, HostDown, HostUp, Report
from virtrpc_drivers.values import Group, Phase, Stamp

LOST = frozenset({Reason.DRIVER_LOST, Reason.OUTCOME_UNKNOWN})
"""Errors after which a call may still be inside the hypervisor."""


@dataclass(slots=True)
class Out:
    """One call of ours, from the moment at which it is sent until it is known to be over."""

    job_id: str
    host: str
    operation: AnyOperation
    began: float
    """Loop time in seconds."""
    waits: bool = True
    """Somebody waits for its answer: `run` or `resume` has not returned."""
    inside: bool = True
    """The hypervisor may still work on it."""
    asked: bool = False
    """The guest was asked; what is left holds nothing."""
    answer: str = ""
    """What it ended with: "OK" or a reason; "" while nothing was heard."""
    aborts: int = 0
    """Aborts that were sent for it and have not returned."""
    over: float = 0.0
    """Loop time in seconds at which it was known to be over, or its last abort returned."""

    @property
    def holds(self) -> bool:
        """Whether nothing that excludes it may begin. Once the guest was asked, an abort only ends the wait for it."""
        return not self.asked and (self.inside or self.aborts > 0)


@dataclass(slots=True)
class HostRecord:
    """What one host said of itself last. Numbers are places in the order of all that happened."""

    connected: bool = False
    up: int = 0
    """Since when everything must be listed again."""
    listed: int = -1
    """When the newest listing that was answered began."""
    announced: dict[tuple[str, Group], int] = field(default_factory=dict)


class Record:
    """Everything at the border. `faults` are broken rules that were seen there."""

    def __init__(self) -> None:
        self.faults: list[str] = []
        self.calls: dict[str, Out] = {}
        self.hosts: dict[str, HostRecord] = {}
        self.reads_out: dict[str, int] = {}
        """Slow reads that are out, by host."""
        self.probes_out: dict[tuple[str, str], int] = {}
        """Looks whether a domain is free that are out, by host and uuid."""
        self.probed: dict[tuple[str, str], float] = {}
        """When the last one came back, or failed: loop time in seconds."""
        self.touched: set[tuple[str, str]] = set()
        """The domains, by host and uuid, of which something was heard or read since somebody looked."""
        self._order = itertools.count(1)
        self._began: dict[tuple[str, Stamp], int] = {}

    def now(self) -> int:
        """The next place in the order."""
        return next(self._order)

    def stamped(self, host: str, stamp: Stamp) -> None:
        """A reading begins."""
        self._began[host, stamp] = self.now()

    def began(self, host: str, stamp: Stamp) -> int:
        """When the reading with this stamp began."""
        return self._began[host, stamp]

    def holding(self) -> list[Out]:
        """The calls that exclude others now."""
        return [out for out in self.calls.values() if out.holds]

    def sent(self, host: str, call: Call, began: float) -> Out:
        """A call leaves for the hypervisor."""
        job_id = call.id.partition(".")[0]
        out = self.calls[job_id] = Out(job_id, host, call.operation, began)
        return out

    def resumed(self, call: Call) -> Out:
        """Somebody asks what became of a call."""
        out = self.calls[call.id.partition(".")[0]]
        out.waits = True
        return out

    def returned(self, out: Out, error: DriverError | None, *, resumed: bool) -> None:
        """The answer. A run that could not reach the host was never sent; a resume that could not has learned nothing.

        Nor has one that met a job on the domain: that may be the call itself.
        """
        out.waits, out.over = False, asyncio.get_running_loop().time()
        out.answer = error.reason.value if error is not None else "OK"
        out.inside = error is not None and (error.reason in LOST or (resumed and error.reason in (Reason.HOST_UNREACHABLE, Reason.FOREIGN_JOB)))

    def free(self, host: str, uuid: str) -> None:
        """The hypervisor's job on this domain could be taken: nothing of ours is inside."""
        for out in self.calls.values():
            if out.host == host and out.operation.uuid == uuid and out.inside and not out.waits:
                out.inside, out.over = False, asyncio.get_running_loop().time()

    def notice(self, host: str, notice: AnyNotice) -> None:
        """What a driver says unasked, at the moment at which the server hears it."""
        held = self.hosts[host]
        match notice:
            case HostUp():
                held.connected, held.up = True, self.now()
            case EventsLost():
                held.up = self.now()
            case HostDown():
                held.connected = False
            case DomainChanged(uuid=uuid, change=change, stamp=stamp):
                self.touched.add((host, uuid))
                at = self.now() if stamp is None else self.began(host, stamp)
                for group in (Group.STATE,) if change is Change.BALLOON else Group:
                    held.announced[uuid, group] = max(at, held.announced.get((uuid, group), 0))
            case Report(call_id=call_id, phase=Phase.WAITING_GUEST):
                self.calls[call_id.partition(".")[0]].asked = True
