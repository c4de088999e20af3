"""A host's connection: whatever goes wrong while it is made, it is let go, said, and tried again."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import NoReturn

import libvirt
import pytest

from tests.drivers.bed import Notices, eventually
from virtrpc_drivers.errors import DriverError, Reason
from virtrpc_drivers.libvirt import capabilities
from virtrpc_drivers.libvirt import host as host_module
from virtrpc_drivers.libvirt.calls import Started
from virtrpc_drivers.libvirt.connections import Link
from virtrpc_drivers.libvirt.events import Events
from virtrpc_drivers.libvirt.host import Host
from virtrpc_drivers.libvirt.readings import Clock
from virtrpc_drivers.protocol import DriverSettings, HostDown, HostUp
from virtrpc_drivers.values import HostInfo


class Connection:
    """As much of a connection as a host looks at; counts what is registered on it."""

    def __init__(self) -> None:
        self.registered = 0
        self.closed = False
        self.alive: Callable[[], bool] = lambda: True

    def domainEventRegisterAny(self, *_: object) -> int:  # noqa: N802 - libvirt's name
        self.registered += 1
        return self.registered

    def domainEventDeregisterAny(self, _number: int) -> None:  # noqa: N802 - libvirt's name
        self.registered -= 1

    def registerCloseCallback(self, *_: object) -> None:  # noqa: N802 - libvirt's name
        pass

    def unregisterCloseCallback(self) -> None:  # noqa: N802 - libvirt's name
        pass

    def setKeepAlive(self, *_: int) -> int:  # noqa: N802 - libvirt's name
        return 0

    def isAlive(self) -> bool:  # noqa: N802 - libvirt's name
        return self.alive()

    def close(self) -> None:
        assert not self.registered, "closed while events are registered on it"
        self.closed = True


class Scene:
    """A host that keeps connecting, what it said, and all its connections."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.opened: list[Connection] = []
        self.notices = Notices()
        monkeypatch.setattr(host_module, "run_event_loop", lambda: None)
        monkeypatch.setattr(host_module, "FIRST_BACK_OFF", 0.001)
        monkeypatch.setattr(libvirt, "open", self.open)
        monkeypatch.setattr(capabilities, "host_info", self.info)
        monkeypatch.setattr(capabilities, "with_description", lambda _, info: info)
        self.introduce: Callable[[], None] = lambda: None
        self.host = Host(DriverSettings(uri="qemu:///system"))
        self.connecting = asyncio.ensure_future(self.host.stay_connected(self.notices, Events(self.notices, Clock(0))))

    def open(self, _uri: str) -> Connection:
        self.opened.append(Connection())
        return self.opened[-1]

    def info(self, *_: object) -> HostInfo:
        self.introduce()
        return HostInfo(uri="qemu:///system", hypervisor="QEMU")

    async def let_go(self, count: int) -> None:
        """Wait until so many connections are closed, with nothing registered on them."""

        async def all_closed() -> bool:
            return sum(connection.closed and not connection.registered for connection in self.opened) >= count

        await eventually(all_closed, "connections that are let go")


@asynccontextmanager
async def scene(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    """The same, ended after the test."""
    made = Scene(monkeypatch)
    yield made
    made.connecting.cancel()
    await asyncio.gather(made.connecting, return_exceptions=True)
    await made.let_go(len(made.opened))


def libvirt_error() -> NoReturn:
    """What libvirt raises where it cannot read an answer."""
    error = libvirt.libvirtError("")
    error.err = (libvirt.VIR_ERR_SYSTEM_ERROR, libvirt.VIR_FROM_RPC, "cannot recv data", 2, None, None, None, -1, -1)
    raise error


def odd_answer() -> NoReturn:
    """What nobody expects."""
    raise ValueError("odd answer")


def hang(until: threading.Event) -> None:
    """An answer that does not come for long."""
    assert until.wait(30)


@pytest.mark.parametrize("failing", [libvirt_error, odd_answer])
async def test_a_failed_introduction_leaves_no_connection(failing: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each connection on which the host did not say what it is is closed, and heard no more; the next attempt comes up."""
    async with scene(monkeypatch) as made:
        made.introduce = failing
        await made.let_go(3)
        made.introduce = lambda: None
        await made.notices.until(HostUp)
        assert [connection.closed for connection in made.opened] == [True] * (len(made.opened) - 1) + [False]
        assert made.opened[-1].registered


async def test_an_introduction_that_hangs_is_let_go_when_it_returns(monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection is in use until then: it is not closed under the call, and not forgotten either."""
    async with scene(monkeypatch) as made:
        monkeypatch.setattr(host_module, "OPEN_SECONDS", 0.5)
        returns = threading.Event()
        made.introduce = lambda: hang(returns)
        assert (await made.notices.until(HostDown)).fault.message == "the hypervisor does not say what it is"
        assert not made.opened[0].closed
        returns.set()
        await made.let_go(1)
        await made.notices.until(HostUp)


async def test_an_unexpected_error_is_told_logged_and_tried_again(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """The host is down for it, with its words; once, however often it is tried; the log has the traceback."""
    async with scene(monkeypatch) as made:
        made.introduce = odd_answer
        await made.let_go(3)
        (down,) = made.notices.seen
        assert isinstance(down, HostDown)
        assert (down.fault.reason, down.fault.message) == (Reason.HOST_UNREACHABLE, "the connection failed unexpectedly: ValueError: odd answer")
        assert any(record.levelno == logging.ERROR and record.exc_info for record in caplog.records)
        made.introduce = lambda: None
        await made.notices.until(HostUp)


async def test_an_unexpected_error_of_a_connected_host_takes_it_down(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its connection is let go, and the host comes up again over another."""
    monkeypatch.setattr(host_module, "CHECK_SECONDS", 0.001)
    async with scene(monkeypatch) as made:
        await made.notices.until(HostUp)
        made.opened[0].alive = odd_answer
        down = await made.notices.until(HostDown)
        assert down.fault.message == "the connection failed unexpectedly: ValueError: odd answer"
        with pytest.raises(DriverError, match="was lost"):
            await made.host.lanes.reads.call(lambda _: None)
        await made.let_go(1)
        await made.notices.until(HostUp, since=made.notices.seen.index(down))


async def test_a_description_that_cannot_be_read_costs_only_itself(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """The host is up with what it said at first."""
    async with scene(monkeypatch) as made:
        monkeypatch.setattr(capabilities, "with_description", lambda *_: odd_answer())
        up = await made.notices.until(HostUp)
        assert (up.info.hypervisor, made.notices.since(0, HostDown)) == ("QEMU", [])
        assert "odd answer" in caplog.text


async def test_an_opening_that_fails_unexpectedly_is_tried_again() -> None:
    """A link does not keep the failed attempt."""
    attempts: list[Callable[[], object]] = [odd_answer, Connection]

    def attempt() -> object:
        return attempts.pop(0)()

    link = Link(attempt)
    with pytest.raises(ValueError, match="odd answer"):
        await link.open()
    assert isinstance(await link.take(), Connection)


@pytest.mark.parametrize("hangs", [False, True])
async def test_a_driver_is_closed_once_its_connection_is(monkeypatch: pytest.MonkeyPatch, hangs: bool) -> None:
    """Its process ends then, and libvirtd may crash where its client ends in the midst of a call. One that hangs is waited for for a while only."""
    asked, answers, deregister = threading.Event(), threading.Event(), Connection.domainEventDeregisterAny

    def slowly(connection: Connection, number: int) -> None:
        asked.set()
        hang(answers)
        deregister(connection, number)

    async with scene(monkeypatch) as made:
        monkeypatch.setattr(Connection, "domainEventDeregisterAny", slowly)
        monkeypatch.setattr(host_module, "PARTING_SECONDS", 0.01 if hangs else 60.0)
        heard = Notices()
        driver = Started(DriverSettings(uri="qemu:///system"), heard, Clock(0), None)
        await heard.until(HostUp)
        connection = made.opened[-1]
        closing = asyncio.ensure_future(driver.close())
        if not hangs:
            await asyncio.to_thread(asked.wait)
            answers.set()
        await closing
        assert connection.closed is not hangs
        answers.set()
