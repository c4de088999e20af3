"""Lanes: caps, order, stuck calls, lost connections."""

import asyncio
import threading
from collections.abc import Callable

import libvirt
import pytest

from virtrpc_drivers.errors import DriverError, Fault, Reason
from virtrpc_drivers.libvirt import connections
from virtrpc_drivers.libvirt.connections import Lane, Lanes

BRIEF = 0.5
"""Seconds: enough for a thread to begin on a machine that is busy."""


class Connection:
    """As much of a connection as a lane looks at."""

    def __init__(self) -> None:
        self.alive = True
        self.closed = threading.Event()

    def isAlive(self) -> bool:  # noqa: N802 - libvirt's name
        return self.alive

    def unregisterCloseCallback(self) -> None:  # noqa: N802 - libvirt's name
        raise libvirt.libvirtError("none registered")

    def close(self) -> None:
        self.closed.set()


class Host:
    """Opens connections and remembers them; calls to it end when they are let go."""

    def __init__(self) -> None:
        self.opened: list[Connection] = []
        self.hangs = threading.Event()
        self.let_go = threading.Event()

    def open(self) -> Connection:
        self.opened.append(Connection())
        return self.opened[-1]

    def hang(self, _connection: Connection) -> str:
        self.hangs.set()
        assert self.let_go.wait(30)
        return "late"


async def turns(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds that threads and the loop bring about."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - threads bring it about
            await asyncio.sleep(0.001)


@pytest.mark.parametrize("cap", [1, 2])
async def test_a_lane_keeps_its_cap_and_order(cap: int) -> None:
    """No more than the cap at once; who waits is served in order of arrival."""
    host = Host()
    lane = Lane("test", host.open, cap=cap, patience=30)
    running = [asyncio.ensure_future(lane.call(host.hang)) for _ in range(cap)]
    order: list[int] = []
    waiting = [asyncio.ensure_future(lane.call(lambda _, number=number: order.append(number))) for number in range(5)]  # type: ignore[misc]
    await asyncio.sleep(0.02)
    assert order == []
    host.let_go.set()
    await asyncio.gather(*running, *waiting)
    # Two that are served at once may come to it in either order.
    assert order == list(range(5)) if cap == 1 else sorted(order) == list(range(5))
    assert len(host.opened) == 1


async def test_a_stuck_call_is_replaced_up_to_a_bound() -> None:
    """A call that does not come back gives its place up, on another connection where one is full; not for ever."""
    host = Host()
    lane = Lane("test", host.open, cap=1, per_link=1, replacements=2, patience=0.01)
    stuck = [asyncio.ensure_future(lane.call(host.hang)) for _ in range(4)]
    await turns(lambda: lane.stuck == 3)
    assert len(host.opened) == 3
    with pytest.raises(TimeoutError):
        await lane.bounded(lambda _: "answer", 0.05)
    host.let_go.set()
    assert await asyncio.gather(*stuck) == ["late"] * 4
    assert await lane.call(lambda _: "answer") == "answer"


async def test_work_opens_as_many_connections_as_it_needs() -> None:
    """Four calls share a connection, so that it is still read; the fifth gets another."""
    host = Host()
    lane = Lane("work", host.open, cap=None)
    calls = [asyncio.ensure_future(lane.call(host.hang)) for _ in range(5)]
    await turns(lambda: len(host.opened) == 2)
    host.let_go.set()
    await asyncio.gather(*calls)


async def test_an_abandoned_call_holds_no_place() -> None:
    """Who stops waiting leaves the call behind, and the next one goes at once."""
    host = Host()
    lane = Lane("test", host.open, cap=1, patience=30)
    with pytest.raises(TimeoutError):
        await lane.bounded(host.hang, BRIEF)
    assert lane.stuck == 1
    assert await lane.call(lambda _: "answer") == "answer"
    host.let_go.set()
    await turns(lambda: lane.stuck == 0)


async def test_stuck_calls_are_told() -> None:
    """How many threads are stuck in each lane, whenever that changes."""
    host = Host()
    lanes = Lanes(host.open)
    told: list[dict[str, int]] = []
    lanes.tell_stuck(told.append)
    lanes.reads.patience = 0.01
    calls = [asyncio.ensure_future(lanes.reads.call(host.hang)) for _ in range(2)]
    await turns(lambda: len(told) == 2)
    assert [lanes["reads"] for lanes in told] == [1, 2]
    assert told[-1].keys() == {lane.name for lane in lanes.all}
    host.let_go.set()
    await asyncio.gather(*calls)
    await turns(lambda: told[-1]["reads"] == 0)


async def test_a_dead_connection_is_opened_again() -> None:
    """The next call after a loss has a new connection; the old one is closed off the loop."""
    host = Host()
    lane = Lane("test", host.open, cap=1)
    await lane.call(lambda _: None)
    host.opened[0].alive = False
    assert await lane.call(lambda connection: connection) is host.opened[1]
    await turns(host.opened[0].closed.is_set)


async def test_a_connection_in_use_is_not_closed() -> None:
    """A lost connection is closed when the last call on it has returned: libvirt frees it under the hands of whoever uses it."""
    host = Host()
    lane = Lane("test", host.open, cap=2)
    out = asyncio.ensure_future(lane.call(host.hang))
    await turns(host.hangs.is_set)  # once it is opened, the lane may not have it yet
    lane.refuse(Fault(reason=Reason.HOST_UNREACHABLE, message="down"))
    lane.refuse(None)
    assert await lane.call(lambda connection: connection) is host.opened[1]
    assert not host.opened[0].closed.is_set()
    host.let_go.set()
    await out
    await turns(host.opened[0].closed.is_set)
    assert not host.opened[1].closed.is_set()


async def test_a_host_that_is_down_refuses_at_once() -> None:
    """While the host is down calls fail, also those that wait for a place; afterwards they work again."""
    host = Host()
    lane = Lane("test", host.open, cap=1, patience=30)
    out = asyncio.ensure_future(lane.call(host.hang))
    waiting = asyncio.ensure_future(lane.call(lambda _: None))
    await turns(lambda: len(host.opened) == 1)
    lane.refuse(Fault(reason=Reason.HOST_UNREACHABLE, message="down"))
    for call in (waiting, lane.call(lambda _: None)):
        with pytest.raises(DriverError, match="down"):
            await call
    lane.refuse(None)
    host.let_go.set()
    assert await out == "late"
    assert await lane.call(lambda _: "answer") == "answer"


async def test_an_opening_that_hangs_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call fails when its connection does not open in time, and never are two openings of one link out."""
    monkeypatch.setattr(connections, "OPEN_SECONDS", BRIEF)
    host = Host()
    begun: list[int] = []

    def slow() -> Connection:
        begun.append(1)
        host.let_go.wait(30)
        return host.open()

    lane = Lane("test", slow, cap=1)
    for _ in range(2):
        with pytest.raises(DriverError) as caught:
            await lane.call(lambda _: None)
        assert caught.value.reason is Reason.HOST_UNREACHABLE
    assert len(begun) == 1
    host.let_go.set()
    await turns(lambda: len(host.opened) == 1)
    assert await lane.call(lambda connection: connection) is host.opened[0]


async def test_whatever_keeps_a_connection_from_opening_is_unreachable() -> None:
    """Also an error that would be a plain failure elsewhere."""

    def refuse() -> Connection:
        error = libvirt.libvirtError("")
        error.err = (libvirt.VIR_ERR_INTERNAL_ERROR, libvirt.VIR_FROM_QEMU, "not active", 2, None, None, None, -1, -1)
        raise error

    with pytest.raises(DriverError) as caught:
        await Lane("test", refuse, cap=1).call(lambda _: None)
    assert (caught.value.reason, caught.value.fault.message) == (Reason.HOST_UNREACHABLE, "not active")
