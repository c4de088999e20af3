"""The life of one host's connection: opened, watched, opened again; every lane lives and falls with it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import libvirt

from virtrpc_drivers.errors import DriverError, Fault, Reason
from virtrpc_drivers.libvirt import capabilities, shared
from virtrpc_drivers.libvirt.connections import OPEN_SECONDS, Connection, Lanes, Link, close
from virtrpc_drivers.libvirt.errors import driver_error
from virtrpc_drivers.libvirt.events import Events, run_event_loop
from virtrpc_drivers.libvirt.threads import in_thread
from virtrpc_drivers.protocol import Deliver, DriverSettings, HostDown, HostUp
from virtrpc_drivers.values import HostInfo

FIRST_BACK_OFF = 0.2
LONGEST_BACK_OFF = 10.0
CHECK_SECONDS = 5.0
"""How often a connection without a close callback is asked whether it lives."""
DESCRIPTION_SECONDS = 1.0
"""HostUp does not wait longer for the slow part of a host's description."""
PARTING_SECONDS = 2.0
NOT_YET = Fault(reason=Reason.HOST_UNREACHABLE, message="the connection to the hypervisor has not been opened yet")
LOST = Fault(reason=Reason.HOST_UNREACHABLE, message="the connection to the hypervisor was lost")

logger = logging.getLogger(__name__)


class Host:
    """Keeps the host connected and says so. `give_up` is called where only a new process can connect again."""

    def __init__(self, settings: DriverSettings, give_up: Callable[[], None] | None = None) -> None:
        self._settings = settings
        self._give_up = give_up
        self._loop = asyncio.get_running_loop()
        self._lost = asyncio.Event()
        self._opener = shared.Shared(settings.uri, self._open).open if shared.is_needed(settings.uri) else self._open
        self.lanes = Lanes(self._opener) if capabilities.daemon_of(settings.uri) is None else Lanes(self._opener, per_link=1)
        self.lanes.refuse(NOT_YET)
        self._partings: set[asyncio.Task[None]] = set()
        self.info: HostInfo | None = None
        """What the host said when it was last connected."""

    def _open(self) -> Connection:
        run_event_loop()
        opener = libvirt.openReadOnly if self._settings.read_only else libvirt.open
        connection = opener(self._settings.uri)
        capabilities.supports_keepalive(connection)
        return connection

    async def stay_connected(self, deliver: Deliver, events: Events) -> None:
        """Connect, and connect again whenever the connection is lost, until cancelled."""
        link = Link(self._opener)
        back_off = FIRST_BACK_OFF
        told: Fault | None = None
        while True:
            connection: Connection | None = None
            lasted = False
            try:
                connection = await self._connect(link, events)
                told = None
                await self._serve(connection, deliver, events)
                fault, lasted = LOST, True
            except Exception as error:  # noqa: BLE001 - it is logged; a host that nobody connects any more would stay down for good
                fault = _fault(error)
            if fault != told:
                told = fault
                deliver(HostDown(fault=told))
            if lasted:
                back_off = FIRST_BACK_OFF
                continue
            await asyncio.sleep(back_off)
            if connection is None:
                self._despair()
            back_off = min(LONGEST_BACK_OFF, back_off * 2)

    async def _serve(self, connection: Connection, deliver: Deliver, events: Events) -> None:
        """From HostUp until the connection is lost."""

        def tell(info: HostInfo) -> None:
            self.info = info
            events.open = True
            deliver(HostUp(info=info))

        assert self.info is not None
        brief = self.info
        described = in_thread(lambda: capabilities.with_description(connection, brief), "libvirt-describe")
        self.lanes.refuse(None)
        try:
            async with asyncio.TaskGroup() as group:
                description = group.create_task(self._describe(described, brief, tell))
                await self._watch(connection)
                description.cancel()
        finally:
            events.open = False
            self.lanes.refuse(LOST)
            # Where the description is still out, it uses the connection.
            self._part(connection, events, described)

    async def _describe(self, described: asyncio.Future[HostInfo], brief: HostInfo, tell: Callable[[HostInfo], None]) -> None:
        """Deliver HostUp: soon with what is known, and again where the slow part of the description comes later."""
        done, _ = await asyncio.wait({described}, timeout=DESCRIPTION_SECONDS)
        if not done:
            tell(brief)
        try:
            tell(await asyncio.shield(described))
        except libvirt.libvirtError:
            pass  # the connection broke: its watch says so
        except Exception:
            # A description that cannot be read is no reason to do without the host.
            logger.exception("the host's description cannot be read")
            tell(brief)

    async def _connect(self, link: Link, events: Events) -> Connection:
        """Open, register for events and ask the host about itself. Raises HOST_UNREACHABLE, or libvirt's reason."""
        self._lost.clear()
        connection = await link.take()
        introduced = in_thread(lambda: self._introduce(connection, events), "libvirt-introduce")
        try:
            self.info = await asyncio.wait_for(asyncio.shield(introduced), OPEN_SECONDS)
        except BaseException as error:
            # One that hangs still uses the connection and may register yet: first it has to return.
            self._part(connection, events, introduced)
            if isinstance(error, TimeoutError):
                raise DriverError(Fault(reason=Reason.HOST_UNREACHABLE, message="the hypervisor does not say what it is")) from None
            if isinstance(error, libvirt.libvirtError):
                raise driver_error(error) from None
            raise
        return connection

    def _introduce(self, connection: Connection, events: Events) -> HostInfo:
        pushes_events = events.register(connection)
        self._notice_loss(connection)
        return capabilities.host_info(connection, self._settings.uri, self._settings.read_only, pushes_events)

    def _notice_loss(self, connection: Connection) -> None:
        loop, lost = self._loop, self._lost

        def closed(_connection: Any, _reason: int, _opaque: Any) -> None:
            loop.call_soon_threadsafe(lost.set)

        try:
            connection.registerCloseCallback(closed, None)
        except libvirt.libvirtError:
            pass  # a driver in this process: it is there as long as the process is

    async def _watch(self, connection: Connection) -> None:
        """Returns when the connection is lost."""
        while not self._lost.is_set() and await self._lives(connection):
            try:
                await asyncio.wait_for(self._lost.wait(), CHECK_SECONDS)
            except TimeoutError:
                pass

    async def _lives(self, connection: Connection) -> bool:
        if not capabilities.is_always_alive(self._settings.uri):
            return bool(connection.isAlive())
        try:
            await asyncio.wait_for(in_thread(connection.numOfDomains, "libvirt-watch"), OPEN_SECONDS)
        except (TimeoutError, libvirt.libvirtError):
            return False
        return True

    def _part(self, connection: Connection, events: Events, user: asyncio.Future[HostInfo]) -> None:
        """Let a connection go once its last user has returned, on a thread of its own: while anything is registered on it, libvirt keeps it open."""

        def part() -> None:
            events.deregister(connection)
            close(connection)

        async def later() -> None:
            await asyncio.wait({user})
            await in_thread(part, "libvirt-part")

        parting = self._loop.create_task(later())
        self._partings.add(parting)
        parting.add_done_callback(self._partings.discard)

    async def parted(self) -> None:
        """Wait until the connections that were let go are closed; for PARTING_SECONDS at most, since that may hang.

        A process must not end before: where a client with events is gone while a call of its is out, two threads of libvirt 9.0's daemon free
        the same list (remoteClientFreePrivateCallbacks), and now and then it crashes.
        """
        if self._partings:
            await asyncio.wait(self._partings, timeout=PARTING_SECONDS)

    def _despair(self) -> None:
        # An embedded driver whose start failed stays failed for as long as its process lives: libvirt starts it once.
        if self._give_up is not None and "/embed" in self._settings.uri:
            self._give_up()


def _fault(error: Exception) -> Fault:
    """Why the host is down. What nobody expected goes to the log with its traceback."""
    if isinstance(error, DriverError):
        return error.fault
    cause = error.exceptions[0] if isinstance(error, ExceptionGroup) else error
    logger.error("the connection to the hypervisor failed unexpectedly", exc_info=error)
    return Fault(reason=Reason.HOST_UNREACHABLE, message=f"the connection failed unexpectedly: {type(cause).__name__}: {cause}")
