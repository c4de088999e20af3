"""The driver as a whole, on libvirt's own mock in this process."""

import asyncio
import time
import uuid as uuids
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.drivers.bed import Notices, call_of, eventually
from virtrpc_drivers import operations as ops
from virtrpc_drivers.errors import DriverError, Fault, Reason
from virtrpc_drivers.libvirt import LibvirtDriver, asking, readings
from virtrpc_drivers.libvirt.calls import _judged
from virtrpc_drivers.protocol import DriverSettings, HostDown, HostUp, Report, Spans
from virtrpc_drivers.values import Group, Phase, State

URI = "test:///default"
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Mock:
    """A driver, what it said, and a running domain of its own."""

    def __init__(self, **settings: Any) -> None:
        self.notices = Notices()
        self.driver = LibvirtDriver(DriverSettings(uri=URI, **settings))
        self.uuid = str(uuids.uuid4())

    async def open(self) -> None:
        await self.driver.start(self.notices)
        await self.notices.until(HostUp)
        xml = f"<domain type='test'><name>{self.uuid}</name><uuid>{self.uuid}</uuid><memory>8192</memory><os><type>hvm</type></os></domain>"
        await self.driver.run(call_of(ops.Define(uuid=self.uuid, name=self.uuid, xml=xml)))
        await self.driver.run(call_of(ops.Start(uuid=self.uuid)))

    async def state(self) -> State:
        reading = (await self.driver.read([self.uuid], Group.STATE)).found[0].state
        assert reading is not None
        return reading.state

    async def resumed(self, operation: ops.AnyOperation, began: float | None = None) -> Reason | None:
        """What became of a call: None for a proven success."""
        try:
            await self.driver.resume(call_of(operation, began=began))
        except DriverError as error:
            return error.reason
        return None

    async def close(self) -> None:
        for operation in (ops.Destroy(uuid=self.uuid), ops.Undefine(uuid=self.uuid, managed_save=True, snapshots_metadata=True)):
            try:
                await self.driver.run(call_of(operation))
            except DriverError:
                pass  # it is off, or gone, already
        await self.driver.close()


@pytest_asyncio.fixture
async def mock() -> AsyncIterator[Mock]:
    """A mock, connected, with a running domain."""
    made = Mock(tracing=True)
    await made.open()
    yield made
    await made.close()


async def test_proofs(mock: Mock) -> None:
    """A success is concluded from what can be read, and only from that."""
    uuid = mock.uuid
    snapshot = ops.CreateSnapshot(uuid=uuid, name="s", xml="<domainsnapshot><name>s</name></domainsnapshot>")
    steps: list[tuple[ops.AnyOperation, bool]] = [
        (ops.Suspend(uuid=uuid), True),
        (ops.Resume(uuid=uuid), True),
        (ops.SetMemory(uuid=uuid, memory_bytes=4 << 20), True),
        (snapshot, True),
        (ops.DeleteSnapshot(uuid=uuid, name="s"), True),
        (ops.ManagedSave(uuid=uuid), True),
        (ops.RemoveManagedSave(uuid=uuid), True),
        (ops.Start(uuid=uuid), True),
        (ops.SetUserPassword(uuid=uuid, user="root", password="p"), False),
        (ops.Destroy(uuid=uuid), True),
        (ops.Undefine(uuid=uuid), True),
    ]
    for operation, provable in steps:
        began = time.time()
        before = await mock.resumed(operation) if operation.verb not in ("DeleteSnapshot", "SetUserPassword") else Reason.INTERRUPTED
        assert before is Reason.INTERRUPTED, operation.verb
        await mock.driver.run(call_of(operation))
        assert await mock.resumed(operation, began) is (None if provable else Reason.INTERRUPTED), operation.verb


async def test_an_older_snapshot_proves_nothing(mock: Mock) -> None:
    """A snapshot of that name which was there before the call is not the one that the call was to make."""
    snapshot = ops.CreateSnapshot(uuid=mock.uuid, name="s", xml="<domainsnapshot><name>s</name></domainsnapshot>")
    began = time.time()
    await mock.driver.run(call_of(snapshot))
    assert await mock.resumed(snapshot, began) is None
    assert await mock.resumed(snapshot, time.time() + 1) is Reason.INTERRUPTED


async def test_a_definition_is_proven_by_what_is_stored(mock: Mock) -> None:
    """The same definition is a success, another one is not."""
    xml = "<domain type='test'><name>{0}</name><uuid>{0}</uuid><memory unit='{1}'>8</memory><os><type>hvm</type></os></domain>"
    assert await mock.resumed(ops.Define(uuid=mock.uuid, name="x", xml=xml.format(mock.uuid, "MiB"))) is None
    assert await mock.resumed(ops.Define(uuid=mock.uuid, name="x", xml=xml.format(mock.uuid, "GiB"))) is Reason.INTERRUPTED


async def test_the_wait_for_the_guest_ends_when_it_is_cancelled(mock: Mock, monkeypatch: pytest.MonkeyPatch) -> None:
    """An asking verb reports that it waits, holds no place meanwhile, and a cancel ends the wait alone."""
    monkeypatch.setattr(asking, "question", lambda *_: asking.Question("do it", lambda _: False, lambda _: False, lambda _: False))
    call = call_of(ops.Shutdown(uuid=mock.uuid))
    running = asyncio.ensure_future(mock.driver.run(call))
    report = await mock.notices.until(Report, lambda report: report.call_id == call.id)
    assert (report.phase, report.abortable) == (Phase.WAITING_GUEST, True)
    assert (await mock.driver.cancel(call.id)).sent
    assert (await mock.driver.cancel(call.id)).sent
    with pytest.raises(DriverError, match="may still") as caught:
        await running
    assert caught.value.reason is Reason.ABORTED


async def test_a_guest_that_does_not_obey_times_out(mock: Mock, monkeypatch: pytest.MonkeyPatch) -> None:
    """After `wait_guest` seconds the operation fails; the guest may still do it."""
    monkeypatch.setattr(asking, "question", lambda *_: asking.Question("do it", lambda _: False, lambda _: False, lambda _: False))
    with pytest.raises(DriverError) as caught:
        await mock.driver.run(call_of(ops.Shutdown(uuid=mock.uuid), wait_guest=0.05))
    assert caught.value.reason is Reason.GUEST_TIMEOUT


async def test_a_reread_sees_what_no_event_said(mock: Mock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no event comes, the slow look at the domain ends the wait."""
    monkeypatch.setattr(asking, "REREAD_SECONDS", 0.01)
    looks = iter([False, False, True])
    monkeypatch.setattr(asking, "question", lambda *_: asking.Question("do it", lambda _: False, lambda _: False, lambda _: next(looks)))
    await mock.driver.run(call_of(ops.Shutdown(uuid=mock.uuid)))
    assert not list(looks)


async def test_an_abandoned_operation_goes_on(mock: Mock) -> None:
    """A caller that leaves does not undo what was sent."""
    caller = asyncio.ensure_future(mock.driver.run(call_of(ops.Suspend(uuid=mock.uuid))))
    await asyncio.sleep(0)
    caller.cancel()

    async def paused() -> bool:
        return await mock.state() is State.PAUSED

    await eventually(paused, "the suspend that nobody waits for")


async def test_spans_belong_to_the_callers_trace(mock: Mock) -> None:
    """With tracing on, an operation with a sampled parent is one span, a failed one says why; without a parent there is none."""
    mark = len(mock.notices.seen)
    await mock.driver.run(call_of(ops.Suspend(uuid=mock.uuid)))
    await mock.driver.run(call_of(ops.Resume(uuid=mock.uuid), traceparent=TRACEPARENT))
    with pytest.raises(DriverError):
        await mock.driver.run(call_of(ops.RemoveManagedSave(uuid=mock.uuid), traceparent=TRACEPARENT))
    first, second = (notice.spans[0] for notice in mock.notices.since(mark, Spans))
    assert (first.trace_id, first.parent_id, first.error) == (TRACEPARENT[3:35], TRACEPARENT[36:52], None)
    assert first.attributes["libvirt.function"] == "virDomainResume"
    assert first.attributes["virtrpc.domain.uuid"] == mock.uuid
    assert first.start_ns <= first.end_ns <= time.time_ns()
    assert second.error == Reason.WRONG_STATE


async def test_stamps_carry_the_process_and_grow(mock: Mock) -> None:
    """A later reading has a later stamp."""
    first = (await mock.driver.read([mock.uuid], Group.STATE)).found[0].stamp
    second = (await mock.driver.read([mock.uuid], Group.CONFIG)).found[0].stamp
    assert first < second


async def test_a_long_answer_names_what_it_did_not_look_at(mock: Mock, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer stops at its size, and the rest can be asked for again."""
    monkeypatch.setattr(readings, "ANSWER_BYTES", 1)
    answer = await mock.driver.read([mock.uuid, "x", "y"], Group.STATE)
    assert ([found.uuid for found in answer.found], answer.rest) == ([mock.uuid], ("x", "y"))


async def test_a_host_that_cannot_be_opened_is_down_first() -> None:
    """The first notice is HostDown with libvirt's words, and calls are refused at once."""
    notices, driver = Notices(), LibvirtDriver(DriverSettings(uri="qemu+unix:///system?socket=/nowhere/at/all"))
    await driver.start(notices)
    down = await notices.until(HostDown)
    assert notices.seen == [down]
    assert (down.fault.reason, down.process_lost) == (Reason.HOST_UNREACHABLE, False)
    with pytest.raises(DriverError) as caught:
        await driver.list()
    assert caught.value.reason is Reason.HOST_UNREACHABLE
    await driver.close()


async def test_an_embedded_driver_that_cannot_start_gives_its_process_up() -> None:
    """libvirt starts the embedded driver once a process: after a failure only a new process can try again."""
    given_up = asyncio.Event()
    notices, driver = Notices(), LibvirtDriver(DriverSettings(uri="qemu:///embed?root=not/absolute"), given_up.set)
    await driver.start(notices)
    async with asyncio.timeout(30):
        await given_up.wait()
    assert isinstance(notices.seen[0], HostDown)
    await driver.close()


@pytest.mark.parametrize(("alive", "reason"), [(False, Reason.DRIVER_LOST), (True, Reason.FAILED)])
def test_a_connection_that_breaks_under_a_call_leaves_it_open(alive: bool, reason: Reason) -> None:
    """Nobody knows what became of it; where our connection lives, it was another host's that broke (a migration's)."""
    assert _judged(Fault(reason=Reason.HOST_UNREACHABLE, message="broke"), alive).reason is reason
    assert _judged(Fault(reason=Reason.HOST_UNREACHABLE, message="broke"), True, away=True).reason is Reason.HOST_UNREACHABLE
    assert _judged(Fault(reason=Reason.FOREIGN_JOB, message="held"), alive).reason is Reason.FOREIGN_JOB
