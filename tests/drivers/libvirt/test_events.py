"""From libvirt's event thread to the loop."""

import asyncio
import threading
from collections.abc import Callable

import libvirt

from virtrpc_drivers.libvirt import events
from virtrpc_drivers.libvirt.events import Events, RawEvent
from virtrpc_drivers.libvirt.readings import Clock
from virtrpc_drivers.protocol import AnyNotice, Change, DomainChanged, EventsLost

CLOCK = Clock(7)


def event(uuid: str, name: str, code: int | None = None, text: str = "") -> RawEvent:
    """One that comes in now."""
    return RawEvent(uuid, name, CLOCK.stamp(), code, text)


async def drained(source: Events, from_thread: list[RawEvent]) -> None:
    """Push from another thread, as libvirt does, and let the loop take what came."""

    def push() -> None:
        for event in from_thread:
            source.push(event)

    pushing = threading.Thread(target=push)
    pushing.start()
    pushing.join()
    await asyncio.sleep(0)
    await asyncio.sleep(0)


async def test_events_of_one_moment_are_told_once() -> None:
    """A burst becomes one notice for each domain and kind of change."""
    heard: list[AnyNotice] = []
    source = Events(heard.append, CLOCK)
    source.open = True
    burst = [event("u", "LIFECYCLE", code=libvirt.VIR_DOMAIN_EVENT_RESUMED)] * 500 + [event("v", "BALLOON_CHANGE")] * 500
    await drained(source, [*burst, event("u", "LIFECYCLE", code=libvirt.VIR_DOMAIN_EVENT_DEFINED)])
    changes = [(notice.uuid, notice.change) for notice in heard if isinstance(notice, DomainChanged)]
    assert changes == [("u", Change.LIFECYCLE), ("v", Change.BALLOON), ("u", Change.DEFINED)]


async def test_operations_hear_every_event() -> None:
    """What listens to one domain hears each of its events, in order, and nothing of others; also while the server hears nothing."""
    heard: list[AnyNotice] = []
    source = Events(heard.append, CLOCK)
    aliases = [f"disk{number}" for number in range(50)]
    with source.listen("u") as ear:
        await drained(source, [event(uuid, "DEVICE_REMOVED", text=alias) for alias in aliases for uuid in ("u", "v")])
        assert [ear.heard.get_nowait().text for _ in aliases] == aliases
        assert ear.heard.empty()
    assert heard == []


async def test_too_many_events_are_said_to_be_lost() -> None:
    """More than can wait are dropped, and the server is told to look again."""
    heard: list[AnyNotice] = []
    source = Events(heard.append, CLOCK)
    source.open = True
    await drained(source, [event(str(number), "REBOOT") for number in range(events.MAX_PENDING + 1)])
    assert len(heard) == events.MAX_PENDING + 1
    assert isinstance(heard[-1], EventsLost)


class Speaker:
    """A connection whose events a test sends."""

    def __init__(self) -> None:
        self.callbacks: list[Callable[..., None]] = []

    def domainEventRegisterAny(self, _domain: None, _number: int, callback: Callable[..., None], _opaque: None) -> int:  # noqa: N802 - libvirt's name
        self.callbacks.append(callback)
        return len(self.callbacks)

    def UUIDString(self) -> str:  # noqa: N802 - libvirt's name
        return "u"


async def test_an_event_carries_the_moment_at_which_it_came_in() -> None:
    """On the clock of readings, taken on libvirt's thread: a read that begins before the loop hears of the event has seen the change."""
    heard: list[AnyNotice] = []
    source, speaker = Events(heard.append, CLOCK), Speaker()
    source.open = True
    source.register(speaker)
    before = CLOCK.stamp()
    calling = threading.Thread(target=lambda: speaker.callbacks[0](speaker, speaker))
    calling.start()
    calling.join()
    reading = CLOCK.stamp()
    await asyncio.sleep(0)
    (notice,) = heard
    assert isinstance(notice, DomainChanged)
    assert notice.stamp is not None
    assert before < notice.stamp < reading
