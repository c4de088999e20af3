"""The life of one job: it waits, its call is out, it ends. Exactly one end is told, whatever races with it.

`Run.task` is the only writer of the job's state. Others ask it to stop and report its progress. Its record is in `telling.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Coroutine, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from opentelemetry.trace import SpanKind

from virtrpc_drivers.errors import DriverError, Reason
from virtrpc_drivers.migration import Step
from virtrpc_drivers.operations import AnyOperation, Migrate
from virtrpc_drivers.protocol import Call, Report
from virtrpc_drivers.values import Phase, Slot
from virtrpc_server import reporting, schedule, starting, tracing, verbs
from virtrpc_server.calls import Lost, OutstandingCall, foreign_job_over
from virtrpc_server.endings import Ending, Over, cut_off, failed, in_vain, preempted, stopped
from virtrpc_server.errors import Refusal, problem_of
from virtrpc_server.hosts import Freshness, Host
from virtrpc_server.judging import Judge
from virtrpc_server.places import Places
from virtrpc_server.policy.labels import labels_of
from virtrpc_server.records import CancelReason, Holder, Job, JobState, Problem, WaitingFor, domain_kept, operation_kept
from virtrpc_server.slots import Slots, Ticket
from virtrpc_server.telemetry import logs
from virtrpc_server.telling import Telling

if TYPE_CHECKING:
    from virtrpc_server.jobs import Jobs
    from virtrpc_server.listening import Listener

log = logging.getLogger(__name__)

DATED_SECONDS = 5.0
"""How long after the time that is stored for it a call may be sent."""


class Run:
    """One unfinished job at work."""

    def __init__(self, jobs: Jobs, host: Host, job: Job, operation: AnyOperation, record: Telling | None = None) -> None:
        loop = asyncio.get_running_loop()
        self.listeners: set[Listener] = set()
        self.task: asyncio.Task[None] | None = None
        self._jobs = jobs
        self._record = record or Telling(job, jobs.store, jobs.publish, jobs.clock)
        self._host = host
        self._operation = operation
        self._support = support = job.support
        self._deadline = loop.time() + job.wait_limit
        self._stop = asyncio.Event()
        self._judge = Judge(jobs, host, operation, support.slot)
        limits = jobs.hosts.limits(job.verb, support.slot, job.host, job.destination_host)
        self._places = Places(job, operation, support.slot, host, limits, jobs.conditions)
        self._judging: asyncio.Timeout | None = None
        self._out: OutstandingCall | None = None
        self._foreign = ""
        self._parked = False

    @property
    def job(self) -> Job:
        """The job as it is now, whether or not it has been told."""
        return self._record.job

    @property
    def told(self) -> Job | None:
        """The job as it was last told, however long ago that was."""
        return self._record.told

    @property
    def call_id(self) -> str:
        """The id of its present call."""
        return f"{self.job.id}.{self.job.attempts}"

    @property
    def host(self) -> Host:
        """The host that it runs at."""
        return self._host

    @property
    def stored(self) -> asyncio.Future[None]:
        """Done once the store has taken the job; raises what the store raised, and then there is no job."""
        return self._record.stored

    # What others may do

    def begin(self) -> None:
        """Take the first place in the queue now, in order of arrival, and live on in a task of its own."""
        self._places.arrive()
        self.task = asyncio.get_running_loop().create_task(self._live(), name=f"job {self.job.id}")

    def detach(self) -> bool:
        """A caller wants it to go on whoever leaves; False where that is nothing new. `tell` returns once it is stored."""
        if self.job.detached or self.job.finished:
            return False
        self._record.decide(detached=True)
        self._jobs.keep(self.tell())
        return True

    def park(self) -> bool:
        """Leave a queued job as it is stored, for the next server; False where it is not yet stored, or that could not begin it."""
        if self.task is None or self._stop.is_set() or not self.stored.done() or not self._jobs.store.outlives:
            return False
        if cut_off(self.job, self._jobs.clock()) is not None:
            return False
        self._places.give_up()
        self.task.cancel()
        self._parked = True
        return True

    def stop(self, reason: CancelReason) -> None:
        """Ask the job to stop, from this moment on; the first reason stays. `tell` says so to others."""
        if not self.job.finished and not self._stop.is_set():
            self._record.decide(cancel_reason=reason)
            self._stop_waiting()

    async def tell(self) -> None:
        """Store what was decided, then tell it. Nothing of a job that the store refused."""
        await self._record.tell()

    def preempt(self, by: str) -> None:
        """The domain is being destroyed by that job. A queued job ends; a running one ends with its call. Destroys do not disturb each other."""
        if self._support.slot is Slot.DESTROY or self.job.phase is Phase.REFRESHING:
            return
        self._judge.destroys.append(by)
        if self.job.state is JobState.QUEUED:
            self._stop_waiting()

    def spare(self, by: str) -> None:
        """That destroy is over, and the domain runs as before: a job that goes on is none of its victims."""
        if by in self._judge.destroys and self.job.state is not JobState.QUEUED:
            self._judge.destroys.remove(by)

    def _stop_waiting(self) -> None:
        self._stop.set()
        self._places.give_up()
        if self._judging is not None:
            judging, self._judging = self._judging, None
            judging.reschedule(asyncio.get_running_loop().time())
        if self._parked:
            self._parked = False
            self.task = asyncio.get_running_loop().create_task(self._end(self._stopped()))

    def reported(self, report: Report) -> None:
        """The driver says where the call is."""
        if self.job.state is JobState.QUEUED or report.call_id != self.call_id:
            return
        if report.phase.on_its_own and self._support.slot in (Slot.ASKING, Slot.BACKGROUND) and self._out is not None:
            # Also that of a job which is over: the hypervisor needs the domain no more.
            self._out.begun = True
            self._places.release_call()
        if self.job.finished:
            return
        changes, kept = reporting.news(self.job, report), len(self.job.samples.kept)
        if self._out is not None and report.phase is Phase.MIGRATION_POST_COPY and report.stamp is not None:
            self._out.shown_past_stopping()
        if changes:
            self._record.change(**changes)
            self._record.publish()
        if "phase" in changes or len(self.job.samples.kept) != kept:
            self._jobs.keep(self._record.jot())
        if isinstance(self._operation, Migrate) and (step := schedule.due(self.job, self._operation.schedule)):
            self._take(step)

    def _take(self, step: Step) -> None:
        """Do what the schedule says now that the move has not got on for so long."""
        assert self.job.convergence is not None
        self._record.change(convergence=self.job.convergence.took(self._jobs.clock()))
        self._record.publish()
        if step.abort:
            self.stop(CancelReason.NOT_CONVERGING)
            self._jobs.keep(self.tell())
        else:
            self._jobs.keep(schedule.take(self._host, self.call_id, step, self._step_in_vain))

    def _step_in_vain(self, why: str) -> None:
        if self.job.state is JobState.RUNNING and self.job.convergence is not None:
            self._record.change(convergence=self.job.convergence.in_vain(why))
            self._record.publish()

    def moved_up(self, holders: tuple[Holder, ...], position: int) -> None:
        """The queue that this job waits in has moved: who is in the way now, and which place in it the job has."""
        if self.job.state is JobState.QUEUED and (holders, position) != (self.job.holders, self.job.queue_position):
            self._record.change(holders=holders, queue_position=position)
            self._record.publish()

    # Its life

    async def _live(self) -> None:
        with self._released_at_worst(), self._traced():
            if await self._record.begin():
                await self._end(await self._ending(self._work()))
            else:
                self._places.release()
                self._jobs.refused(self)

    @contextlib.contextmanager
    def _traced(self) -> Iterator[None]:
        """The job's span, below that of the RPC that began it, whoever has left and whichever life of the server that was."""
        logs.work_on(self.job)
        if not self.job.traceparent:
            yield
            return
        about = tracing.about(self.job.host, self.job.uuid, self.job.name)
        attributes = {"virtrpc.job.id": self.job.id, "virtrpc.job.kind": self.job.verb, **about}
        with tracing.start_trace(f"job {self.job.verb}", {"traceparent": self.job.traceparent}, attributes, SpanKind.INTERNAL) as span:
            yield
            span.set_attribute("virtrpc.job.state", self.job.state.value)
            if self.job.problem is not None:
                span.set_attribute("error.type", self.job.problem.reason)
                tracing.failed(span, self.job.problem.reason)

    @contextlib.contextmanager
    def _released_at_worst(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            # The server ends, or has a fault: either way nothing may be held for ever.
            self._places.release()
            raise

    async def _ending(self, work: Coroutine[None, None, Ending]) -> Ending:
        try:
            return await self._after_call(await work)
        except Over as over:
            return over.ending
        except Exception:
            log.exception("job %s ended by a fault of this server", self.job.id)
            problem = Problem("INTERNAL", "a fault of this server ended the job")
            return Ending(JobState.FAILED, problem, ghost=self._out is not None and self._out.out)

    async def _work(self) -> Ending:
        for ticket, waiting_for in self._places.in_turn():
            await self._granted(ticket, waiting_for)
        while True:
            budget = self._places.take_budget()
            if budget is not None:
                await self._granted(budget, WaitingFor.DAEMON_BUDGET)
            await self._judge_anew()
            self._recheck()
            ending = await self._call()
            if ending is not None:
                return ending
            await self._blocked()

    async def _granted(self, ticket: Ticket, waiting_for: WaitingFor) -> None:
        if not ticket.granted.is_set() and not self._stop.is_set():
            self._record.decide(
                waiting_for=waiting_for, holders=self._jobs.queues.holders(ticket.slots), queue_position=ticket.slots.position(ticket)
            )
            self._tell_those_behind()
            await self.tell()
        began = asyncio.get_running_loop().time()
        with self._waiting(waiting_for):
            granted = await ticket.wait(self._time_left(), self._stop)
        self._jobs.recorded.wait(waiting_for, asyncio.get_running_loop().time() - began, granted=granted)
        if self._stop.is_set():
            raise Over(self._stopped())
        if not granted:
            raise Over(self._waited_in_vain(waiting_for, ticket.slots))

    def _waiting(self, waiting_for: WaitingFor) -> AbstractContextManager[object]:
        """The span of a wait."""
        return tracing.start_span(f"wait for {waiting_for}", {"virtrpc.job.id": self.job.id, "virtrpc.waiting_for": waiting_for.value})

    def _time_left(self) -> float:
        return max(0.0, self._deadline - asyncio.get_running_loop().time())

    async def _judge_anew(self) -> None:
        try:
            # It may ask a file system that hangs: who asks the job to stop does not wait for that.
            async with asyncio.timeout(None) as self._judging:
                await self._jobs.judged_anew(self.job, self._operation)
        except TimeoutError:
            if not self._stop.is_set():
                raise
            raise Over(self._stopped()) from None
        except Refusal as refusal:
            raise Over(Ending(JobState.FAILED, refusal.problem)) from None
        except DriverError as error:
            # What is in a file now that was not when it was asked for: XML that must not be sent.
            raise Over(Ending(JobState.FAILED, problem_of(error.fault, host=self.job.host, domain=self.job.uuid))) from None
        finally:
            self._judging = None

    def _recheck(self) -> None:
        # After every wait: the same domain, in a state that makes sense, on a host that is there.
        entry = self._judge.entry(self.job)
        if not self._host.connected:
            text = self._host.fault.message if self._host.fault else ""
            raise Over(failed("HOST_UNREACHABLE", f"host {self._host.name} cannot be reached: {text}", host=self._host.name))
        if entry is None and verbs.makes_domain(self._operation):
            return
        if entry is None:
            raise Over(failed("DOMAIN_NOT_FOUND", f"domain {self.job.name} went away while the job waited", domain=self.job.uuid))
        # A reading that is known to be out of date judges nothing: the hypervisor does.
        known = self._host.group_freshness(entry, verbs.STATE) is Freshness.LIVE
        problem = verbs.invalid(self._operation, entry) or (verbs.wrong_state(self._operation, entry) if known else None)
        if problem is not None:
            raise Over(Ending(JobState.FAILED, problem))

    # Its call

    async def _call(self) -> Ending | None:
        """Send the operation; None where a foreign job was in the way."""
        entry = self._judge.entry(self.job)
        abortable = self._support.abortable and self._operation.abortable
        now = self._jobs.clock()
        self._record.decide(
            state=JobState.RUNNING,
            # It may have been renamed while the job waited.
            name=entry.name if entry is not None else self.job.name,
            created_domain=entry is None,
            started=self.job.started or now,
            attempts=self.job.attempts + 1,
            called=now,
            phase=Phase.CALLING,
            waiting_for=None,
            holders=(),
            queue_position=None,
            abortable=abortable,
            abort_reason="" if abortable else f"the hypervisor cannot abort this {self.job.verb}; DestroyDomain is the way out",
        )
        self._tell_those_behind()
        await self.tell()
        # Where that took long (a full disk), the call would be dated before what others began meanwhile, and its own not be known again.
        while self._jobs.clock() - (self.job.called or 0.0) > DATED_SECONDS:
            self._record.decide(called=self._jobs.clock())
            await self.tell()
        if self._stop.is_set() or self._judge.destroys:
            return self._stopped()
        self._recheck()
        if self._support.slot is Slot.DESTROY:
            self._jobs.preempt(self)
        self._out = OutstandingCall(self._host, self._present_call(), lambda: self._enter(Phase.ABORTING))
        return await self._outcome_of(self._out, self.job.run_limit)

    def _present_call(self) -> Call:
        limit = self.job.run_limit
        return Call(
            # Ids are unique for ever: a call that is sent again is another call.
            id=self.call_id,
            operation=self._operation,
            began=self.job.called or self.job.created,
            wait_guest=limit * 2 if limit is not None else 86_400.0,
            traceparent=tracing.traceparent(),
        )

    async def _outcome_of(self, out: OutstandingCall, limit: float | None) -> Ending | None:
        """How the call ends; None where a foreign job was in the way."""
        try:
            with starting.read_meanwhile(self._host, self._operation):
                outcome = await out.finish(self._stop, limit, self._ran_out)
        except Lost as lost:
            return Ending(JobState.OUTCOME_UNKNOWN, Problem("OUTCOME_UNKNOWN", str(lost)), evidence=str(lost), ghost=True)
        except DriverError as error:
            # Its traceback refers to this run, which refers to it: such a circle keeps the operation's XML until a collection, and those are rare.
            return self._failed_call(error.with_traceback(None))
        return Ending(JobState.SUCCEEDED, outcome=outcome)

    def _enter(self, phase: Phase, **changes: Any) -> None:  # the fields of Job
        if self.job.state is JobState.RUNNING:
            self._record.change(phase=phase, **changes)
            self._record.publish()
        if phase is Phase.ABORTING:
            # A later life is to know that what is over then was aborted.
            self._jobs.keep(self._record.jot())

    def _ran_out(self) -> None:
        self.stop(CancelReason.RUN_TIMEOUT)
        # The abort does not wait for the store.
        self._jobs.keep(self.tell())

    def _failed_call(self, error: DriverError) -> Ending | None:
        match error.reason:
            case Reason.FOREIGN_JOB:
                self._foreign = error.fault.message
                return self._stopped() if self._stop.is_set() or self._judge.destroys else None
            case Reason.ABORTED:
                return stopped(self.job, error.fault.message)
            case Reason.INTERRUPTED:
                return Ending(JobState.INTERRUPTED, problem_of(error.fault), evidence=error.fault.message, unheard=True)
        # A host that could not be reached while ours can is the destination.
        away = isinstance(self._operation, Migrate) and error.reason is Reason.HOST_UNREACHABLE and self._host.connected
        host = self.job.destination_host if away else self.job.host
        return Ending(JobState.FAILED, problem_of(error.fault, host=host, domain=self.job.uuid))

    @property
    def _was_to_be_aborted(self) -> bool:
        could_be = self._support.abortable and self._operation.abortable
        return self._out is not None and (self._out.aborted or (could_be and self.job.cancel_reason is not None))

    async def _blocked(self) -> None:
        """Wait with what we have until the foreign job may be over; then the call is sent again."""
        # It changed nothing: a job that ends here need not read the domain first.
        self._out = None
        self._places.release_budget()
        holder = Holder(text=self._foreign)
        self._record.decide(
            state=JobState.QUEUED, phase=None, waiting_for=WaitingFor.BLOCKED_BY_OTHER, holders=(holder,), abortable=True, abort_reason=""
        )
        self._tell_those_behind()
        await self.tell()
        if self._jobs.draining and not self.park():
            self.stop(CancelReason.DRAIN)
            await self.tell()
        began = asyncio.get_running_loop().time()
        with self._waiting(WaitingFor.BLOCKED_BY_OTHER):
            may_be_over = await foreign_job_over(self._host, self.job.uuid, self._time_left(), self._stop)
        self._jobs.recorded.wait(WaitingFor.BLOCKED_BY_OTHER, asyncio.get_running_loop().time() - began, granted=may_be_over)
        if self._stop.is_set():
            raise Over(self._stopped())
        if not may_be_over:
            raise Over(self._waited_in_vain(WaitingFor.BLOCKED_BY_OTHER, None))

    # Its end

    def _stopped(self) -> Ending:
        return preempted(self.job, self._judge.destroys[0]) if self._judge.destroys else stopped(self.job)

    def _waited_in_vain(self, waiting_for: WaitingFor, slots: Slots | None) -> Ending:
        holders = self._jobs.queues.holders(slots) if slots is not None else self.job.holders
        about = {"domain": self.job.uuid, "host": self.job.host}
        problem = in_vain(self.job.wait_limit, waiting_for, holders, self._jobs.clock(), about)
        return Ending(JobState.FAILED, problem, waited_for=waiting_for, holders=holders)

    async def _after_call(self, ending: Ending) -> Ending:
        """The ending as the domain shows it when it is read after the call. What was not sent, or is still out, has changed nothing that is known."""
        if self._out is None or ending.ghost:
            return ending
        if self._out.out:
            self._jobs.keep(self._release_budget_after(self._out))
        else:
            self._places.release_budget()
        self._enter(Phase.REFRESHING, abortable=False, abort_reason="its call is over; the domain is being read")
        with tracing.start_span("refresh", {"virtrpc.job.id": self.job.id}):
            ending = await self._judge.judged(self.job, ending)
        if ending.unheard and self._was_to_be_aborted and self._judge.runs(self.job):
            # A process was lost, so nobody heard libvirt say it; nor perhaps that the abort was sent. But this very call, which was to be
            # aborted, is over and did not succeed: its guest would show that. One that is off or gone meanwhile shows nothing.
            return replace(stopped(self.job), evidence=ending.evidence)
        return ending

    async def _release_budget_after(self, out: OutstandingCall) -> None:
        # The reading of the domain, which takes no place, may take longer than the abort.
        await out.aborts_over()
        self._places.release_budget()

    async def _end(self, ending: Ending) -> None:
        entry = self._judge.entry(self.job)
        out = ending.ghost or (self._out is not None and self._out.out)
        self._record.decide(
            state=ending.state,
            phase=None,
            queue_position=None,
            waiting_for=ending.waited_for,
            holders=ending.holders,
            ended=self._jobs.clock(),
            abortable=False,
            abort_reason="",
            cancel_reason=ending.cancel_reason or self.job.cancel_reason,
            trouble=None,
            problem=ending.problem,
            outcome=ending.outcome,
            evidence=ending.evidence,
            may_still_apply=ending.ghost,
            haunts=out,
            # What a ghost keeps, a later life can tell from its whole operation alone.
            operation=self.job.operation if out else operation_kept(self.job.operation),
            samples=self.job.samples.at_rest(),
            name=entry.name if entry is not None else self.job.name,
            labels=labels_of(entry.config.value) if entry is not None and entry.config is not None else self.job.labels,
            domain=domain_kept(entry) if entry is not None and ending.state is JobState.SUCCEEDED else None,
        )
        self._jobs.recorded.job(self.job.verb, ending.state, max(0.0, (self.job.ended or 0.0) - self.job.created))
        await self._record.write()
        if out:
            self._jobs.keep(self._haunt())
            self._tell_those_behind()
        else:
            self._leave()
        self._record.publish()
        self._jobs.ends.ended(self.job)
        if not out:
            self._jobs.ended(self)

    async def _haunt(self) -> None:
        """The call, or an abort of it, is still out: keep what the job held until the hypervisor says that it is over."""
        try:
            if self._out is not None:
                await self._out.over()
            self._places.release_budget()
            await self._judge.look(self.job)
        finally:
            self._leave()
        await self._record.laid_to_rest()
        self._jobs.ended(self)

    def _leave(self) -> None:
        self._places.release()
        # The call refers to this run: see `_call`.
        self._out = None

    def _tell_those_behind(self) -> None:
        """What is known of this job as a holder has changed."""
        for slots in self._places.queues:
            self._jobs.queues.moved(slots)
