"""The simulated hypervisor: its domains, the operations inside it, and all that a test may do to it."""

from __future__ import annotations

import asyncio
import itertools
import time
import uuid as uuids
import zlib
from collections.abc import AsyncIterator, Callable, Coroutine, MutableMapping
from contextlib import asynccontextmanager
from typing import Any
from weakref import WeakValueDictionary

from virtrpc_drivers.errors import DriverError, Reason
from virtrpc_drivers.protocol import Call, Change
from virtrpc_drivers.sim.domain import SaveImage, SimDomain
from virtrpc_drivers.sim.events import Deliverer, Events, ThreadDeliverer
from virtrpc_drivers.sim.faults import Faults
from virtrpc_drivers.sim.ledger import Ledger
from virtrpc_drivers.sim.options import SimOptions
from virtrpc_drivers.sim.sdk import ForeignJob, JobHandle, SharedHandle, sdk_error
from virtrpc_drivers.sim.verbs import perform
from virtrpc_drivers.sim.xmldoc import Document
from virtrpc_drivers.support import PUSHES_EVENTS
from virtrpc_drivers.values import Outcome, State

MAX_REMEMBERED = 10_000
"""Ended calls that a hypervisor can still tell about."""

Network = MutableMapping[str, "SimHypervisor"]
NETWORK: Network = WeakValueDictionary()
"""The simulated hosts of this process by name: where a migration looks for its destination."""


class SimHypervisor:
    """One simulated host. It must be made and used on one running event loop; all its time is that loop's.

    `wall` gives seconds since the epoch, `deliverer` carries events (a thread of its own by default), `network` holds the hosts
    that migrations reach, `ledger` is told of every call. `violations` lists what no correct server lets happen: two edits of one
    domain at once, an abort that hit another's job.
    """

    def __init__(
        self,
        options: SimOptions | None = None,
        *,
        deliverer: Deliverer | None = None,
        wall: Callable[[], float] = time.time,
        network: Network | None = None,
        ledger: Ledger | None = None,
    ) -> None:
        self.options = options or SimOptions()
        self.wall = wall
        self.ledger = ledger
        self.network = NETWORK if network is None else network
        self.faults = Faults(self.options.seed, self._die)
        self.events = Events(deliverer or ThreadDeliverer())
        self.domains: dict[str, SimDomain] = {}
        self.files: dict[str, tuple[str, SaveImage | None]] = {}
        """Whose memory lies in which file; None for a core file, which nothing comes back from."""
        self.written: dict[str, float] = {}
        """When core files and backups were, in wall time."""
        self.names: dict[str, str] = {}
        self.jobs: dict[str, JobHandle] = {}
        """All calls that it knows by id, ended ones too."""
        self._working: dict[str, JobHandle] = {}
        self.violations: list[str] = []
        self.on_death: list[Callable[[], None]] = []
        """Called when a fault ends the driver process."""
        self._handles: dict[str, SharedHandle] = {}
        self._foreign: dict[str, list[ForeignJob]] = {}
        # A dictionary for its order: with virtual time, the same happens every time.
        self._watching: dict[asyncio.Future[None], None] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._last_id = 0
        self._workers = asyncio.Semaphore(self.options.workers) if self.options.workers else None
        self.network[self.options.host] = self
        self._populate()

    def now(self) -> float:
        """The loop's time in seconds."""
        return asyncio.get_running_loop().time()

    def domain(self, uuid: str) -> SimDomain:
        """The domain with this uuid. Raises DOMAIN_NOT_FOUND."""
        try:
            return self.domains[uuid]
        except KeyError:
            raise sdk_error(Reason.DOMAIN_NOT_FOUND, f"no domain with matching uuid '{uuid}'") from None

    def by_name(self, name: str) -> SimDomain:
        """The domain with this name. Raises DOMAIN_NOT_FOUND."""
        return self.domain(self.names.get(name, name))

    def begin(self, call: Call) -> JobHandle:
        """Begin an operation; it goes on whoever waits for it. A call that is known already is not begun again."""
        if call.id in self.jobs:
            if self.ledger is not None:
                self.ledger.sent_again(call.id)
            return self.jobs[call.id]
        job = self.jobs[call.id] = JobHandle(self, call)
        job.task = asyncio.get_running_loop().create_task(self._run(job), name=f"sim {call.operation.verb} {call.id}")
        self._working[call.id] = job
        if self.ledger is not None:
            self.ledger.begun(job, self.wall())
        job.task.add_done_callback(lambda task: self._ended(job, task))
        return job

    def running_jobs(self, uuid: str) -> list[JobHandle]:
        """The calls on this domain that have not ended."""
        return [job for job in self._working.values() if job.operation.uuid == uuid]

    def visible_job(self, uuid: str) -> JobHandle | ForeignJob | None:
        """What the domain's job statistics show: the asynchronous job that runs, ours or another's."""
        ours = next((job for job in self.running_jobs(uuid) if job.visible), None)
        foreign = self._foreign.get(uuid)
        return ours or (foreign[0] if foreign else None)

    def abort_domain(self, uuid: str, meant: str) -> bool:
        """Abort whatever the domain runs, as libvirt does; `meant` is the call for which it was sent."""
        job = self.visible_job(uuid)
        if isinstance(job, ForeignJob):
            self.violations.append(f"the abort for {meant} ended another's {job.verb}")
            job.end(aborted=True)
            return True
        if job is not None and job.id != meant:
            self.violations.append(f"the abort for {meant} hit {job.id}")
        return job is not None and job.abort()

    def foreign_job(self, uuid: str, verb: str = "CoreDump", seconds: float | None = None) -> ForeignJob:
        """Somebody else's job on a domain: ends after `seconds`, or when told to. While one of our operations is at work there, it waits."""
        job = ForeignJob(verb, self._foreign.setdefault(uuid, []).remove)
        self._foreign[uuid].append(job)
        if seconds is not None:
            self.spawn(self._end_after(job, seconds))
        return job

    def end_foreign_jobs(self, uuid: str) -> int:
        """End all jobs of others on a domain; says how many there were."""
        jobs = list(self._foreign.get(uuid, ()))
        for job in jobs:
            job.end()
        return len(jobs)

    def stop_guest(self, uuid: str) -> None:
        """SIGSTOP for the guest's process: every call that needs its monitor hangs."""
        domain = self.domain(uuid)
        if domain.active and domain.stopped is None:
            domain.count(self.now())
            domain.stopped = asyncio.Event()

    def continue_guest(self, uuid: str) -> None:
        """SIGCONT."""
        domain = self.domain(uuid)
        if domain.stopped is not None:
            domain.count(self.now())
            domain.stopped.set()
            domain.stopped = None
            domain.stuck_calls = 0

    async def monitor(self, uuid: str) -> None:
        """Come past the guest's monitor: at once, or when a stopped guest goes on or ends."""
        domain = self.domains.get(uuid)
        if domain is None or domain.stopped is None:
            return
        domain.stuck_calls += 1
        await domain.stopped.wait()

    def is_busy(self, uuid: str) -> bool:
        """Whether the domain's job is held: by an operation that lets no query pass, or by a query that hangs in its monitor."""
        domain = self.domains.get(uuid)
        if domain is not None and domain.stuck_calls:
            return True
        return self.handle(uuid).editor is not None and self.visible_job(uuid) is None

    def handle(self, key: str) -> SharedHandle:
        """The shared handle of a domain (its uuid), or of its agent ("agent" before the uuid)."""
        return self._handles.setdefault(key, SharedHandle())

    @asynccontextmanager
    async def exclusive(self, key: str, job: JobHandle) -> AsyncIterator[None]:
        """Have the handle to oneself, and the hypervisor's own job on the domain too. Raises FOREIGN_JOB."""
        handle = self.handle(key)
        try:
            handle.begin_edit(f"{job.operation.verb} {job.id}")
        except DriverError as error:
            self.violations.append(error.fault.message)
            raise
        job.arrived.set()
        try:
            await self._no_foreign_job(key)
            yield
        finally:
            handle.commit()

    async def free(self, uuid: str) -> None:
        """Wait until the hypervisor's job on a domain could be taken: at once where it is off or gone and nothing works on it.

        Whoever asks comes after the calls that were sent before, as in a daemon's queue of requests.
        """
        for job in self.running_jobs(uuid):
            await job.arrived.wait()
        while uuid in self.domains:
            await self.handle(uuid).free()
            await self.monitor(uuid)
            foreign = self._foreign.get(uuid)
            if foreign:
                await foreign[0].over.wait()
            elif self.handle(uuid).editor is None:
                return
        # It is gone, and what worked on it may still do so, on the handle that another one by this uuid would have.
        await self.handle(uuid).free()

    @asynccontextmanager
    async def worker(self) -> AsyncIterator[None]:
        """A place among the daemon's workers, where it has a limit."""
        if self._workers is None:
            yield
            return
        async with self._workers:
            yield

    def guest_gone(self, uuid: str) -> None:
        """What talked to a guest that ended is told so, except by the operation that ended it."""
        stubborn = {held.verb for held in self.faults.wedged if held.uuid == uuid and held.stubborn}
        self.faults.release(uuid, killed=True)
        for job in self.running_jobs(uuid):
            if job.operation.verb not in _OUTLIVE_GUEST | stubborn and job.task is not asyncio.current_task():
                job.kill(sdk_error(Reason.FAILED, "operation failed: domain is not running"))

    async def until(self, predicate: Callable[[], bool]) -> None:
        """Wait until something has changed so that `predicate` holds."""
        while not predicate():
            changed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._watching[changed] = None
            try:
                await changed
            finally:
                self._watching.pop(changed, None)

    def remember(self, domain: SimDomain) -> SimDomain:
        """A domain is there."""
        self.domains[domain.uuid] = domain
        self.names[domain.name] = domain.uuid
        return domain

    def forget(self, domain: SimDomain) -> None:
        """A domain is not there any more."""
        self.domains.pop(domain.uuid, None)
        self.names.pop(domain.name, None)

    def emit(self, uuid: str, change: Change, detail: str = "") -> None:
        """Something changed: tell who waits for it inside, and send an event where this hypervisor has events."""
        for changed in list(self._watching):
            if not changed.done():
                changed.set_result(None)
        if self.options.events and self.options.shape in PUSHES_EVENTS:
            self.events.emit(uuid, change, detail)

    def next_id(self) -> int:
        """The id for a domain that starts."""
        self._last_id += 1
        return self._last_id

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Have something happen by itself (a guest, a stranger)."""
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Switch it off: nothing of it stays behind."""
        tasks: list[asyncio.Task[Any]] = [*self._tasks, *(job.task for job in self._working.values() if job.task is not None)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.events.close()
        if self.network.get(self.options.host) is self:
            del self.network[self.options.host]

    async def _run(self, job: JobHandle) -> Outcome:
        try:
            async with self.worker():
                outcome = await perform(self, job)
                job.applied = True
                await job.strike(-1)
                return outcome
        except asyncio.CancelledError:
            error = job.failed_by()
            if error is None:
                raise
            raise error from None
        finally:
            job.abortable = job.visible = False

    async def _no_foreign_job(self, uuid: str) -> None:
        holder = ""
        try:
            async with asyncio.timeout(self.options.lock_seconds):
                while foreign := self._foreign.get(uuid):
                    # It may end in the very moment in which time runs out.
                    holder = foreign[0].verb
                    await foreign[0].over.wait()
        except TimeoutError:
            raise sdk_error(
                Reason.FOREIGN_JOB,
                f"Timed out during operation: cannot acquire state change lock (held by monitor=remoteDispatchDomain{holder})",
            ) from None

    async def _end_after(self, job: ForeignJob, seconds: float) -> None:
        try:
            await asyncio.wait_for(job.over.wait(), seconds)
        except TimeoutError:
            job.end()

    def _ended(self, job: JobHandle, task: asyncio.Task[Outcome]) -> None:
        self._working.pop(job.id, None)
        job.arrived.set()
        if self.ledger is not None:
            self.ledger.ended(job, task, self.wall())
        if not task.cancelled():
            task.exception()  # seen here, so that an abandoned call's error is not reported as forgotten
        if len(self.jobs) > MAX_REMEMBERED:
            old = itertools.islice((call for call, other in self.jobs.items() if other.done), MAX_REMEMBERED // 10)
            for call in list(old):
                del self.jobs[call]

    def _die(self) -> None:
        for callback in list(self.on_death):
            callback()

    def _populate(self) -> None:
        options = self.options
        prefix = f"{zlib.crc32(options.host.encode()):08x}-{options.seed & 0xFFFF:04x}-4000-8000-"
        for number in range(1, options.domains + 1):
            uuid, name = f"{prefix}{number:012x}", f"guest-{number}"
            document = Document.made(number=number, name=name, uuid=uuid, memory_bytes=options.memory_mib << 20, vcpus=options.vcpus)
            domain = self.remember(SimDomain(uuid=str(uuids.UUID(uuid)), name=name, document=document))
            if number <= options.running:
                domain.persistent = number > options.transient
                domain.counted = self.now()
                domain.state, domain.reason, domain.live, domain.id = State.RUNNING, "booted", document, self.next_id()


_OUTLIVE_GUEST = frozenset({"Destroy", "Define", "Undefine", "Shutdown"})
"""Operations that a guest's end does not make fail."""
