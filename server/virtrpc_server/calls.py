"""One hypervisor call that is out: waiting for it, aborting it, and finding out what became of it when its driver process died."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from virtrpc_drivers.errors import DriverError, Reason
from virtrpc_drivers.protocol import Call
from virtrpc_drivers.values import Outcome
from virtrpc_server.hosts import Host
from virtrpc_server.slots import first_of

log = logging.getLogger(__name__)

LOST_SECONDS = 15.0
"""How long a call may stay out after it was cancelled before its job ends OUTCOME_UNKNOWN."""
BACK_UP_SECONDS = 60.0
"""How long a job whose driver was lost waits for the host before it ends OUTCOME_UNKNOWN."""
ABORT_RETRY_SECONDS = 0.25
FOREIGN_PAUSE = 1.0
"""Seconds between a refusal for somebody else's job and the look whether that is over."""
PROBE_FIRST_PAUSE = 1.0
PROBE_LONGEST_PAUSE = 30.0
"""The pauses, each twice the one before, after probes that failed; one that hangs is not repeated."""


async def foreign_job_over(host: Host, uuid: str, limit: float, stop: asyncio.Event) -> None:
    """Wait until somebody else's job on a domain may be over, for at most `limit` seconds or until `stop` is set.

    A call that is sent before would wait inside the hypervisor, with a place of the daemon's budget in its hands.
    """
    probing, stopping = asyncio.ensure_future(_free_or_unknown(host, uuid)), asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait([probing, stopping], timeout=limit, return_when=asyncio.FIRST_COMPLETED)
    finally:
        probing.cancel()
        stopping.cancel()


async def _free_or_unknown(host: Host, uuid: str) -> None:
    # Not at once, even where the hypervisor calls the domain free: it refused the last call, and may go on refusing.
    await asyncio.sleep(FOREIGN_PAUSE)
    try:
        await host.driver.probe(uuid)
    except DriverError as error:
        log.info("whether domain %s is free: %s", uuid, error)


class Lost(Exception):  # noqa: N818  # not an error of the call: nobody knows how it ends
    """The call has not returned and may never."""


class OutstandingCall:
    """A call from the moment it is sent until it is known to be over."""

    def __init__(self, host: Host, call: Call, on_abort: Callable[[], None]) -> None:
        """Send it. `on_abort` is called each time an abort was sent for it."""
        self._host = host
        self._call = call
        self._on_abort = on_abort
        self._calling = self._start(host.driver.run(call))
        self._aborting: asyncio.Task[None] | None = None
        self._resumed = False
        self.aborted = False
        """Whether an abort was sent for this very call."""

    @property
    def out(self) -> bool:
        """Whether it, or an abort sent for it, has not returned: libvirt's abort hits whatever the domain runs, so nothing else may begin there."""
        return not self._calling.done() or (self._aborting is not None and not self._aborting.done())

    async def finish(self, stop: asyncio.Event, limit: float | None, ran_out: Callable[[], None]) -> Outcome:
        """The call's outcome. Aborts it once `stop` is set, or after `limit` seconds (then `ran_out` is called first).

        Raises DriverError as the call does, and Lost where it stays out.
        """
        deadline = None if limit is None else asyncio.get_running_loop().time() + limit
        while True:
            await self._until_over(stop, deadline, ran_out)
            try:
                return self._calling.result()
            except DriverError as error:
                if error.reason is Reason.OUTCOME_UNKNOWN:
                    raise Lost(error.fault.message) from None
                if not self._is_lost(error):
                    raise
            await self._until_back_up(stop, deadline, ran_out)
            self._resumed = True
            self._calling = self._start(self._host.driver.resume(self._call))

    async def over(self) -> None:
        """Returns once the call, and every abort sent for it, has returned, or once the hypervisor's job could be taken."""
        tasks = [task for task in (self._calling, self._aborting) if task is not None]
        await asyncio.wait(tasks)
        error = self._calling.exception()
        if isinstance(error, DriverError) and (self._is_lost(error) or error.reason is Reason.OUTCOME_UNKNOWN):
            await self._until_free()

    def _is_lost(self, error: DriverError) -> bool:
        # A run that could not reach the host was never sent; a resume that could not has learned nothing yet.
        return error.reason is Reason.DRIVER_LOST or (self._resumed and error.reason is Reason.HOST_UNREACHABLE)

    async def _until_over(self, stop: asyncio.Event, deadline: float | None, ran_out: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        if not stop.is_set():
            stopping = asyncio.ensure_future(stop.wait())
            timeout = None if deadline is None else max(0.0, deadline - loop.time())
            try:
                await asyncio.wait([self._calling, stopping], timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            finally:
                stopping.cancel()
            if not self._calling.done() and not stop.is_set():
                ran_out()
        if self._calling.done():
            return
        if self._aborting is None or self._aborting.done():
            self._aborting = asyncio.get_running_loop().create_task(self._abort())
        await asyncio.wait([self._calling], timeout=LOST_SECONDS)
        if not self._calling.done():
            raise Lost(f"the call was cancelled and has not returned after {LOST_SECONDS:g} s")

    async def _abort(self) -> None:
        """Try until an abort was sent for this very call, cannot be sent, or is not needed any more."""
        while not self._calling.done():
            try:
                answer = await self._host.driver.cancel(self._call.id)
            except DriverError as error:
                log.info("abort of call %s: %s", self._call.id, error)
            else:
                if answer.sent:
                    self.aborted = True
                    self._on_abort()
                if answer.sent or answer.final:
                    return
            await asyncio.wait([self._calling], timeout=ABORT_RETRY_SECONDS)

    async def _until_back_up(self, stop: asyncio.Event, deadline: float | None, ran_out: Callable[[], None]) -> None:
        # The call's failure can come before the news that the host is down.
        await asyncio.sleep(ABORT_RETRY_SECONDS)
        loop, back_up = asyncio.get_running_loop(), self._host.back_up
        began = loop.time()
        left = BACK_UP_SECONDS if deadline is None else min(BACK_UP_SECONDS, max(0.0, deadline - began))
        await first_of(left, back_up, stop)
        if not back_up.is_set() and not stop.is_set() and left < BACK_UP_SECONDS:
            # The clock of a call that cannot be watched does not stand still.
            ran_out()
        if stop.is_set():
            await first_of(LOST_SECONDS, back_up)
        if not back_up.is_set():
            seconds = loop.time() - began
            raise Lost(f"the driver process was lost with the call out, and host {self._host.name} did not come back within {seconds:.0f} s")

    async def _until_free(self) -> None:
        pause = PROBE_FIRST_PAUSE
        while True:
            await self._host.back_up.wait()
            try:
                await self._host.driver.probe(self._call.operation.uuid)
            except DriverError as error:
                if error.reason is Reason.DOMAIN_NOT_FOUND:
                    return
                await asyncio.sleep(pause)
                pause = min(PROBE_LONGEST_PAUSE, 2 * pause)
            else:
                return

    def _start(self, work: Awaitable[Outcome]) -> asyncio.Task[Outcome]:
        async def run() -> Outcome:
            return await work

        task = asyncio.get_running_loop().create_task(run())
        # A ghost's error has nobody to go to.
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return task
