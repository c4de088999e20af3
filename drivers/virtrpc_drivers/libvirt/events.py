"""libvirt's events: registered on a connection of their own, handed to the loop, coalesced for the server, exact for operations."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import libvirt

from virtrpc_drivers.libvirt.readings import Clock
from virtrpc_drivers.protocol import Change, Deliver, DomainChanged, EventsLost
from virtrpc_drivers.values import Stamp

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_PENDING = 20_000
"""Events that may wait for the loop; more are dropped and EventsLost says so."""

_KINDS: dict[str, Change] = {
    "LIFECYCLE": Change.LIFECYCLE,
    "REBOOT": Change.REBOOT,
    "WATCHDOG": Change.OTHER,
    "IO_ERROR_REASON": Change.OTHER,
    "CONTROL_ERROR": Change.OTHER,
    "DISK_CHANGE": Change.DEVICE,
    "TRAY_CHANGE": Change.DEVICE,
    "PMWAKEUP": Change.LIFECYCLE,
    "PMSUSPEND": Change.LIFECYCLE,
    "PMSUSPEND_DISK": Change.LIFECYCLE,
    "BALLOON_CHANGE": Change.BALLOON,
    "BLOCK_JOB_2": Change.BLOCK_JOB,
    "TUNABLE": Change.OTHER,
    "AGENT_LIFECYCLE": Change.AGENT,
    "DEVICE_ADDED": Change.DEVICE,
    "DEVICE_REMOVED": Change.DEVICE,
    "DEVICE_REMOVAL_FAILED": Change.DEVICE,
    "JOB_COMPLETED": Change.JOB,
    "METADATA_CHANGE": Change.METADATA,
    "MEMORY_DEVICE_SIZE_CHANGE": Change.DEVICE,
}
"""What is registered: the part of the constant's name after VIR_DOMAIN_EVENT_ID_, and what it announces."""

_LIFECYCLE_CHANGES = {
    libvirt.VIR_DOMAIN_EVENT_DEFINED: Change.DEFINED,
    libvirt.VIR_DOMAIN_EVENT_UNDEFINED: Change.UNDEFINED,
}


@dataclass(frozen=True)
class RawEvent:
    """One event as libvirt sent it, and when. `code` is the lifecycle event, `text` the device's alias or the disk's target where it has one."""

    uuid: str
    name: str
    stamp: Stamp
    code: int | None = None
    text: str = ""
    status: int | None = None
    """Of a block job: how it is, or how it ended."""
    fields: dict[str, Any] = field(default_factory=dict)
    """Of a job that is over: its statistics."""

    @property
    def change(self) -> Change:
        """What it announces to the server."""
        if self.name == "LIFECYCLE" and self.code is not None:
            return _LIFECYCLE_CHANGES.get(self.code, Change.LIFECYCLE)
        return _KINDS[self.name]


@dataclass(eq=False)
class Ear:
    """One operation that listens to one domain."""

    uuid: str
    heard: asyncio.Queue[RawEvent] = field(default_factory=asyncio.Queue)

    async def within(self, seconds: float) -> list[RawEvent]:
        """All that was said up to now; where that is nothing, the first that is said within so many seconds."""
        events: list[RawEvent] = []
        try:
            async with asyncio.timeout(seconds):
                events.append(await self.heard.get())
        except TimeoutError:
            return events
        while not self.heard.empty():
            events.append(self.heard.get_nowait())
        return events


_implementation = threading.Lock()
_running = False


def run_event_loop() -> None:
    """libvirt's event implementation and its thread: one a process, and before the first connection is opened."""
    global _running
    with _implementation:
        if _running:
            return
        _running = True
        libvirt.registerErrorHandler(lambda _context, _error: None, None)
        libvirt.virEventRegisterDefaultImpl()
        threading.Thread(target=_dispatch_for_ever, name="libvirt-events", daemon=True).start()


def _dispatch_for_ever() -> None:
    while True:
        libvirt.virEventRunDefaultImpl()


class Events:
    """Takes events from libvirt's thread to the loop."""

    def __init__(self, deliver: Deliver, clock: Clock) -> None:
        self._deliver = deliver
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._pending: deque[RawEvent] = deque()
        self._lost = False
        self._scheduled = False
        self._lock = threading.Lock()
        self._ears: dict[str, list[Ear]] = {}
        self._registered: dict[int, list[int]] = {}
        self.open = False
        """Whether the server hears of changes: not before HostUp, after which it lists everything anyway."""

    def register(self, connection: Any) -> bool:
        """Register for everything that this connection has. Whether it has lifecycle events at all. Blocks."""
        pushes = False
        numbers = self._registered.setdefault(id(connection), [])
        for name in _KINDS:
            number = getattr(libvirt, f"VIR_DOMAIN_EVENT_ID_{name}", None)
            if number is None:
                continue
            try:
                numbers.append(connection.domainEventRegisterAny(None, number, self._callback(name), None))
                pushes = pushes or name == "LIFECYCLE"
            except libvirt.libvirtError:
                pass  # this hypervisor or daemon does not have that kind
        return pushes

    def deregister(self, connection: Any) -> None:
        """Hear nothing more from this connection, which only then really closes. Blocks."""
        for number in self._registered.pop(id(connection), []):
            try:
                connection.domainEventDeregisterAny(number)
            except libvirt.libvirtError:
                pass  # the connection is dead

    @contextmanager
    def listen(self, uuid: str) -> Iterator[Ear]:
        """Hear every event of one domain, in order, while the context lasts."""
        ear = Ear(uuid)
        self._ears.setdefault(uuid, []).append(ear)
        try:
            yield ear
        finally:
            self._ears[uuid].remove(ear)
            if not self._ears[uuid]:
                del self._ears[uuid]

    def _callback(self, name: str) -> Callable[..., None]:
        def heard(_connection: Any, domain: Any, *details: Any) -> None:
            # Here, and not on the loop: what was read by a call that began between the two has seen the change.
            stamp = self._clock.stamp()
            code = details[0] if details and isinstance(details[0], int) else None
            text = details[0] if details and isinstance(details[0], str) else ""
            status = details[2] if name == "BLOCK_JOB_2" else None
            fields = details[0] if details and isinstance(details[0], dict) else {}
            self.push(RawEvent(uuid=domain.UUIDString(), name=name, stamp=stamp, code=code, text=text, status=status, fields=fields))

        return heard

    def push(self, event: RawEvent) -> None:
        """Take one event, from any thread."""
        with self._lock:
            if len(self._pending) >= MAX_PENDING:
                self._lost = True
            else:
                self._pending.append(event)
            if self._scheduled:
                return
            self._scheduled = True
        try:
            self._loop.call_soon_threadsafe(self._flush)
        except RuntimeError:
            pass  # the loop is closed: nobody is left to tell

    def _flush(self) -> None:
        with self._lock:
            batch, self._pending = self._pending, deque()
            lost, self._lost = self._lost, False
            self._scheduled = False
        changes: dict[tuple[str, Change], RawEvent] = {}
        for event in batch:
            for ear in self._ears.get(event.uuid, ()):
                ear.heard.put_nowait(event)
            changes[event.uuid, event.change] = event
        if not self.open:
            return
        for (uuid, change), event in changes.items():
            self._deliver(DomainChanged(uuid=uuid, change=change, detail=event.text, stamp=event.stamp))
        if lost:
            self._deliver(EventsLost())
