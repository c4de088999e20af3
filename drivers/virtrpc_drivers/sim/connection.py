"""A connection to a simulated hypervisor: how it comes, is lost and comes back, and what happens to the calls that are out meanwhile."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import msgspec

from virtrpc_drivers.errors import DriverError, Fault, Reason, failure
from virtrpc_drivers.protocol import AnyNotice, Deliver, DomainChanged, DriverSettings, HostDown, HostUp
from virtrpc_drivers.sim import calls
from virtrpc_drivers.sim.host import host_info
from virtrpc_drivers.sim.hypervisor import SimHypervisor
from virtrpc_drivers.sim.options import from_uri
from virtrpc_drivers.sim.sdk import JobHandle
from virtrpc_drivers.sim.shapes import row
from virtrpc_drivers.values import Outcome, Phase, Stamp

logger = logging.getLogger(__name__)
T = TypeVar("T")

NOT_YET = Fault(reason=Reason.HOST_UNREACHABLE, message="the simulated host is not connected")


class Connection:
    """To the given hypervisor, or to one of its own made from `settings.uri`.

    `crash` ends the process when a fault says so; without it the driver process's death is simulated: calls that are out fail
    with DRIVER_LOST, and after `reconnect_seconds` the host is up again under the next process number.
    """

    def __init__(self, settings: DriverSettings, hypervisor: SimHypervisor | None = None, *, crash: Callable[[], None] | None = None) -> None:
        self._settings = settings
        self._options = hypervisor.options if hypervisor is not None else from_uri(settings.uri)
        self._own = hypervisor is None
        self._hypervisor = hypervisor
        self._crash = crash
        self._deliver_to: Deliver | None = None
        self._process = settings.process
        self._last_stamp = 0.0
        self._lost: asyncio.Future[bool] | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._calls: dict[str, JobHandle] = {}
        self._connecting: asyncio.Future[None] | None = None
        self.restarts = 0
        """How often its process was lost and came back."""

    @property
    def hypervisor(self) -> SimHypervisor:
        """What is simulated."""
        if self._hypervisor is None:
            self._hypervisor = SimHypervisor(self._options)
        return self._hypervisor

    @property
    def in_process(self) -> bool:
        """Whether the death of its process is only simulated."""
        return self._crash is None

    @property
    def up(self) -> bool:
        """Whether the host is connected."""
        return self._lost is not None and not self._lost.done()

    async def start(self, deliver: Deliver) -> None:
        """Begin to connect; returns at once."""
        self._deliver_to = deliver
        self.hypervisor.on_death.append(self._die)
        self._connecting = self._begin(self._connect(self._options.connect_seconds))

    def lose(self, *, process: bool = True, stay_down: bool = False) -> None:
        """Lose the connection, with the driver process or without; it comes back by itself unless it is to stay down (`mend`).

        Operations go on inside the hypervisor, except where the process carries them (shape=esx).
        """
        if stay_down and self._connecting is not None:
            self._connecting.cancel()
        lost = self._lost
        if lost is None or lost.done():
            return
        lost.set_result(process)
        known, self._calls = list(self._calls.values()), {}
        for job in known:
            job.observers.remove(self._report)
            if process and row(self._options.shape, job.operation.verb).killable:
                job.carry_away()
        self.hypervisor.events.unsubscribe(self._event)
        reason = Reason.DRIVER_LOST if process else Reason.HOST_UNREACHABLE
        self._deliver(HostDown(fault=Fault(reason=reason, message="the connection to the simulated host was lost"), process_lost=process))
        if process:
            self._process += 1
            self.restarts += 1
        if not stay_down:
            self._connecting = self._begin(self._connect(self._options.reconnect_seconds))

    def kill(self, _number: int = signal.SIGKILL) -> None:
        """End the driver process, simulated."""
        self.lose()

    def mend(self) -> None:
        """Let a connection that was to stay down come back."""
        if not self.up and (self._connecting is None or self._connecting.done()):
            self._connecting = self._begin(self._connect(self._options.reconnect_seconds))

    async def close(self) -> None:
        """See Driver.close. A hypervisor of its own is switched off too."""
        tasks, self._tasks = list(self._tasks), set()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._hypervisor is None:
            return
        self._hypervisor.events.unsubscribe(self._event)
        if self._die in self._hypervisor.on_death:
            self._hypervisor.on_death.remove(self._die)
        if self._lost is not None and not self._lost.done():
            self._lost.set_result(False)
        if self._own:
            await self._hypervisor.close()

    async def _connect(self, delay: float) -> None:
        """Connect, and again with back-off while faults forbid it."""
        while True:
            await asyncio.sleep(delay)
            try:
                await self.hypervisor.faults.strike("connect")
                break
            except DriverError as error:
                self._deliver(HostDown(fault=error.fault))
                delay = min(5.0, max(0.1, 2 * delay))
        self._lost = asyncio.get_running_loop().create_future()
        self.hypervisor.events.subscribe(self._event, self._stamp)
        self._deliver(HostUp(info=host_info(self._settings, self._options)))

    async def _follow(self, job: JobHandle) -> Outcome:
        """Pass on a job's reports until it ends, or the connection does: not only while its caller waits."""
        if job.id not in self._calls and job.task is not None:
            self._calls[job.id] = job
            job.observers.append(self._report)
            job.task.add_done_callback(lambda _: self._calls.pop(job.id, None))
        if job.visible or job.phase is not Phase.CALLING:
            self._report(job)
        return self._stamped(await self._within(job.wait(), lost_as=Reason.DRIVER_LOST))

    def _stamped(self, outcome: Outcome) -> Outcome:
        return msgspec.structs.replace(outcome, stamp=self._stamp())

    def _report(self, job: JobHandle) -> None:
        self._deliver(calls.report(job, self._stamp(), percent=self._options.shape == "vz"))

    async def _within(self, work: Coroutine[Any, Any, T], lost_as: Reason = Reason.HOST_UNREACHABLE) -> T:
        """Do something within the life of this connection. Whoever stops waiting leaves it running."""
        if self._lost is None or self._lost.done():
            work.close()
            raise DriverError(NOT_YET)
        lost, task = self._lost, self._begin(work)
        ends: set[asyncio.Future[Any]] = {task, lost}
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        task.cancel()
        raise failure(Reason.DRIVER_LOST if lost.result() else lost_as, "the connection was lost while the call was out")

    def _check_up(self) -> None:
        if not self.up:
            raise DriverError(NOT_YET)

    def _begin(self, work: Coroutine[Any, Any, T]) -> asyncio.Future[T]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._forget)
        return task

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # seen here, so that an abandoned call's error is not reported as forgotten

    def _stamp(self) -> Stamp:
        """The loop's time, a little later each time: under virtual time many calls share one moment, and readings must not."""
        self._last_stamp = max(self.hypervisor.now(), self._last_stamp + 1e-7)
        return Stamp(process=self._process, monotonic=self._last_stamp, wall=self.hypervisor.wall())

    def _event(self, event: DomainChanged) -> None:
        if self.up:
            self._deliver(event)

    def _deliver(self, notice: AnyNotice) -> None:
        if self._deliver_to is None:
            return
        try:
            self._deliver_to(notice)
        except Exception:
            logger.exception("a notice could not be handed over")

    def _die(self) -> None:
        if self._crash is not None:
            self._crash()
        self.lose()
