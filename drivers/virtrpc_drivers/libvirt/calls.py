"""Calls carried out, and those of an earlier process concluded: what of a driver lives on its loop once it was told where to deliver."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import libvirt

from virtrpc_drivers import leads, paths
from virtrpc_drivers.errors import DriverError, Fault, Reason, failure
from virtrpc_drivers.libvirt import (
    asking,
    chains,
    leftovers,
    migration,
    operations,
    probing,
    proofs,
    readings,
    tracing,
)
from virtrpc_drivers.libvirt.backup_runs import BackupRun
from virtrpc_drivers.libvirt.block_runs import BlockRun, adopt
from virtrpc_drivers.libvirt.errors import fault_of
from virtrpc_drivers.libvirt.events import Ear, Events
from virtrpc_drivers.libvirt.host import NOT_YET, Host
from virtrpc_drivers.libvirt.migration_stats import completed
from virtrpc_drivers.libvirt.progress import clear_completed, find_free
from virtrpc_drivers.libvirt.runs import Run, Runs
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
    Shutdown,
)
from virtrpc_drivers.operations.agent import AnyAgent
from virtrpc_drivers.protocol import Call, Deliver, DriverSettings, StuckCalls, attributes
from virtrpc_drivers.values import (
    HostInfo,
    Outcome,
    Phase,
    Slot,
    VerbSupport,
)

logger = logging.getLogger(__name__)


class Started:
    """A driver that was told where to deliver: everything that lives on its loop."""

    def __init__(self, settings: DriverSettings, deliver: Deliver, clock: readings.Clock, give_up: Callable[[], None] | None) -> None:
        self.settings = settings
        self.deliver = deliver
        self.host = Host(settings, give_up)
        self.host.lanes.tell_stuck(lambda lanes: deliver(StuckCalls(lanes=lanes)))
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
        await self.host.parted()

    async def carry_out(self, call: Call) -> Outcome:
        support = self._support(call)
        self._refuse(call)
        run = Run(call, abortable=support.abortable and call.operation.abortable, asks=support.slot is Slot.ASKING)
        self.runs.remember(run)
        try:
            with tracing.span(self.deliver, self.settings.tracing, f"libvirt {call.operation.verb}", call.traceparent, self._attributes(call)):
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
            with tracing.span(self.deliver, self.settings.tracing, f"resume {call.operation.verb}", call.traceparent, self._attributes(call)):
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

    def _attributes(self, call: Call) -> dict[str, str | int | float | bool]:
        return attributes(call, self.settings.host) | {"libvirt.function": operations.function(call.operation)}

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
        """What is refused once it is known where files lead, and which the domain's own disks are. Blocks."""
        leads.hold(operation.trail, self.settings.path_roots, local=self.host_is_local)
        if isinstance(operation, CreateSnapshot | CopyBlock | Backup) and operation.reuse_external and self.host_is_local:
            xml = connection.lookupByUUIDString(operation.uuid).XMLDesc(0)
            chains.check([path for path in operation.files if path not in operation.no_images], xml, self.settings.path_roots)

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
