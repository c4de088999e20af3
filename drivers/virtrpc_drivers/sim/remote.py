"""A simulated host in a process of its own (`sim.daemon`), as a driver process sees it: a connection that is kept, like one to libvirtd."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import msgspec

from virtrpc_drivers import wire
from virtrpc_drivers.asking import Asking
from virtrpc_drivers.errors import DriverError, Fault, Reason
from virtrpc_drivers.forwarding import Forwarding
from virtrpc_drivers.protocol import Deliver, DriverSettings, HostDown
from virtrpc_drivers.sim import control
from virtrpc_drivers.sim.connection import NOT_YET

FIRST_DELAY = 0.1
LONGEST_DELAY = 5.0


class RemoteSim(Forwarding):
    """What it is asked goes on to the daemon at `path`, with the settings that it was given; what the daemon says comes back.

    Where the connection is lost, calls that are out fail with DRIVER_LOST and HostDown (HOST_UNREACHABLE) is delivered; it tries
    again with back-off. Operations go on in the daemon.
    """

    def __init__(self, settings: DriverSettings, path: str) -> None:
        self._settings, self._path = settings, path
        self._deliver_to: Deliver | None = None
        self._asking: Asking | None = None
        self._keeper: asyncio.Task[None] | None = None

    async def start(self, deliver: Deliver) -> None:
        """Begin to connect; returns at once."""
        self._deliver_to = deliver
        self._keeper = asyncio.get_running_loop().create_task(self._keep(), name=f"connection to {self._path}")

    async def simulate(self, command: msgspec.Struct | msgspec.Raw) -> Any:
        """A command of virtrpc_drivers.sim.control: what befalls the driver process befalls this one."""
        known = control.decoded(command)
        return None if control.of_process(known) else await super().simulate(known)

    async def close(self) -> None:
        """Close the connection; what runs in the daemon goes on."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait({self._keeper})

    async def _ask(self, kind: type[wire.Request], **fields: Any) -> Any:
        if self._asking is None:
            raise DriverError(NOT_YET)
        return await self._asking.ask(kind, **fields)

    async def _keep(self) -> None:
        """Connect, and again with back-off whenever the connection is lost."""
        delay = FIRST_DELAY
        while True:
            try:
                sock = await self._connected()
            except OSError as error:
                self._down(f"the simulated host's daemon cannot be reached at {self._path}: {error}")
            else:
                await self._hold(sock)
                delay = FIRST_DELAY
            await asyncio.sleep(delay)
            delay = min(2 * delay, LONGEST_DELAY)

    async def _connected(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(sock, self._path)
        except BaseException:
            sock.close()
            raise
        return sock

    async def _hold(self, sock: socket.socket) -> None:
        """One connection, from its beginning to its end."""
        assert self._deliver_to is not None
        asking = Asking(self._deliver_to)
        await asking.open(sock, self._settings)
        self._asking = asking
        try:
            await asking.eof.wait()
        finally:
            self._asking = None
            asking.close_channel()
            lost = asking.refused.message if asking.refused else "the connection to the simulated host's daemon was lost"
            asking.fail(Fault(reason=Reason.DRIVER_LOST, message=lost))
        self._down(lost)

    def _down(self, message: str) -> None:
        assert self._deliver_to is not None
        self._deliver_to(HostDown(fault=Fault(reason=Reason.HOST_UNREACHABLE, message=message)))
