"""How events leave the simulated hypervisor: through a thread of its own, or as loop callbacks in an order that a seed decides."""

from __future__ import annotations

import asyncio
import queue
import random
import threading
from collections.abc import Callable
from typing import Literal, Protocol

import msgspec

from virtrpc_drivers.protocol import Change, DomainChanged
from virtrpc_drivers.sim.faults import ANY
from virtrpc_drivers.values import Stamp, Value

Sink = Callable[[DomainChanged], None]
Clock = Callable[[], Stamp]


class Deliverer(Protocol):
    """Carries events to the loop on which their receiver lives."""

    def put(self, loop: asyncio.AbstractEventLoop, sink: Sink, event: DomainChanged) -> None:
        """Have `sink(event)` called on `loop`, soon."""

    def close(self) -> None:
        """Stop; events on their way are dropped."""


class ThreadDeliverer:
    """One thread, as libvirt's event loop is: events keep their order and arrive at any moment."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[tuple[asyncio.AbstractEventLoop, Sink, DomainChanged] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def put(self, loop: asyncio.AbstractEventLoop, sink: Sink, event: DomainChanged) -> None:
        """See Deliverer.put."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="sim-events", daemon=True)
            self._thread.start()
        self._queue.put((loop, sink, event))

    def close(self) -> None:
        """See Deliverer.close. Waits for the thread, which never blocks on anything else."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            loop, sink, event = item
            try:
                loop.call_soon_threadsafe(sink, event)
            except RuntimeError:
                pass  # that loop has ended, and its receiver with it


class LoopDeliverer:
    """Loop callbacks, each up to `spread` seconds late: with virtual time, a seed gives the same disorder every time."""

    def __init__(self, seed: int = 0, spread: float = 0.01) -> None:
        self._random, self._spread = random.Random(seed), spread
        self._handles: set[asyncio.TimerHandle] = set()

    def put(self, loop: asyncio.AbstractEventLoop, sink: Sink, event: DomainChanged) -> None:
        """See Deliverer.put."""

        def deliver() -> None:
            self._handles.discard(handle)
            sink(event)

        handle = loop.call_later(self._random.random() * self._spread, deliver)
        self._handles.add(handle)

    def close(self) -> None:
        """See Deliverer.close."""
        for handle in self._handles:
            handle.cancel()
        self._handles.clear()


class EventRule(Value, frozen=True):
    """What happens to events on their way: dropped, sent twice, sent `seconds` late, or held back until another has passed."""

    action: Literal["drop", "repeat", "delay", "reorder"]
    uuid: str = ANY
    change: Change | None = None
    seconds: float = 0.0
    times: int | None = None


class Events:
    """The receivers of one host's events, and what goes wrong on the way to them."""

    def __init__(self, deliverer: Deliverer) -> None:
        self._deliverer = deliverer
        self._sinks: dict[Sink, tuple[asyncio.AbstractEventLoop, Clock]] = {}
        self._timers: set[asyncio.TimerHandle] = set()
        self._held: list[DomainChanged] = []
        self.rules: list[EventRule] = []

    def subscribe(self, sink: Sink, clock: Clock) -> None:
        """Have events delivered to `sink` on the running loop, each with the stamp of the moment at which it came out of the hypervisor."""
        self._sinks[sink] = (asyncio.get_running_loop(), clock)

    def unsubscribe(self, sink: Sink) -> None:
        """No more events for `sink`."""
        self._sinks.pop(sink, None)

    def emit(self, uuid: str, change: Change, detail: str = "") -> None:
        """Something happened."""
        event = DomainChanged(uuid=uuid, change=change, detail=detail)
        rule = self._rule(event)
        if rule is None:
            self._send(event)
            self.flush()
        elif rule.action == "repeat":
            self._send(event)
            self._send(event)
        elif rule.action == "reorder":
            self._held.append(event)
        elif rule.action == "delay":
            self._later(rule.seconds, event)

    def flush(self) -> None:
        """Send what was held back."""
        held, self._held = self._held, []
        for event in held:
            self._send(event)

    def close(self) -> None:
        """Drop everything and stop."""
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        self._sinks.clear()
        # What ends later, such as a migration from elsewhere, is heard by nobody, and delayed by nothing.
        self.rules.clear()
        self._deliverer.close()

    def _rule(self, event: DomainChanged) -> EventRule | None:
        for index, rule in enumerate(self.rules):
            if rule.uuid in (ANY, event.uuid) and rule.change in (None, event.change):
                if rule.times is not None:
                    self.rules[index : index + 1] = [msgspec.structs.replace(rule, times=rule.times - 1)] if rule.times > 1 else []
                return rule
        return None

    def _later(self, seconds: float, event: DomainChanged) -> None:
        def send() -> None:
            self._timers.discard(timer)
            self._send(event)

        timer = asyncio.get_running_loop().call_later(seconds, send)
        self._timers.add(timer)

    def _send(self, event: DomainChanged) -> None:
        for sink, (loop, clock) in self._sinks.items():
            self._deliverer.put(loop, sink, msgspec.structs.replace(event, stamp=clock()))
