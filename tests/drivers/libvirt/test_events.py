"""From libvirt's event thread to the loop."""

import asyncio
import threading

import libvirt

from virtrpc_drivers.libvirt import events
from virtrpc_drivers.libvirt.events import Events, RawEvent
from virtrpc_drivers.protocol import AnyNotice, Change, DomainChanged, EventsLost


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
    source = Events(heard.append)
    source.open = True
    burst = [RawEvent("u", "LIFECYCLE", code=libvirt.VIR_DOMAIN_EVENT_RESUMED)] * 500 + [RawEvent("v", "BALLOON_CHANGE")] * 500
    await drained(source, [*burst, RawEvent("u", "LIFECYCLE", code=libvirt.VIR_DOMAIN_EVENT_DEFINED)])
    changes = [(notice.uuid, notice.change) for notice in heard if isinstance(notice, DomainChanged)]
    assert changes == [("u", Change.LIFECYCLE), ("v", Change.BALLOON), ("u", Change.DEFINED)]


async def test_operations_hear_every_event() -> None:
    """What listens to one domain hears each of its events, in order, and nothing of others; also while the server hears nothing."""
    heard: list[AnyNotice] = []
    source = Events(heard.append)
    aliases = [f"disk{number}" for number in range(50)]
    with source.listen("u") as ear:
        await drained(source, [RawEvent(uuid, "DEVICE_REMOVED", text=alias) for alias in aliases for uuid in ("u", "v")])
        assert [ear.heard.get_nowait().text for _ in aliases] == aliases
        assert ear.heard.empty()
    assert heard == []


async def test_too_many_events_are_said_to_be_lost() -> None:
    """More than can wait are dropped, and the server is told to look again."""
    heard: list[AnyNotice] = []
    source = Events(heard.append)
    source.open = True
    await drained(source, [RawEvent(str(number), "REBOOT") for number in range(events.MAX_PENDING + 1)])
    assert len(heard) == events.MAX_PENDING + 1
    assert isinstance(heard[-1], EventsLost)
