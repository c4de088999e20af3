"""What may be sent to a hypervisor now. Each rule has a name in brackets, by which a failure is known."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

from tests.model.holding import Key
from tests.model.past import Past
from tests.model.record import Out
from tests.model.standing import TICK, Standing
from tests.model.wishes import Wishes
from tests.model.world import World
from tests.virtual_time import EPOCH
from virtrpc_drivers.errors import Reason
from virtrpc_drivers.protocol import Call
from virtrpc_server.records import Job, JobState

KEPT_PLACES = 2
"""Of a daemon's workers, for aborts and for sampling."""
RETRY = 1.0
"""Seconds after which a job that a foreign one was in the way of tries again."""
MOMENT = 0.01
"""Seconds that a timer may be early or late."""


class AtTheBorder:
    """What may be sent to a hypervisor now."""

    def __init__(self, world: Callable[[], World], wishes: Wishes, standing: Standing) -> None:
        self._world, self._wishes, self._standing = world, wishes, standing
        self.past: Past | None = None

    def call_sent(self, host: str, call: Call) -> None:
        """Judge a call before it leaves."""
        job_id = call.id.partition(".")[0]
        for fault in self._faults_of_call(job_id, host, call):
            self._world().record.faults.append(fault)

    def _faults_of_call(self, job_id: str, host: str, call: Call) -> Iterator[str]:
        world = self._world()
        job = world.journal.held.get(job_id)
        if job is None or job.state is not JobState.RUNNING:
            yield f"[stored first] the call of job {job_id} was sent before it was stored as running"
            return
        if job.cancel_reason is not None and not self._just_stopped(job):
            yield f"[cancel] {named(job)} was sent although it was to stop"
        before = world.record.calls.get(job_id)
        if before is not None and before.resumed:
            yield f"[once] {named(job)} was sent again, and an earlier life of the server had sent it"
        elif before is not None and before.answer != Reason.FOREIGN_JOB.value:
            yield f"[once] {named(job)} was sent again, and its first call ended {before.answer or 'nowhere'}"
        elif before is not None and not before.earlier:
            yield from self._blocked(job, before)
        if self.past is not None and job_id in self.past.cut_off:
            yield f"[cut off] {named(job)} was queued when the server ended, was not to go on, and was sent"
        if before is None and job.verb != "Destroy":
            for out in world.record.calls.values():
                if out.operation.verb == "Destroy" and out.job_id > job_id and (out.host, out.operation.uuid) == (job.host, job.uuid):
                    yield f"[destroy] {named(job)} was sent, and its domain was destroyed by {out.job_id}, which came after it"
        newest = world.generations.get((job.host, job.uuid), "")
        if job.generation is not None and int(newest or 0) > job.generation:
            yield f"[generation] {named(job)} was sent to another domain than it was accepted for"
        needed = frozenset(self._standing.keys(job_id))
        for other in self._in_the_way(job, needed):
            yield f"[exclusion] {named(job)} was sent while {named(other)} had what it needs"
        if getattr(call.operation, "password", "") and getattr(job.operation, "password", ""):
            yield f"[secrets] {named(job)} was stored with its password"
        for out in world.record.calls.values():
            if needed and out.waits and out.operation.verb == "Destroy" and (out.host, out.operation.uuid) == (job.host, job.uuid):
                yield f"[destroy] {named(job)} was sent while its domain was being destroyed"
        for other in self._ahead(job, needed):
            yield f"[order] {named(job)} was sent before {named(other)}, which came first"
        places = max(1, world.workers - KEPT_PLACES) if world.workers else None
        if host == "a" and places is not None and job.verb != "Destroy" and len(self.in_daemon(host, job_id)) >= places:
            yield f"[budget] {named(job)} was sent with all {places} places taken"

    def in_daemon(self, host: str, besides: str) -> list[Out]:
        """The calls that hold a place of a host's budget."""
        outs = self._world().record.calls.values()
        return [out for out in outs if out.host == host and out.holds and out.operation.verb != "Destroy" and out.job_id != besides]

    def _just_stopped(self, job: Job) -> bool:
        """Whether it was told to stop in the very moment in which its call left: such a call is aborted."""
        forms = self._world().journal.forms[job.id]
        before = [form for form in forms if form.cancel_reason is None][-1:]
        now = asyncio.get_running_loop().time()
        return any(form.state is JobState.RUNNING and now < form.updated - EPOCH + TICK for form in before)

    def _in_the_way(self, job: Job, needed: frozenset[Key]) -> Iterator[Job]:
        """The jobs that have any of these keys: at work, over with a call that is not, or waiting with the one for the next."""
        held = self._world().journal.held
        ghosts = self._standing.held_by_ghosts(refreshing=False)
        for other in held.values():
            if other.id != job.id and needed & (ghosts.get(other.id, frozenset()) if other.finished else self._standing.held(other)):
                yield other

    def _ahead(self, job: Job, needed: frozenset[Key]) -> Iterator[Job]:
        """The jobs that stood in the queue of a key that this one needs before it was accepted, and still wait for that or another."""
        world = self._world()
        journal = world.journal
        for accepted in journal.offered.values():
            other = journal.held.get(accepted.id, accepted)
            if other.id >= job.id:
                return
            waits = not other.finished and other.verb != "Destroy" and other.id not in journal.refused and not self._wishes.may_have_left(other)
            if waits and other.id not in world.record.calls and needed & self._standing.queued_before(other, job.created):
                yield other

    def _blocked(self, job: Job, before: Out) -> Iterator[str]:
        """A job that met a foreign one is not sent again before somebody has looked whether that is over."""
        now, looked = asyncio.get_running_loop().time(), self._world().record.probed.get((job.host, job.uuid), -1.0)
        if now < before.over + RETRY - MOMENT or looked < before.over:
            yield f"[blocked] {named(job)} was sent again {now - before.over:.2f} s after it met a foreign job, and nobody had looked for that"

    def abort_sent(self, call_id: str) -> None:
        """Judge an abort before it leaves."""
        world = self._world()
        job_id = call_id.partition(".")[0]
        out, job = world.record.calls.get(job_id), world.journal.held[job_id]
        if out is None or not out.waits:
            world.record.faults.append(f"[abort] an abort for {named(job)} was sent after its call's end")
        elif not self._wishes.stops(job) and not may_have_run_out(job, out, asyncio.get_running_loop().time()):
            world.record.faults.append(f"[cancel] an abort for {named(job)} was sent, and nobody had asked for it")


def ran_out(job: Job, out: Out, now: float) -> bool:
    """Whether a job's run_timeout has passed."""
    return job.run_limit is not None and now >= out.began + job.run_limit - MOMENT


def may_have_run_out(job: Job, out: Out, now: float) -> bool:
    """The same by what a later life can know: when the call was to be sent, which is stored before it is."""
    called = job.called - EPOCH if out.resumed and job.called is not None else out.began
    return job.run_limit is not None and now >= min(out.began, called) + job.run_limit - MOMENT


def named(job: Job) -> str:
    """A job in words."""
    return f"{job.verb} {job.id} of {job.host}/{job.name}"
