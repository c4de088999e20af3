"""A driver in a process of its own, as the server sees it: the `Driver` protocol, and a process that is watched and restarted."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from typing import Any

import msgspec

from virtrpc_drivers import wire
from virtrpc_drivers.errors import DriverError, Fault, Reason, failure
from virtrpc_drivers.forwarding import Forwarding
from virtrpc_drivers.life import Life
from virtrpc_drivers.protocol import AnyNotice, Deliver, DriverSettings, HostDown

logger = logging.getLogger(__name__)

FIRST_DELAY = 0.1
LONGEST_DELAY = 5.0
STEADY = 30.0
"""Seconds of life after which the next restart begins with the shortest delay again."""
CLOSING = 5.0
"""Seconds that a driver is given to close its connections before its socket is closed."""


def process_base() -> int:
    """A number for a first driver process that is greater than any that an earlier server gave: milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


class ProcessDriver(Forwarding):
    """A driver in a process of its own.

    When the process dies, calls that are out fail with DRIVER_LOST, HostDown(process_lost=True) is delivered, and it is started
    again with back-off; calls made meanwhile fail with HOST_UNREACHABLE. Each process has the next process number: they count up
    from `settings.process`, or from `process_base()` where that is 0.
    """

    def __init__(self, settings: DriverSettings) -> None:
        self._settings = msgspec.structs.replace(settings, process=settings.process or process_base())
        self._deliver_to: Deliver | None = None
        self._life: Life | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()
        self.restarts = 0
        """How many times a process was started again."""
        self.started: float | None = None
        """When the process was started last, in seconds since the epoch."""
        self._warned = ""
        self.last_exit = ""
        """Why a process ended last; empty where none did."""

    @property
    def pid(self) -> int | None:
        """The process's id, or None while none runs."""
        return self._life.process.pid if self._life is not None and self._life.process is not None else None

    @property
    def process(self) -> int:
        """The number that the present process's stamps carry."""
        return self._settings.process

    async def start(self, deliver: Deliver) -> None:
        """Start the process in the background; its first notice is HostUp or HostDown."""
        self._deliver_to = deliver
        self._keeper = asyncio.get_running_loop().create_task(self._keep(), name=f"driver process {self._settings.process}")

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """End the process as a crash would; it is started again."""
        if self._life is not None:
            self._life.kill(number)

    async def close(self) -> None:
        """Close the driver, end its process and wait for it; bounded, whatever the hypervisor does."""
        self._closing.set()
        if (life := self._life) is not None:
            try:
                await asyncio.wait_for(life.ask(wire.Close), CLOSING)
            except (DriverError, TimeoutError):
                pass  # it is ending already, or is stuck: closing the socket ends it
            life.close_channel()
        if self._keeper is not None:
            await asyncio.wait({self._keeper})
            self._keeper = None

    async def _ask(self, kind: type[wire.Request], **fields: Any) -> Any:
        if self._life is None:
            raise failure(Reason.HOST_UNREACHABLE, "the driver process is not running")
        return await self._life.ask(kind, **fields)

    async def _keep(self) -> None:
        """Keep a process running until closed."""
        delay = FIRST_DELAY
        while not self._closing.is_set():
            began = asyncio.get_running_loop().time()
            await self._live()
            if asyncio.get_running_loop().time() - began >= STEADY:
                delay, self._warned = FIRST_DELAY, ""
            try:
                await asyncio.wait_for(self._closing.wait(), delay)
            except TimeoutError:
                delay = min(2 * delay, LONGEST_DELAY)
                self._settings = msgspec.structs.replace(self._settings, process=self._settings.process + 1)
                self.restarts += 1

    async def _live(self) -> None:
        """One process's life; by its end all its calls have failed and the host is told to be down."""
        life = Life(self._settings, self._deliver)
        self.started = time.time()
        try:
            await life.start()
        except OSError as error:
            self.last_exit = f"could not be started: {error}"
            self._down(Reason.DRIVER_LOST, f"the driver process {self.last_exit}")
            return
        assert life.process is not None
        name = f"the driver process {life.process.pid}"
        self._life = life
        if self._closing.is_set():
            life.close_channel()  # close() came while the process was being started
        try:
            self.last_exit = await life.lost()
        finally:
            self._life = None
            life.fail(Fault(reason=Reason.DRIVER_LOST, message=f"{name} ended while the call was out"))
        self._down(life.refused.reason if life.refused else Reason.DRIVER_LOST, f"{name} {self.last_exit}")
        await life.reap()

    def _down(self, reason: Reason, message: str) -> None:
        if not self._closing.is_set():
            # What cannot heal by itself is said once, and not at every attempt.
            logger.log(logging.DEBUG if self.last_exit == self._warned else logging.WARNING, "%s", message)
            self._warned = self.last_exit
        self._deliver(HostDown(fault=Fault(reason=reason, message=message), process_lost=True))

    def _deliver(self, notice: AnyNotice) -> None:
        if self._deliver_to is None or self._closing.is_set():
            return
        try:
            self._deliver_to(notice)
        except Exception:
            logger.exception("a notice could not be handed over")
