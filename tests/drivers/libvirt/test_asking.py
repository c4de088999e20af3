"""Events that arrive late: what they tell of an earlier run ends no wait for the guest."""

from __future__ import annotations

import asyncio
import time

import libvirt
import pytest

from tests.drivers.bed import call_of, eventually
from virtrpc_drivers import operations as ops
from virtrpc_drivers.libvirt import asking
from virtrpc_drivers.libvirt.connections import Lanes
from virtrpc_drivers.libvirt.events import Ear, RawEvent
from virtrpc_drivers.libvirt.readings import Clock
from virtrpc_drivers.libvirt.runs import Run

DEVICE = "<disk type='file'><target dev='vdb'/><alias name='virtio-disk1'/></disk>"
UUID = "5d3f0f0e-0000-4000-8000-000000000001"


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "REREAD_SECONDS", 0.05)


class Guest:
    """A domain with a device. It is its own connection."""

    def __init__(self) -> None:
        self.identity, self.devices, self.looks = 3, DEVICE, 0

    def lookupByUUIDString(self, _uuid: str) -> Guest:  # noqa: N802 - libvirt's name
        return self

    def isActive(self) -> bool:  # noqa: N802 - libvirt's name
        self.looks += 1
        return self.identity != -1

    def isAlive(self) -> bool:  # noqa: N802 - libvirt's name
        return True

    def getType(self) -> str:  # noqa: N802 - libvirt's name
        return "QEMU"

    def ID(self) -> int:  # noqa: N802 - libvirt's name
        return self.identity

    def XMLDesc(self, _flags: int) -> str:  # noqa: N802 - libvirt's name
        return f"<domain><devices>{self.devices}</devices></domain>"


class Waiting:
    """A verb that has asked this guest, and waits."""

    def __init__(self, operation: ops.AnyOperation) -> None:
        self.guest, self.ear = Guest(), Ear(UUID)
        asked = asking.question(self.guest, operation)
        assert asked is not None
        run = Run(call_of(operation, wait_guest=60.0), abortable=True, asks=True, began=time.monotonic())
        run.gave_up = asyncio.get_running_loop().create_future()
        self.task = asyncio.create_task(asking.wait(run, asked, self.ear, Lanes(lambda: self.guest)))

    def hear(self, name: str, code: int | None = None, *, text: str = "", ago: float = 0.0) -> None:
        """An event that came in so many seconds ago."""
        now = Clock(0).stamp()
        stamp = type(now)(now.process, now.monotonic - ago, now.wall - ago)
        self.ear.heard.put_nowait(RawEvent(UUID, name, stamp, code, text))

    async def goes_on(self) -> None:
        """It looks at the guest, and, since that shows nothing, once more."""
        looks = self.guest.looks

        async def looked_twice() -> bool:
            return self.guest.looks >= looks + 2

        await eventually(looked_twice, "two looks at the guest")
        assert not self.task.done()


STOPPED, STARTED = libvirt.VIR_DOMAIN_EVENT_STOPPED, libvirt.VIR_DOMAIN_EVENT_STARTED
SHUTDOWN, REBOOT, DETACH = ops.Shutdown(uuid=UUID), ops.Reboot(uuid=UUID), ops.DetachDevice(uuid=UUID, xml=DEVICE)


@pytest.mark.parametrize(("operation", "code"), [(SHUTDOWN, STOPPED), (REBOOT, STARTED), (DETACH, STOPPED)])
async def test_a_late_event_of_an_earlier_run_is_no_answer(operation: ops.AnyOperation, code: int) -> None:
    """The guest is looked at, and it runs as before: the verb waits on, and ends once the guest is another one or off."""
    waiting = Waiting(operation)
    waiting.hear("LIFECYCLE", code)
    await waiting.goes_on()
    waiting.guest.identity = 4
    waiting.hear("LIFECYCLE", code)
    await waiting.task


@pytest.mark.parametrize(("operation", "name", "text"), [(REBOOT, "REBOOT", ""), (DETACH, "DEVICE_REMOVED", "virtio-disk1")])
async def test_an_event_from_before_the_call_is_no_answer(operation: ops.AnyOperation, name: str, text: str) -> None:
    """One that came in before the guest was asked is another's; the same one afterwards is the answer."""
    waiting = Waiting(operation)
    waiting.hear(name, text=text, ago=10.0)
    await waiting.goes_on()
    waiting.hear(name, text=text)
    await waiting.task


async def test_a_guest_that_goes_off_has_shut_down() -> None:
    """Its event brings about the look that sees it."""
    waiting = Waiting(SHUTDOWN)
    waiting.guest.identity = -1
    waiting.hear("LIFECYCLE", STOPPED)
    await waiting.task
