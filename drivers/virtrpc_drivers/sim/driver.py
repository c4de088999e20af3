"""The protocol's Driver for a simulated hypervisor, in the server's process or in a driver process."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar
from xml.sax.saxutils import escape

import msgspec

from virtrpc_drivers import paths
from virtrpc_drivers.errors import DriverError, Fault, Reason, failure
from virtrpc_drivers.migration import Arrival, Departure, Facts, TuneAnswer, Tuning
from virtrpc_drivers.operations import Migrate, Scope
from virtrpc_drivers.protocol import AnyNotice, Call, Deliver, DomainChanged, DriverSettings, HostDown, HostUp, attributes
from virtrpc_drivers.resources import ResourceParameters
from virtrpc_drivers.sim import (
    agent,
    calls,
    checkpoints,
    control,
    dirty_rate,
    files,
    images,
    migration,
    proofs,
    readings,
    resources,
    snapshots,
    stats,
)
from virtrpc_drivers.sim.faults import ANY
from virtrpc_drivers.sim.host import host_info
from virtrpc_drivers.sim.hypervisor import SimHypervisor
from virtrpc_drivers.sim.options import from_uri
from virtrpc_drivers.sim.sdk import JobHandle
from virtrpc_drivers.sim.shapes import row
from virtrpc_drivers.sim.tracing import Work, traced
from virtrpc_drivers.values import (
    CancelAnswer,
    Checkpoints,
    DirtyRate,
    DomainReading,
    Group,
    GuestInfo,
    GuestPart,
    GuestVcpu,
    HostStats,
    Listing,
    Missing,
    Outcome,
    Phase,
    Pulses,
    Readings,
    Samples,
    SaveImage,
    Screenshot,
    Snapshots,
    Stamp,
    Steering,
)

logger = logging.getLogger(__name__)
T = TypeVar("T")

NOT_YET = Fault(reason=Reason.HOST_UNREACHABLE, message="the simulated host is not connected")


class SimDriver:
    """A connection to a simulated hypervisor: the given one, or one of its own made from `settings.uri`.

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

    async def list(self) -> Listing:
        """See Driver.list."""
        return await self._query("list", ANY, lambda stamp: readings.listing(self.hypervisor, stamp))

    async def read(self, uuids: Sequence[str], group: Group) -> Readings:
        """See Driver.read. One domain that hangs holds up the whole answer."""
        return await self._within(self._read(uuids, group))

    async def sample(self, uuids: Sequence[str]) -> Samples:
        """See Driver.sample. A guest that was stopped while idle hangs the sweep; one whose job is held gives a partial answer."""
        return await self._within(self._sample(uuids))

    async def checkpoints(self, uuid: str) -> Checkpoints:
        """See Driver.checkpoints."""
        return await self._query("checkpoints", uuid, lambda _: checkpoints.of_domain(self.hypervisor.domain(uuid)))

    async def checkpoint_xml(self, uuid: str, name: str, *, size: bool) -> str:
        """See Driver.checkpoint_xml."""
        return await self._query("checkpoint_xml", uuid, lambda _: checkpoints.xml(self.hypervisor.domain(uuid), name, size=size))

    async def save_image(self, path: str) -> SaveImage:
        """See Driver.save_image."""
        paths.check((path,), self._settings.path_roots, local=True)
        return await self._query("save_image", ANY, lambda _: files.read(self.hypervisor, path))

    async def guest_info(self, uuid: str, parts: Sequence[GuestPart]) -> GuestInfo:
        """See Driver.guest_info."""
        return await self._query("guest_info", uuid, lambda stamp: agent.guest_info(self.hypervisor, uuid, stamp))

    async def managed_save_image(self, uuid: str) -> SaveImage:
        """See Driver.managed_save_image."""
        return await self._query("managed_save_image", uuid, lambda _: images.managed_save_image(self.hypervisor, uuid))

    async def guest_vcpus(self, uuid: str) -> tuple[GuestVcpu, ...]:
        """See Driver.guest_vcpus."""
        return await self._query("guest_vcpus", uuid, lambda _: agent.guest_vcpus(self.hypervisor, uuid))

    async def authorized_ssh_keys(self, uuid: str, user: str) -> tuple[str, ...]:
        """See Driver.authorized_ssh_keys."""
        return await self._query("authorized_ssh_keys", uuid, lambda _: agent.authorized_ssh_keys(self.hypervisor, uuid, user))

    async def resource_parameters(self, uuid: str, scope: Scope) -> ResourceParameters:
        """See Driver.resource_parameters."""
        return await self._query("resource_parameters", uuid, lambda _: resources.resource_parameters(self.hypervisor, uuid, scope))

    async def dirty_rate(self, uuid: str) -> DirtyRate:
        """See Driver.dirty_rate."""
        return await self._query("dirty_rate", uuid, lambda _: dirty_rate.dirty_rate(self.hypervisor, uuid))

    async def screenshot(self, uuid: str, screen: int) -> Screenshot:
        """See Driver.screenshot: one black point."""
        return await self._query("screenshot", uuid, lambda _: readings.screenshot(self.hypervisor, uuid, screen))

    async def domain_capabilities(self, emulator: str, arch: str, machine: str, virt_type: str) -> str:
        """See Driver.domain_capabilities."""
        described = f"<domainCapabilities><domain>{escape(virt_type or 'sim')}</domain><arch>{escape(arch or 'x86_64')}</arch></domainCapabilities>"
        return await self._query("domain_capabilities", ANY, lambda _: described)

    async def host_stats(self) -> HostStats:
        """See Driver.host_stats."""
        return await self._query("host_stats", ANY, lambda stamp: stats.host_reading(self.hypervisor, stamp))

    async def pulses(self, uuids: Sequence[str]) -> Pulses:
        """See Driver.pulses."""
        return await self._query("pulses", ANY, lambda _: readings.pulses(self.hypervisor, uuids))

    async def run(self, call: Call) -> Outcome:
        """See Driver.run."""
        self._check_up()
        self._refuse(call)
        return await self._traced("sim", call, self._follow(self.hypervisor.begin(call)))

    async def resume(self, call: Call) -> Outcome:
        """See Driver.resume. A call that is still inside is followed; one that ended is told, where the hypervisor remembers it."""
        return await self._traced("resume", call, self._resumed(call))

    async def _traced(self, what: str, call: Call, work: Coroutine[Any, Any, T]) -> T:
        span = Work(f"{what} {call.operation.verb}", call.traceparent, attributes(call, self._settings.host))
        return await (traced(self._deliver, span, work) if self._settings.tracing else work)

    async def _resumed(self, call: Call) -> Outcome:
        self._check_up()
        job = self.hypervisor.jobs.get(call.id)
        if job is not None and (not job.done or self._options.remembers) and not job.carried_away:
            if not job.done and not self._options.remembers and not job.visible and job.block is None and not job.phase.on_its_own:
                raise failure(Reason.OUTCOME_UNKNOWN, "the hypervisor does not show this call, and it may still be on its way")
            return await self._follow(job)
        return self._stamped(proofs.conclude(self.hypervisor, call))

    async def cancel(self, call_id: str) -> CancelAnswer:
        """See Driver.cancel."""
        self._check_up()
        return await self._within(calls.cancel(self.hypervisor, call_id))

    async def tune(self, call_id: str, tuning: Tuning) -> TuneAnswer:
        """See Driver.tune."""
        self._check_up()
        return await self._within(calls.tune(self.hypervisor, call_id, tuning))

    async def departure(self, operation: Migrate) -> Departure:
        """See Driver.departure."""
        return await self._query("departure", operation.uuid, lambda _: migration.departure(self.hypervisor, operation))

    async def arrival(self, operation: Migrate, facts: Facts, uri: str = "") -> Arrival:
        """See Driver.arrival."""
        return await self._query("arrival", facts.uuid, lambda _: migration.arrival(self.hypervisor, facts, uri))

    async def steer(self, call_id: str, steering: Steering) -> CancelAnswer:
        """See Driver.steer."""
        self._check_up()
        return await self._within(calls.steer(self.hypervisor, call_id, steering))

    async def probe(self, uuid: str) -> None:
        """See Driver.probe; returns at once where the domain is off or gone."""
        await self._within(self._probe(uuid))

    async def snapshots(self, uuid: str) -> Snapshots:
        """See Driver.snapshots."""
        return await self._query("snapshots", uuid, lambda _: snapshots.of_domain(self.hypervisor.domain(uuid)))

    async def snapshot_xml(self, uuid: str, name: str) -> str:
        """See Driver.snapshot_xml."""
        return await self._query("snapshot_xml", uuid, lambda _: snapshots.xml(snapshots.find(self.hypervisor.domain(uuid), name)))

    async def current_snapshot(self, uuid: str) -> str | None:
        """See Driver.current_snapshot."""
        return await self._query("current_snapshot", uuid, lambda _: self.hypervisor.domain(uuid).current)

    async def simulate(self, command: msgspec.Struct | msgspec.Raw) -> Any:
        """Carry out a command of virtrpc_drivers.sim.control."""
        return control.apply(self, command)

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

    def _refuse(self, call: Call) -> None:
        """What is refused before the hypervisor hears of it."""
        if not row(self._options.shape, call.operation.verb).supported:
            raise failure(Reason.UNSUPPORTED, f"this hypervisor cannot do {call.operation.verb}")
        if self._settings.read_only:
            raise failure(Reason.HOST_READ_ONLY, "this host is configured read-only")
        paths.check(call.operation.files, self._settings.path_roots, local=True)

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

    async def _probe(self, uuid: str) -> None:
        await self.hypervisor.faults.strike("probe", uuid)
        await self.hypervisor.free(uuid)

    def _report(self, job: JobHandle) -> None:
        self._deliver(calls.report(job, self._stamp(), percent=self._options.shape == "vz"))

    async def _read(self, uuids: Sequence[str], group: Group) -> Readings:
        found: list[DomainReading] = []
        missing: list[Missing] = []
        for uuid in uuids:
            item = await self._look("read", uuid, lambda stamp, uuid=uuid: readings.reading(self.hypervisor, uuid, group, stamp))  # type: ignore[misc]
            if isinstance(item, Missing):
                missing.append(item)
            else:
                found.append(item)
        return Readings(found=tuple(found), missing=tuple(missing))

    async def _sample(self, uuids: Sequence[str]) -> Samples:
        hypervisor, found = self.hypervisor, []
        await asyncio.sleep(self._options.read_latency)
        for uuid in uuids:
            stamp = self._stamp()
            await hypervisor.faults.strike("sample", uuid)
            busy = hypervisor.is_busy(uuid)
            if not busy:
                await hypervisor.monitor(uuid)
            domain = hypervisor.domains.get(uuid)
            if domain is not None and domain.active:
                found.append(stats.reading(hypervisor, domain, stamp, partial=busy))
        return Samples(stats=tuple(found))

    async def _query(self, verb: str, uuid: str, look: Callable[[Stamp], T]) -> T:
        return await self._within(self._look(verb, uuid, look))

    async def _look(self, verb: str, uuid: str, look: Callable[[Stamp], T]) -> T:
        """Look at the hypervisor, late and with whatever goes wrong; the stamp is from before all that."""
        stamp, latency = self._stamp(), self._options.read_latency
        if latency:
            await asyncio.sleep(latency / 2)
        await self.hypervisor.faults.strike(verb, uuid)
        seen = look(stamp)
        await self.hypervisor.faults.strike(verb, uuid, -1)
        if latency:
            await asyncio.sleep(latency / 2)
        return seen

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
