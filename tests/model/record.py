"""What passed between the server and its hypervisors, in order: what the model judges by, whatever the server says of itself."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field

from virtrpc_drivers.errors import DriverError, Reason
from virtrpc_drivers.operations import AnyOperation
from virtrpc_drivers.protocol import AnyNotice, Call, Change, DomainChanged, EventsLost, HostDown, HostUp, Report
from virtrpc_drivers.values import Group, Phase, Stamp
from virtrpc_server.records import Job, JobState

LOST = frozenset({Reason.DRIVER_LOST, Reason.OUTCOME_UNKNOWN})
"""Errors after which a call may still be inside the hypervisor."""


@dataclass(slots=True)
class Out:
    """One call of ours, from the moment at which it is sent until it is known to be over."""

    call_id: str
    host: str
    operation: AnyOperation
    began: float
    """Loop time in seconds."""
    earlier: bool = False
    """It was sent by an earlier life of the server."""
    resumed: bool = False
    """It was sent by an earlier life of the server, as far as that has stored it, and a later one asks, or will ask, what became of it."""
    waits: bool = True
    """Somebody waits for its answer: `run` or `resume` has not returned."""
    inside: bool = True
    """The hypervisor may still work on it."""
    asked_at: float | None = None
    """When the guest was asked, or what was begun went on by itself, in loop time in seconds: of its keys it has left what its verb keeps."""
    asked_in_order: int = 0
    """The same as a place in the order of all that happened."""
    answer: str = ""
    """What it ended with: "OK" or a reason; "" while nothing was heard."""
    answered: int = 0
    """When it was last answered: a place in the order of all that happened."""
    back: float = 0.0
    """The same in loop time in seconds."""
    asked_for: float = 0.0
    """Since when somebody waits for its answer: loop time in seconds."""
    aborts: int = 0
    """Aborts that were sent for it and have not returned."""
    aborted: float = -1.0
    """When the last abort was sent for it: loop time in seconds."""
    over: float = 0.0
    """Loop time in seconds at which it was known to be over, or its last abort returned."""

    @property
    def job_id(self) -> str:
        """The job that it was sent for."""
        return self.call_id.partition(".")[0]

    @property
    def asked(self) -> bool:
        """Whether it goes on with no more than its verb keeps."""
        return self.asked_at is not None

    @property
    def there(self) -> bool:
        """Whether it, or an abort for it, may be at the hypervisor."""
        return self.inside or self.aborts > 0

    @property
    def holds(self) -> bool:
        """Whether it has all its keys, and a place at the daemon. Once the guest was asked, an abort only ends the wait for it."""
        return not self.asked and self.there


@dataclass(slots=True)
class HostRecord:
    """What one host said of itself last. Numbers are places in the order of all that happened."""

    connected: bool = False
    since: float = 0.0
    """Since when it has been connected, or away: loop time in seconds."""
    down: int = 0
    """When it was last lost."""
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
        self.read: dict[tuple[str, str, Group], int] = {}
        """When the newest reading began that came back, also with an error."""
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

    def looked(self, host: str, group: Group, began: dict[str, int]) -> None:
        """Readings came back: by uuid when they had begun."""
        for uuid, at in began.items():
            self.read[host, uuid, group] = max(at, self.read.get((host, uuid, group), 0))

    @property
    def inside(self) -> list[Out]:
        """The calls that a hypervisor may still work on, and those that an abort is out for."""
        return [out for out in self.calls.values() if out.there]

    def sent(self, host: str, call: Call, began: float) -> Out:
        """A call leaves for the hypervisor."""
        out = Out(call.id, host, call.operation, began, asked_for=began)
        self.calls[out.job_id] = out
        return out

    def server_ended(self, jobs: Iterable[Job]) -> None:
        """Nobody waits for any answer. What is stored as sent may be at a hypervisor, for all that the next life knows."""
        now = asyncio.get_running_loop().time()
        for out in self.calls.values():
            out.waits, out.aborts, out.earlier = False, 0, True
        for job in jobs:
            if job.state is not JobState.RUNNING and not job.haunts:
                continue
            call_id = f"{job.id}.{job.attempts}"
            if job.id not in self.calls or self.calls[job.id].call_id != call_id:
                # It was killed before it could send it.
                self.calls[job.id] = Out(call_id, job.host, job.operation, now)
            out = self.calls[job.id]
            out.waits, out.inside, out.resumed, out.answer = False, True, True, ""
            if job.phase is None or not job.phase.on_its_own:
                out.asked_at = None
            elif out.asked_at is None:
                out.asked_at, out.asked_in_order = now, self.now()
        self.reads_out, self.probes_out = {}, {}
        self.touched.clear()

    def resumed(self, call: Call) -> Out:
        """Somebody asks what became of a call."""
        out = self.calls[call.id.partition(".")[0]]
        out.waits, out.asked_for = True, asyncio.get_running_loop().time()
        return out

    def returned(self, out: Out, error: DriverError | None, *, resumed: bool) -> None:
        """The answer. A run that could not reach the host was never sent; a resume that could not has learned nothing.

        Nor has one that met a job on the domain, also where what it began went on without it: that may be the call itself.
        """
        out.waits, out.over = False, asyncio.get_running_loop().time()
        out.back = out.over
        out.answer, out.answered = error.reason.value if error is not None else "OK", self.now()
        learned_nothing = {Reason.FOREIGN_JOB: resumed or out.asked, Reason.HOST_UNREACHABLE: resumed}
        out.inside = error is not None and (error.reason in LOST or learned_nothing.get(error.reason, False))

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
                held.connected, held.up, held.since = True, self.now(), asyncio.get_running_loop().time()
            case EventsLost():
                held.up = self.now()
            case HostDown():
                held.connected, held.down, held.since = False, self.now(), asyncio.get_running_loop().time()
            case DomainChanged(uuid=uuid, change=change, stamp=stamp):
                self.touched.add((host, uuid))
                at = self.now() if stamp is None else self.began(host, stamp)
                for group in (Group.STATE,) if change is Change.BALLOON else Group:
                    held.announced[uuid, group] = max(at, held.announced.get((uuid, group), 0))
            case Report(call_id=call_id, phase=Phase.WAITING_GUEST | Phase.BACKGROUND | Phase.READY):
                out = self.calls[call_id.partition(".")[0]]
                if not out.asked:
                    out.asked_at, out.asked_in_order = asyncio.get_running_loop().time(), self.now()
