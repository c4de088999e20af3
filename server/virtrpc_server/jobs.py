"""The jobs: accepting them, telling of them, stopping them. The life of one job is in `running.py`."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from bisect import bisect_left, insort
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine
from typing import TYPE_CHECKING, Protocol

from virtrpc_drivers.operations import AnyOperation
from virtrpc_drivers.protocol import Report
from virtrpc_drivers.values import Group, Slot, VerbSupport
from virtrpc_server import tracing, verbs
from virtrpc_server.beginning import Beginning
from virtrpc_server.domains import Domains, Entry
from virtrpc_server.endings import in_vain
from virtrpc_server.errors import RETRY_SECONDS, Refusal, not_yet, refuse, too_much
from virtrpc_server.feed import Feed
from virtrpc_server.history import DEFAULT_RETENTION, History, Retention
from virtrpc_server.hosts import Freshness, Host, Hosts
from virtrpc_server.listening import Listener, Past, end_of, follow
from virtrpc_server.records import CancelOutcome, CancelReason, Holder, Job, JobState, OnDisconnect, Order, WaitingFor, number_of
from virtrpc_server.recovery import Revived
from virtrpc_server.running import Run
from virtrpc_server.serialised import Serialised
from virtrpc_server.slots import Conditions
from virtrpc_server.store import Store
from virtrpc_server.telemetry.recorded import Recorded
from virtrpc_server.waiting import Queues

if TYPE_CHECKING:
    from virtrpc_server.messages.jobs import JobBytes

log = logging.getLogger(__name__)

FORGET_SECONDS = 60.0
"""How often what has become too old is looked for."""
STORING_SECONDS = 1.0
"""How long a drain waits for the store to take what was accepted just before."""


class Ends(Protocol):
    """Who is told once of each job that has ended."""

    def ended(self, job: Job) -> None:
        """It is over, and that is stored."""

    def remembered(self, job: Job) -> None:
        """It was over when this life of the server began: an earlier one may have told of it."""


class Unheard:
    """Nobody is."""

    def ended(self, job: Job) -> None:
        """It is over."""

    def remembered(self, job: Job) -> None:
        """It was over."""


class Jobs:
    """All jobs of this server, and the conditions that they take."""

    def __init__(
        self,
        hosts: Hosts,
        domains: Domains,
        store: Store,
        clock: Callable[[], float] = time.time,
        retention: Retention = DEFAULT_RETENTION,
        each: int = 0,
        ends: Ends | None = None,
    ) -> None:
        self.recorded = Recorded()
        self.hosts = hosts
        self.domains = domains
        self.store = store
        self.clock = clock
        self.feed: Feed[str, Job] = Feed(lambda job: (job.uuid, job.name))
        self.serialised: Serialised[str, JobBytes] = Serialised()
        """The jobs' newest revisions as streams send them."""
        self.serialised_lasting: Serialised[str, bytes] = Serialised()
        """The same without what every report of progress changes."""
        self.serialised_holders: Serialised[tuple[int, float], bytes] = Serialised(64)
        """Who is in the way of many, as streams send it: by the identity of the holders, and when they were told."""
        self.draining = False
        self.ends = ends or Unheard()
        self._each = each
        """How many jobs one owner may have at once; 0 is no limit."""
        self._owned: Counter[str] = Counter()
        self.holders_told: Callable[[tuple[Holder, ...]], tuple[Holder, ...]] = lambda holders: holders
        """What the caller of the present RPC may know of who is in its way."""
        self.judged_anew: Callable[[Job, AnyOperation], Awaitable[None]] = _as_accepted
        """Raises Refusal where a job that has waited may not begin any more."""
        self._runs: dict[str, Run] = {}
        self._ghosts: set[asyncio.Task[None]] = set()
        self._requests: dict[tuple[str, str], str] = {}
        self._history = History(retention, clock)
        self._beginning = Beginning(self)
        self._order: list[str] = []
        self._last_id = 0
        self.queues = Queues(self._runs, self.feed.get, self.keep)
        self.conditions: Conditions[tuple[str, ...]] = Conditions(clock, self.queues.moved)
        for host in hosts:
            host.tell_queues(self.queues.moved)

    # Beginning

    async def begin(self) -> None:
        """Take up what an earlier life has left. Until the store can be read, all that concerns jobs is refused. Raises InUse."""
        self.keep(self._forget_old())
        await self._beginning.begin()

    async def _forget_old(self) -> None:
        while True:
            await asyncio.sleep(FORGET_SECONDS)
            self.forget()

    def remember(self, job: Job) -> None:
        """A job of an earlier life that is over."""
        self.ends.remembered(job)
        self._note(job)
        self.publish(job)
        self._history.add(job)

    def go_on(self, job: Job) -> Run:
        """A job of an earlier life that is not over, or whose call is not."""
        if job.finished:
            self.ends.remembered(job)
        run = self._runs[job.id] = Revived(self, job)
        self._owned[job.owner] += 1
        self._note(job)
        return run

    def check_read(self) -> None:
        """Raises Refusal (JOURNAL_UNAVAILABLE) where it is not known which jobs there are."""
        self._beginning.check()

    # Accepting

    def accept(self, order: Order) -> Listener:
        """Accept a verb and begin its job, or attach to the one that the same request_id began. Takes its place in the queue at once.

        Raises Refusal for what is wrong before acceptance. Await `Listener.stored` before telling anybody.
        """
        attached = self.attach(order.owner, order.request_id, order.fingerprint, order.on_disconnect)
        if attached is not None:
            return attached
        if self.draining:
            raise refuse("DRAINING", "this server is going down and takes no new jobs")
        support = self._check(order)
        return Listener(self, self._begin(order, support), order.on_disconnect)

    def attach(self, owner: str, request_id: str, fingerprint: str, on_disconnect: OnDisconnect) -> Listener | None:
        """Listen to the job that this request began when it was first sent; None where there is none. Raises Refusal (REQUEST_ID_REUSED)."""
        self.check_read()
        job = self.begun(owner, request_id)
        if job is None:
            return None
        if job.fingerprint != fingerprint:
            raise refuse("REQUEST_ID_REUSED", f"request_id {request_id!r} was used for another request", job_id=job.id)
        return Listener(self, self._runs.get(job.id) or Past(job), on_disconnect)

    def begun(self, owner: str, request_id: str) -> Job | None:
        """The job that this caller's request of this id began, where it is remembered."""
        job_id = self._requests.get((owner, request_id), "")
        run = self._runs.get(job_id)
        return run.job if run is not None else self.feed.get(job_id)

    def _check(self, order: Order) -> VerbSupport:
        host = self.hosts[order.host]
        operation = order.operation
        if host.config.read_only:
            raise refuse("HOST_READ_ONLY", f"host {host.name} is configured read-only", host=host.name)
        if host.info is None or not host.connected:
            if host.fault is None:
                raise not_yet(f"host {host.name} has not been reached yet", host=host.name)
            raise refuse("HOST_UNREACHABLE", f"host {host.name} cannot be reached: {host.fault.message}", host=host.name)
        support = host.require(operation.verb)
        assert support is not None  # the host has said what it can do
        if self._each and self._owned[order.owner] >= self._each and support.slot is not Slot.DESTROY:
            raise too_much("TOO_MANY_JOBS", f"{order.owner} has {self._owned[order.owner]} jobs queued and running", self._each, RETRY_SECONDS)
        entry = self.domains.get((order.host, operation.uuid))
        if entry is not None and self._certain(host, entry, operation, support.slot):
            problem = verbs.invalid(operation, entry) or verbs.wrong_state(operation, entry)
            if problem is not None:
                raise Refusal(problem)
        if order.wait_limit == 0:
            self._refuse_if_busy(order, support.slot)
        return support

    def _refuse_if_busy(self, order: Order, slot: Slot) -> None:
        host = self.hosts[order.host]
        keys = verbs.conditions(order.operation, slot, order.host, order.destination_host, order.name)
        waits = [(WaitingFor.CONDITION, self.conditions.peek(key)) for key in keys]
        waits += [(WaitingFor.HOST_LIMIT, limit) for limit in self.hosts.limits(order.operation.verb, slot, order.host, order.destination_host)]
        waits.append((WaitingFor.DAEMON_BUDGET, None if slot is Slot.DESTROY else host.budget))
        for waiting_for, slots in waits:
            if slots is not None and slots.busy_with is not None:
                holders = self.holders_told(self.queues.holders(slots))
                raise Refusal(in_vain(0.0, waiting_for, holders, self.clock(), {"domain": order.operation.uuid, "host": order.host}))

    def _certain(self, host: Host, entry: Entry, operation: AnyOperation, slot: Slot) -> bool:
        # What a job ahead of this one may still change is judged after the wait, as the job's own error.
        if host.group_freshness(entry, Group.STATE) is not Freshness.LIVE:
            return False
        return slot is Slot.DESTROY or self.conditions.peek((entry.host, entry.uuid)) is None

    def _begin(self, order: Order, support: VerbSupport) -> Run:
        now, operation = self.clock(), verbs.without_secrets(order.operation)
        job = Job(
            id=self._new_id(now),
            host=order.host,
            uuid=order.operation.uuid,
            name=order.name,
            generation=order.generation,
            operation=operation,
            owner=order.owner,
            origin=order.origin,
            request_id=order.request_id,
            fingerprint=order.fingerprint,
            on_disconnect=order.on_disconnect,
            wait_limit=order.wait_limit,
            run_limit=order.run_limit,
            created=now,
            updated=now,
            support=support,
            detached=order.on_disconnect is OnDisconnect.DETACH,
            secret=operation != order.operation,
            destination_host=order.destination_host,
            traceparent=tracing.traceparent() or "",
            labels=order.labels,
        )
        run = self._runs[job.id] = Run(self, self.hosts[order.host], job, order.operation)
        self._owned[job.owner] += 1
        self._note(job)
        run.begin()
        return run

    def _note(self, job: Job) -> None:
        self._last_id = max(self._last_id, number_of(job.id))
        if job.request_id:
            self._requests[job.owner, job.request_id] = job.id

    def _new_id(self, now: float) -> str:
        # In order of acceptance, whatever the clock does, so that lists need no other order.
        self._last_id = max(int(now * 1e6), self._last_id + 1)
        return f"{first_id(self._last_id)}-{secrets.token_hex(6)}"

    # Telling

    def get(self, job_id: str) -> Job | None:
        """A job as it was last told."""
        return self.feed.get(job_id)

    @property
    def runs(self) -> Collection[Run]:
        """The lives of all jobs that are not over, or whose call is not."""
        return self._runs.values()

    @property
    def counts(self) -> tuple[int, int]:
        """How many jobs run, and how many are queued."""
        states = [run.job.state for run in self._runs.values()]
        return states.count(JobState.RUNNING), states.count(JobState.QUEUED)

    def run_of(self, job_id: str) -> Run | None:
        """A job's life, while it lasts."""
        return self._runs.get(job_id)

    def known(self, job_id: str) -> Job:
        """A job as it was last told; raises Refusal (JOB_NOT_FOUND, JOURNAL_UNAVAILABLE)."""
        self.check_read()
        job = self.feed.get(job_id)
        if job is None:
            raise not_found(job_id)
        return job

    def ids(self) -> list[str]:
        """All jobs, in order of their acceptance. Raises Refusal (JOURNAL_UNAVAILABLE)."""
        self.check_read()
        return self._order

    def unfinished(self) -> list[str]:
        """The jobs that have not told their end, in that order."""
        return sorted(job_id for job_id in self._runs if self.feed.get(job_id) is not None)

    def watch(self, job_id: str, silence: float | None = None) -> AsyncIterator[Job]:
        """As `follow`, for who has no say in whether the job goes on. Raises Refusal (JOB_NOT_FOUND)."""
        run = self._runs.get(job_id)
        return follow(run if run is not None else Past(self.known(job_id)), self.feed.news, silence)

    async def over(self, job_id: str) -> None:
        """Wait until a job has told its end; at once where there is none."""
        run = self._runs.get(job_id)
        if run is not None:
            async for _ in follow(run, self.feed.news):
                pass

    def publish(self, job: Job) -> None:
        """Tell of a job's newest form; called by its run, once that is stored."""
        if self.feed.get(job.id) is None:
            insort(self._order, job.id)
        self.feed.put(job.id, job)
        self.feed.news.announce((job.id, end_of(job.id)) if job.finished else (job.id,))

    def report(self, host: str, report: Report) -> None:
        """A driver's report of a running call."""
        run = self._runs.get(report.call_id.partition(".")[0])
        if run is not None and run.job.host == host:
            run.reported(report)

    # Stopping

    async def cancel(self, job_id: str) -> tuple[Job, CancelOutcome]:
        """Ask a job to stop: sticky, idempotent, answered at once. Raises Refusal (JOB_NOT_FOUND)."""
        run = self._runs.get(job_id)
        if run is None:
            return self.known(job_id), CancelOutcome.ALREADY_FINISHED
        outcome = CancelOutcome.ABORTING if run.job.abortable else CancelOutcome.NOT_ABORTABLE
        if run.job.finished:
            outcome = CancelOutcome.ALREADY_FINISHED
        elif run.job.state is JobState.QUEUED:
            outcome = CancelOutcome.WITHDRAWN
        run.stop(CancelReason.REQUESTED)
        try:
            await run.tell()
        except asyncio.CancelledError:
            # Its caller has left: but as long as a decision is not stored, nothing of the job is told.
            self.keep(run.tell())
            raise
        return self.known(job_id), outcome

    def preempt(self, destroy: Run) -> None:
        """A destroy is being sent: what came before it and is queued on its domain ends PREEMPTED, what runs is told why it failed."""
        for run in list(self._runs.values()):
            if run is destroy:
                return
            if (run.job.host, run.job.uuid) == (destroy.job.host, destroy.job.uuid) and not run.job.finished:
                run.preempt(destroy.job.id)

    def spare(self, destroy: str) -> None:
        """The destroy with this job id is over and has left its domain running."""
        for run in self._runs.values():
            run.spare(destroy)

    async def drain(self, limit: float) -> None:
        """Take no new jobs, leave queued ones to the next server or end them INTERRUPTED, wait at most `limit` seconds for running ones.

        Cancels nothing.
        """
        self.draining = True
        beginning = [run.stored for run in self._runs.values() if not run.stored.done()]
        if beginning:
            await asyncio.wait(beginning, timeout=min(limit, STORING_SECONDS))
        for run in list(self._runs.values()):
            if run.job.state is JobState.QUEUED and not run.park():
                run.stop(CancelReason.DRAIN)
                self.keep(run.tell())
        tasks = [run.task for run in self._runs.values() if run.task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=limit)

    async def close(self) -> None:
        """Abandon what is still out; the hypervisor goes on with it."""
        tasks = [task for task in (self._beginning.task, *(run.task for run in self._runs.values()), *self._ghosts) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.store.close()

    # For runs

    def keep(self, work: Coroutine[None, None, None]) -> None:
        """Run something that outlives its caller, and keep hold of it."""
        task = asyncio.get_running_loop().create_task(work)
        self._ghosts.add(task)
        task.add_done_callback(self._ghosts.discard)

    def refused(self, run: Run) -> None:
        """The store did not take it: there is no such job, and the same request_id may try again."""
        self._drop(run)
        self._forget_request(run.job)

    def ended(self, run: Run) -> None:
        """A run told its end and has nothing out any more: it becomes history, and the oldest history is forgotten."""
        self._drop(run)
        self._history.add(run.job)
        self.forget()

    def _drop(self, run: Run) -> None:
        if self._runs.pop(run.job.id, None) is None:
            return
        self._owned[run.job.owner] -= 1
        if not self._owned[run.job.owner]:
            del self._owned[run.job.owner]

    def forget(self) -> None:
        """Forget the finished jobs that are kept no longer."""
        forgotten = list(self._history.expired())
        for job_id in forgotten:
            if (job := self.feed.get(job_id)) is not None:
                self._forget_request(job)
            self.feed.remove(job_id)
            del self._order[bisect_left(self._order, job_id)]
        if forgotten:
            self.keep(self._forgotten(forgotten))

    async def _forgotten(self, job_ids: list[str]) -> None:
        try:
            await self.store.forget(job_ids)
        except Refusal as refusal:
            log.info("jobs cannot be forgotten now: %s", refusal)

    def _forget_request(self, job: Job) -> None:
        if self._requests.get((job.owner, job.request_id)) == job.id:
            del self._requests[job.owner, job.request_id]


async def _as_accepted(_job: Job, _operation: AnyOperation) -> None:
    """Nobody judges it again."""


def first_id(microseconds: int) -> str:
    """What the ids begin with, and so are not before, of jobs that are accepted so long after the epoch."""
    return f"{max(0, microseconds):014x}"


def not_found(job_id: str) -> Refusal:
    """The refusal of an unknown job."""
    return refuse("JOB_NOT_FOUND", f"there is no job {job_id!r}, or it was forgotten", job_id=job_id)
