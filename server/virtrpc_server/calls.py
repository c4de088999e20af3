"""One hypervisor call that is out: waiting for it, aborting it, and finding out what became of it when its driver process died."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from typing import Any

from msgspec.structs import replace
from opentelemetry.trace import SpanKind

from virtrpc_drivers.errors import DriverError, Reason, failure
from virtrpc_drivers.protocol import Call
from virtrpc_drivers.values import Outcome
from virtrpc_server import tracing
from virtrpc_server.hosts import Host
from virtrpc_server.slots import first_of

log = logging.getLogger(__name__)

LOST_SECONDS = 15.0
"""How long a call may stay out after it was cancelled before its job ends OUTCOME_UNKNOWN."""
BACK_UP_SECONDS = 60.0
"""How long a job whose driver was lost waits for the host before it ends OUTCOME_UNKNOWN; also where the host comes back and is lost again."""
SHOWN_SECONDS = 5.0
"""How long what was shown last is taken for the present."""
ABORT_RETRY_SECONDS = 0.25
ABORT_LONGEST_PAUSE = 2.0
"""The pauses between aborts that could not be sent, each twice the one before: a ghost's must not keep the abort lane from others."""
FOREIGN_PAUSE = 1.0
"""Seconds between a refusal for somebody else's job and the look whether that is over."""
AWAY = frozenset({Reason.DRIVER_LOST, Reason.HOST_UNREACHABLE})
"""Why nothing could be asked: the host is not there."""
PROBE_FIRST_PAUSE = 1.0
PROBE_LONGEST_PAUSE = 30.0
"""The pauses, each twice the one before, after probes that failed; one that hangs is not repeated."""


async def foreign_job_over(host: Host, uuid: str, limit: float, stop: asyncio.Event) -> bool:
    """Wait until somebody else's job on a domain may be over, for at most `limit` seconds or until `stop` is set; whether it may be.

    A call that is sent before would wait inside the hypervisor, with a place of the daemon's budget in its hands.
    """
    probing, stopping = asyncio.ensure_future(_free_or_unknown(host, uuid)), asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait([probing, stopping], timeout=limit, return_when=asyncio.FIRST_COMPLETED)
        return probing.done()
    finally:
        probing.cancel()
        stopping.cancel()


async def _free_or_unknown(host: Host, uuid: str) -> None:
    while True:
        # Not at once, even where the hypervisor calls the domain free: it refused the last call, and may go on refusing.
        await asyncio.sleep(FOREIGN_PAUSE)
        await host.back_up.wait()
        try:
            with _asking("probe", host, uuid):
                await host.probes.look(uuid)
        except DriverError as error:
            log.info("whether domain %s is free: %s", uuid, error)
            if error.reason in AWAY:
                continue
        return


async def _look_until_free(host: Host, uuid: str) -> None:
    pause = PROBE_FIRST_PAUSE
    while True:
        await host.back_up.wait()
        try:
            with _asking("probe", host, uuid):
                await host.probes.look(uuid)
        except DriverError as error:
            log.info("whether domain %s is free: %s", uuid, error)
            await asyncio.sleep(pause)
            # A host that was lost says by itself when it is back.
            pause = PROBE_FIRST_PAUSE if error.reason in AWAY else min(PROBE_LONGEST_PAUSE, 2 * pause)
        else:
            return


def _asking(what: str, host: Host, uuid: str) -> AbstractContextManager[object]:
    """The span of a question to a hypervisor; the calls of verbs have theirs from the driver."""
    return tracing.start_span(what, {"virtrpc.host": host.name, "virtrpc.domain.uuid": uuid}, SpanKind.CLIENT)


def _left_behind() -> asyncio.Future[Outcome]:
    lost: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
    lost.set_exception(failure(Reason.DRIVER_LOST, "the server ended while the call was out"))
    lost.exception()  # a ghost's error has nobody to go to
    return lost


class Lost(Exception):  # noqa: N818  # not an error of the call: nobody knows how it ends
    """The call has not returned and may never."""


class OutstandingCall:
    """A call from the moment it is sent until it is known to be over."""

    def __init__(self, host: Host, call: Call, on_abort: Callable[[], None], *, sent: bool = False) -> None:
        """Send it, unless it was `sent` by an earlier life of the server. `on_abort` is called each time an abort was sent for it."""
        self._host = host
        self._call = call
        self._on_abort = on_abort
        self._began = asyncio.get_running_loop().time()
        self._lost_since: float | None = None
        self._calling: asyncio.Future[Outcome] = _left_behind() if sent else self._start(host.driver.run(call))
        self._aborting: asyncio.Task[None] | None = None
        self._abort_out = False
        self._resumed = False
        self._stop_by: float | None = None
        """Until when a call that was to stop is waited for, whatever becomes of its driver process meanwhile."""
        self._past_stopping = float("-inf")
        self.begun = False
        """Whether it has begun what goes on without it, and gave the domain back."""
        self.aborted = False
        """Whether an abort was sent for this very call."""

    @property
    def out(self) -> bool:
        """Whether it, or an abort sent for it, has not returned: libvirt's abort hits whatever the domain runs, so nothing else may begin there."""
        return not self._calling.done() or self._abort_out

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
                if error.reason is Reason.OUTCOME_UNKNOWN or (error.reason is Reason.FOREIGN_JOB and (self._resumed or self.begun)):
                    # What holds the domain may be this very call, or what it began: it must not be sent again.
                    raise Lost(error.fault.message) from None
                if not self._is_lost(error):
                    raise
            await self._until_back_up(stop, deadline, ran_out)
            self._resumed = True
            self._began = asyncio.get_running_loop().time()
            self._calling = self._start(self._host.driver.resume(replace(self._call, begun=self.begun)))

    def shown_past_stopping(self) -> None:
        """The hypervisor shows it at work where nothing can stop it (post-copy): as long as it does, it is not lost, however long that takes."""
        self._past_stopping = asyncio.get_running_loop().time()

    async def aborts_over(self) -> None:
        """Returns once no abort that was sent for it is out."""
        if self._aborting is not None:
            await asyncio.wait([self._aborting])

    async def over(self) -> None:
        """Returns once the call, and every abort sent for it, has returned, or once the hypervisor's job could be taken."""
        await asyncio.wait([self._calling])
        await self.aborts_over()
        error = self._calling.exception()
        if isinstance(error, DriverError) and (self._is_lost(error) or error.reason in (Reason.OUTCOME_UNKNOWN, Reason.FOREIGN_JOB)):
            await self._until_free()

    def _is_lost(self, error: DriverError) -> bool:
        # A run that could not reach the host was never sent; a resume that could not has learned nothing yet.
        return error.reason is Reason.DRIVER_LOST or (self._resumed and error.reason is Reason.HOST_UNREACHABLE)

    async def _until_over(self, stop: asyncio.Event, deadline: float | None, ran_out: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        if not stop.is_set():
            stopping: asyncio.Future[Any] = asyncio.ensure_future(stop.wait())
            timeout = None if deadline is None else max(0.0, deadline - loop.time())
            try:
                await asyncio.wait({self._calling, stopping}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            finally:
                stopping.cancel()
            if not self._calling.done() and not stop.is_set():
                ran_out()
        if self._calling.done():
            return
        if self._aborting is None or self._aborting.done():
            self._aborting = asyncio.get_running_loop().create_task(self._abort())
        while not (await asyncio.wait([self._calling], timeout=self._time_to_stop()))[0]:
            if asyncio.get_running_loop().time() - self._past_stopping > SHOWN_SECONDS:
                raise Lost(f"the call was cancelled and has not returned after {LOST_SECONDS:g} s")
            self._stop_by = None

    def _time_to_stop(self) -> float:
        """For how many more seconds a call that was to stop is waited for."""
        now = asyncio.get_running_loop().time()
        if self._stop_by is None:
            self._stop_by = now + LOST_SECONDS
        return max(0.0, self._stop_by - now)

    async def _abort(self) -> None:
        """Try until an abort was sent for this very call, cannot be sent, or is not needed any more."""
        pause = ABORT_RETRY_SECONDS
        while not self._calling.done():
            self._abort_out = True
            try:
                with _asking("abort", self._host, self._call.operation.uuid):
                    answer = await self._host.driver.cancel(self._call.id)
            except DriverError as error:
                log.info("abort of call %s: %s", self._call.id, error)
            else:
                if answer.sent:
                    self.aborted = True
                    self._on_abort()
                if answer.sent or answer.final:
                    return
            finally:
                self._abort_out = False
            await asyncio.wait([self._calling], timeout=pause)
            pause = min(ABORT_LONGEST_PAUSE, 2 * pause)

    async def _until_back_up(self, stop: asyncio.Event, deadline: float | None, ran_out: Callable[[], None]) -> None:
        # The call's failure can come before the news that the host is down.
        await asyncio.sleep(ABORT_RETRY_SECONDS)
        loop, back_up = asyncio.get_running_loop(), self._host.back_up
        now = loop.time()
        if self._lost_since is None or now - self._began > BACK_UP_SECONDS:
            # Else it was lost again before anybody could say what became of it.
            self._lost_since = now
        end = self._lost_since + BACK_UP_SECONDS
        until = end if deadline is None else min(end, max(deadline, now))
        await first_of(max(0.0, until - now), back_up, stop)
        if not back_up.is_set() and not stop.is_set() and until < end:
            # The clock of a call that cannot be watched does not stand still.
            ran_out()
        if stop.is_set():
            end = loop.time() + self._time_to_stop()
            await first_of(max(0.0, end - loop.time()), back_up)
        if not back_up.is_set() or loop.time() >= end:
            raise Lost(f"the driver process was lost with the call out, and nothing was heard of it in {loop.time() - self._lost_since:.0f} s")

    async def _until_free(self) -> None:
        uuid = self._call.operation.uuid
        with self._host.probes.waiting(uuid) as freed:
            looking = asyncio.ensure_future(_look_until_free(self._host, uuid))
            try:
                await asyncio.wait([looking, freed], return_when=asyncio.FIRST_COMPLETED)
                if not freed.done():
                    looking.result()  # a fault of ours is no news of the domain
            finally:
                looking.cancel()

    def _start(self, work: Awaitable[Outcome]) -> asyncio.Task[Outcome]:
        async def run() -> Outcome:
            with self._host.attention.on(self._call.operation.uuid):
                return await work

        task = asyncio.get_running_loop().create_task(run())
        # A ghost's error has nobody to go to.
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return task
