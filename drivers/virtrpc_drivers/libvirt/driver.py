"""The protocol's Driver for every hypervisor that libvirt reaches: each method picks a lane and hands the blocking call over."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import libvirt
from msgspec.structs import replace

from virtrpc_drivers import paths
from virtrpc_drivers.errors import DriverError, Fault, Reason, failure
from virtrpc_drivers.libvirt import (
    asking,
    chains,
    checkpoints,
    guest,
    host_stats,
    leftovers,
    migration,
    operations,
    planning,
    probing,
    proofs,
    pulses,
    readings,
    resources,
    screenshot,
    snapshots,
    tracing,
)
from virtrpc_drivers.libvirt.backup_runs import BackupRun
from virtrpc_drivers.libvirt.block_runs import BlockRun, adopt
from virtrpc_drivers.libvirt.errors import fault_of
from virtrpc_drivers.libvirt.events import Ear, Events
from virtrpc_drivers.libvirt.host import NOT_YET, Host
from virtrpc_drivers.libvirt.migration_stats import completed
from virtrpc_drivers.libvirt.operations import dirty_rate, files, images
from virtrpc_drivers.libvirt.progress import clear_completed, find_free
from virtrpc_drivers.libvirt.runs import Run, Runs
from virtrpc_drivers.libvirt.stats import Sampler
from virtrpc_drivers.migration import Arrival, Departure, Facts, TuneAnswer, Tuning
from virtrpc_drivers.operations import (
    AnyBlocks,
    AnyOperation,
    Backup,
    CopyBlock,
    CreateSnapshot,
    Destroy,
    DetachDevice,
    DumpCore,
    Migrate,
    Save,
    Scope,
    Shutdown,
)
from virtrpc_drivers.operations.agent import AnyAgent
from virtrpc_drivers.protocol import Call, Deliver, DriverSettings
from virtrpc_drivers.resources import ResourceParameters
from virtrpc_drivers.values import (
    CancelAnswer,
    Checkpoints,
    DirtyRate,
    Group,
    GuestInfo,
    GuestPart,
    GuestVcpu,
    HostInfo,
    HostStats,
    Listing,
    Outcome,
    Phase,
    Pulses,
    Readings,
    Samples,
    SaveImage,
    Screenshot,
    Slot,
    Snapshots,
    Steering,
    VerbSupport,
)

T = TypeVar("T")

logger = logging.getLogger(__name__)


class LibvirtDriver:
    """One host reached through libvirt.

    `give_up` is called where only a new process can reach it again (an embedded driver whose start failed); without it the
    driver goes on trying.
    """

    def __init__(self, settings: DriverSettings, give_up: Callable[[], None] | None = None) -> None:
        self._settings = settings
        self._give_up = give_up
        self._clock = readings.Clock(settings.process)
        self._sampler = Sampler(self._clock)
        self._started: _Started | None = None

    async def start(self, deliver: Deliver) -> None:
        """Begin to connect; returns at once."""
        self._started = _Started(self._settings, deliver, self._clock, self._give_up)

    @property
    def _up(self) -> _Started:
        if self._started is None:
            raise DriverError(NOT_YET)
        return self._started

    async def list(self) -> Listing:
        """virConnectListAllDomains."""
        return await self._read(lambda connection: readings.listing(connection, self._clock))

    async def read(self, uuids: Sequence[str], group: Group) -> Readings:
        """State, or configuration, of each; bounded in size and time, what was not looked at is in `rest`."""
        return await self._read(lambda connection: readings.readings(connection, uuids, group, self._clock))

    async def sample(self, uuids: Sequence[str]) -> Samples:
        """virDomainListGetStats with NOWAIT. Hangs where a monitor does; the next call then goes over another connection."""
        return await self._up.host.lanes.stats.call(lambda connection: self._sampler.sample(connection, uuids))

    async def pulses(self, uuids: Sequence[str]) -> Pulses:
        """virDomainGetInfo, GetControlInfo and GetCPUStats: none of them asks a monitor."""
        local = self._up.host_is_local
        return await self._read(lambda connection: pulses.pulses(connection, uuids, local=local))

    async def run(self, call: Call) -> Outcome:
        """One operation to its end. Abandoning it leaves it running."""
        return self._stamped(await asyncio.shield(self._up.keep(self._up.carry_out(call))))

    async def resume(self, call: Call) -> Outcome:
        """What became of a call that an earlier process, or an earlier connection, sent."""
        return self._stamped(await asyncio.shield(self._up.keep(self._up.conclude(call))))

    def _stamped(self, outcome: Outcome) -> Outcome:
        return replace(outcome, stamp=self._clock.stamp())

    async def cancel(self, call_id: str) -> CancelAnswer:
        """virDomainAbortJob, only where the domain's job is this very call."""
        return await self._up.runs.cancel(call_id)

    async def tune(self, call_id: str, tuning: Tuning) -> TuneAnswer:
        """virDomainMigrateSetMaxDowntime and its neighbours, only where the domain's job is this very migration."""
        return await self._up.runs.tune(call_id, tuning)

    async def departure(self, operation: Migrate) -> Departure:
        """What can be read of the source: its definition, its devices, its state."""
        return await self._look(lambda connection: planning.departure(connection, operation))

    async def arrival(self, operation: Migrate, facts: Facts, uri: str = "") -> Arrival:
        """What can be read of the destination: names, uuids, CPU, machine types, memory."""
        return await self._look(lambda connection: planning.arrival(connection, operation, facts, uri))

    async def steer(self, call_id: str, steering: Steering) -> CancelAnswer:
        """virDomainBlockJobAbort (PIVOT) and virDomainBlockJobSetSpeed, only on the disk of this very call."""
        return await self._up.runs.steer(call_id, steering)

    async def probe(self, uuid: str) -> None:
        """Returns once libvirt's job on this domain could be taken."""
        await self._up.probes.probe(uuid)

    async def host_stats(self) -> HostStats:
        """virNodeGetCPUStats and virNodeGetMemoryStats."""
        return await self._read(lambda connection: host_stats.host_stats(connection, self._clock))

    async def snapshots(self, uuid: str) -> Snapshots:
        """virDomainListAllSnapshots."""
        return await self._look(lambda connection: snapshots.of_domain(connection, uuid))

    async def snapshot_xml(self, uuid: str, name: str) -> str:
        """virDomainSnapshotGetXMLDesc."""
        return await self._look(lambda connection: snapshots.xml(connection, uuid, name))

    async def current_snapshot(self, uuid: str) -> str | None:
        """virDomainSnapshotCurrent."""
        return await self._look(lambda connection: snapshots.current_name(connection.lookupByUUIDString(uuid)))

    async def checkpoints(self, uuid: str) -> Checkpoints:
        """virDomainListAllCheckpoints."""
        return await self._look(lambda connection: checkpoints.of_domain(connection, uuid))

    async def checkpoint_xml(self, uuid: str, name: str, *, size: bool) -> str:
        """virDomainCheckpointGetXMLDesc."""
        return await self._look(lambda connection: checkpoints.xml(connection, uuid, name, size=size))

    async def save_image(self, path: str) -> SaveImage:
        """virDomainSaveImageGetXMLDesc."""
        paths.check((path,), self._settings.path_roots, local=self._up.host_is_local)
        return await self._look(lambda connection: files.save_image(connection, path))

    async def guest_info(self, uuid: str, parts: Sequence[GuestPart]) -> GuestInfo:
        """virDomainGetGuestInfo, GetTime and InterfaceAddresses: through the agent."""
        return await self._look(lambda connection: guest.guest_info(connection, uuid, parts, self._clock))

    async def managed_save_image(self, uuid: str) -> SaveImage:
        """virDomainManagedSaveGetXMLDesc."""
        return await self._look(lambda connection: images.managed_save_image(connection, uuid))

    async def guest_vcpus(self, uuid: str) -> tuple[GuestVcpu, ...]:
        """virDomainGetGuestVcpus: through the agent."""
        return await self._look(lambda connection: guest.guest_vcpus(connection.lookupByUUIDString(uuid)))

    async def authorized_ssh_keys(self, uuid: str, user: str) -> tuple[str, ...]:
        """virDomainAuthorizedSSHKeysGet: through the agent."""
        return await self._look(lambda connection: guest.authorized_ssh_keys(connection.lookupByUUIDString(uuid), user))

    async def resource_parameters(self, uuid: str, scope: Scope) -> ResourceParameters:
        """virDomainGetSchedulerParametersFlags, GetMemoryParameters, GetNumaParameters, GetBlkioParameters."""
        return await self._look(lambda connection: resources.resource_parameters(connection, uuid, scope))

    async def dirty_rate(self, uuid: str) -> DirtyRate:
        """virDomainListGetStats, of the one group."""
        return await self._look(lambda connection: dirty_rate.dirty_rate(connection, uuid))

    async def screenshot(self, uuid: str, screen: int) -> Screenshot:
        """virDomainScreenshot."""
        return await self._look(lambda connection: screenshot.take(connection, uuid, screen))

    async def domain_capabilities(self, emulator: str, arch: str, machine: str, virt_type: str) -> str:
        """virConnectGetDomainCapabilities."""
        wanted = [word or None for word in (emulator, arch, machine, virt_type)]
        return await self._look(lambda connection: str(connection.getDomainCapabilities(*wanted, 0)))

    async def close(self) -> None:
        """Close connections, each on a thread of its own; calls that are out are abandoned."""
        if self._started is not None:
            started, self._started = self._started, None
            await started.close()

    async def _read(self, work: Callable[[Any], T]) -> T:
        return await self._up.host.lanes.reads.call(work)

    async def _look(self, work: Callable[[Any], T]) -> T:
        return await self._up.host.lanes.work.call(work)


class _Started:
    """A driver that was told where to deliver: everything that lives on its loop."""

    def __init__(self, settings: DriverSettings, deliver: Deliver, clock: readings.Clock, give_up: Callable[[], None] | None) -> None:
        self.settings = settings
        self.deliver = deliver
        self.host = Host(settings, give_up)
        self.events = Events(deliver, clock)
        self.runs = Runs(self.host.lanes, clock, deliver)
        self.probes = probing.Probes(self.host.lanes)
        self._tasks: set[asyncio.Task[Any]] = set()
        self.connecting = self.keep(self.host.stay_connected(deliver, self.events))

    def keep(self, work: Any) -> asyncio.Task[Any]:
        """A task that lives until it is done or the driver is closed."""
        task: asyncio.Task[Any] = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None and not isinstance(task.exception(), DriverError):
            logger.error("a task of the libvirt driver failed", exc_info=task.exception())

    async def close(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.host.lanes.refuse(Fault(reason=Reason.HOST_UNREACHABLE, message="the driver was closed"))

    async def carry_out(self, call: Call) -> Outcome:
        support = self._support(call)
        self._refuse(call)
        run = Run(call, abortable=support.abortable and call.operation.abortable, asks=support.slot is Slot.ASKING)
        self.runs.remember(run)
        try:
            with tracing.span(self.deliver, self.settings.tracing, f"libvirt {call.operation.verb}", call.traceparent, _attributes(call)):
                return await self._call_and_wait(run)
        except DriverError as error:
            raise leftovers.named(error, call, local=self.host_is_local) from None
        finally:
            self.runs.forget(run)

    async def conclude(self, call: Call) -> Outcome:
        support = self._support(call)
        run = proofs.resumed(call, support.abortable and call.operation.abortable)
        # That a guest has rebooted meanwhile cannot be seen, so that one might be waited for in vain.
        run.asks = call.begun and isinstance(call.operation, Shutdown | DetachDevice)
        self.runs.remember(run)
        try:
            with tracing.span(self.deliver, self.settings.tracing, f"resume {call.operation.verb}", call.traceparent, _attributes(call)):
                conclusion = proofs.Conclusion(run, self.runs, self.host.lanes, local=self.host_is_local)
                return await self._adopted(run, conclusion) or await self._concluded(run, conclusion)
        except DriverError as error:
            raise leftovers.named(error, call, local=self.host_is_local) from None
        finally:
            self.runs.forget(run)

    async def _adopted(self, run: Run, conclusion: proofs.Conclusion) -> Outcome | None:
        """The outcome of what goes on without its call; None where there is none to follow."""
        with self.events.listen(run.call.operation.uuid) as ear:
            if isinstance(run.call.operation, AnyBlocks):
                return await BlockRun(run, self.runs, ear).follow() if await adopt(run, self.runs) else None
            if isinstance(run.call.operation, Backup) and await conclusion.is_shown():
                return await BackupRun(run, self.runs, ear).follow()
        return None

    async def _concluded(self, run: Run, conclusion: proofs.Conclusion) -> Outcome:
        """The outcome of what is over, or of a guest that was asked and is waited for further."""
        try:
            return await conclusion.conclude()
        except DriverError as error:
            if error.reason is not Reason.INTERRUPTED or not run.asks:
                raise
        with self.events.listen(run.call.operation.uuid) as ear:
            asked = await self.host.lanes.reads.bounded(lambda connection: asking.question(connection, run.call.operation))
            if asked is None:
                return await conclusion.conclude()  # it did it just now
            await self._wait_for_guest(run, asked, ear)
        return Outcome()

    async def _wait_for_guest(self, run: Run, asked: asking.Question, ear: Ear) -> None:
        run.gave_up = asyncio.get_running_loop().create_future()
        self.runs.enter(run, Phase.WAITING_GUEST)
        await asking.wait(run, asked, ear, self.host.lanes)

    def _support(self, call: Call) -> VerbSupport:
        if self.host.info is None:
            raise DriverError(self.host.lanes.work.refused or NOT_YET)
        support = self.host.info.support(call.operation.verb)
        if support is None or not support.supported:
            raise failure(Reason.UNSUPPORTED, f"{self.host.info.hypervisor} cannot do {call.operation.verb}")
        return support

    def _refuse(self, call: Call) -> None:
        """What is refused before libvirt hears of it."""
        if self.settings.read_only:
            raise failure(Reason.HOST_READ_ONLY, "this host is configured read-only")
        operation = call.operation
        paths.check(operation.files, self.settings.path_roots, local=self.host_is_local)
        if isinstance(operation, Save | DumpCore):
            paths.check_absent(operation.path, overwrite=operation.overwrite, local=self.host_is_local)
        if isinstance(operation, Backup):
            for path in operation.new_files:
                paths.check_absent(path, overwrite=False, local=self.host_is_local)
            for path in operation.sockets:
                paths.check_socket(path, local=self.host_is_local)
        if isinstance(operation, Migrate):
            migration.check_target(operation, self.settings.migration_schemes)

    def _check_images(self, connection: Any, operation: AnyOperation) -> None:
        """What is refused once the domain's own disks are known. Blocks."""
        if isinstance(operation, CreateSnapshot | CopyBlock | Backup) and operation.reuse_external and self.host_is_local:
            xml = connection.lookupByUUIDString(operation.uuid).XMLDesc(0)
            sockets = operation.sockets if isinstance(operation, Backup) else ()
            chains.check([path for path in operation.files if path not in sockets], xml, self.settings.path_roots)

    @property
    def host_is_local(self) -> bool:
        info: HostInfo | None = self.host.info
        return info is None or info.local

    async def _call_and_wait(self, run: Run) -> Outcome:
        operation = run.call.operation
        if not isinstance(operation, Destroy | AnyAgent):
            await self.runs.disks_settled(run)
        lane = self.host.lanes.destroy if isinstance(operation, Destroy) else self.host.lanes.work
        with self.events.listen(operation.uuid) as ear:
            # What goes on without its call is followed by whoever takes it from there.
            poller = self.keep(self.runs.follow(run)) if run.operation is not None and not isinstance(operation, Backup) else None
            try:
                outcome, asked = await lane.call(lambda connection: _call(connection, run, self._check_images))
            finally:
                if poller is not None:
                    poller.cancel()
            if run.final is not None:
                self.runs.report_end(run, run.final)
            if isinstance(operation, AnyBlocks):
                return await BlockRun(run, self.runs, ear).follow()
            if isinstance(operation, Backup):
                return await BackupRun(run, self.runs, ear, outcome).follow()
            if asked is not None:
                await self._wait_for_guest(run, asked, ear)
        return outcome


def _call(connection: Any, run: Run, check: Callable[[Any, AnyOperation], None]) -> tuple[Outcome, asking.Question | None]:
    """The blocking part, on a lane's thread."""
    operation = run.call.operation
    check(connection, operation)
    asked = asking.question(connection, operation) if run.asks else None
    if run.operation is not None:
        domain = connection.lookupByUUIDString(operation.uuid)
        find_free(domain)
        clear_completed(domain)
    run.began = run.now()
    try:
        outcome = operations.VERBS[operation.verb](connection, operation)
        if isinstance(operation, Migrate):
            run.final = completed(connection, operation.uuid)
        return outcome, asked
    except libvirt.libvirtError as error:
        fault = fault_of(error)
        # A call to ESX that did not come through was to our host: it has no others.
        alive = fault.libvirt_domain != libvirt.VIR_FROM_ESX and connection.isAlive()
        raise DriverError(_judged(fault, alive, away=isinstance(operation, Migrate))) from None
    except SystemError as error:
        # libvirt-python's word for a message that is not text: its openvz driver speaks of a name that it has freed.
        if not isinstance(error.__cause__, UnicodeDecodeError):
            raise
        raise failure(Reason.FAILED, "the hypervisor refused it, in words that cannot be read") from None


def _judged(fault: Fault, alive: bool, *, away: bool = False) -> Fault:
    """A connection that broke under a call leaves its outcome open; one that lives spoke of another one: of a migration, the destination's."""
    if fault.reason is not Reason.HOST_UNREACHABLE or (alive and away):
        return fault
    reason = Reason.FAILED if alive else Reason.DRIVER_LOST
    return Fault(reason=reason, message=fault.message, libvirt_code=fault.libvirt_code, libvirt_domain=fault.libvirt_domain)


def _attributes(call: Call) -> dict[str, str | int | float | bool]:
    return {"virtrpc.call": call.id, "libvirt.function": operations.function(call.operation), "libvirt.domain.uuid": call.operation.uuid}
