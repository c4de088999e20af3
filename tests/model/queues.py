"""Who waits for whom: nobody waits for what nobody has, nor for longer than it wanted to, and who is to stop stops."""

from __future__ import annotations

import asyncio

from tests.model.border import KEPT_PLACES, MOMENT, RETRY, AtTheBorder, named, ran_out
from tests.model.endings import Endings
from tests.model.holding import Key
from tests.model.past import Past
from tests.model.record import Out
from tests.model.standing import TICK, Standing
from tests.model.wishes import Wishes
from tests.model.world import World
from tests.virtual_time import EPOCH
from virtrpc_server.records import Job, JobState, WaitingFor

DESTROYS_AT_ONCE = 3
SOON = 0.5
"""Seconds after which a loss must have been noticed."""
STOPPED_SECONDS = 60.0
"""Seconds after which what was to stop is over: 15 for its call, 25 for a destroy and readings, and what the store takes."""
ABORTED_SECONDS = 2.5
"""Seconds after which an abort was tried for a call that is to stop: a pause between two is up to 2."""
PROBED_SECONDS = 32.0
"""Seconds after which somebody has looked again whether a call is over of which nothing was heard: a pause between two looks is up to 30."""


class Queues:
    """The jobs that are not over, while nothing more happens at this moment."""

    def __init__(self, world: World, wishes: Wishes, border: AtTheBorder, endings: Endings, standing: Standing, past: Past) -> None:
        self._world, self._wishes, self._border, self._endings, self._standing, self._past = world, wishes, border, endings, standing, past

    def stopping(self) -> None:
        """Who is to stop has been told so, and stops in the time that it has for that."""
        now, began = asyncio.get_running_loop().time(), self._past.began
        for job in self._world.journal.held.values():
            if job.finished or self._world.journal.behind(job.id):
                continue
            asked = job.id in self._wishes.cancelled | self._wishes.must_stop and not self._wishes.preempted(job)
            assert job.cancel_reason is not None or not asked, f"[cancel] {named(job)} was cancelled, and does not know it"
            out = self._world.record.calls.get(job.id)
            late = (
                out is not None
                and job.state is JobState.RUNNING
                and (out.waits or out.inside)
                and ran_out(job, out, now - SOON)
                and now > began + SOON
            )
            assert job.cancel_reason is not None or not late, f"[run_timeout] {named(job)} has run for longer than it may"
            since = max(began, next((form.updated - EPOCH for form in self._world.journal.forms[job.id] if form.cancel_reason), now))
            assert now - since < STOPPED_SECONDS, f"[stops too late] {named(job)} was to stop {now - since:.0f} s ago"
            if out is not None and out.waits and job.cancel_reason is not None:
                self._aborted(job, out, since)

    def _aborted(self, job: Job, out: Out, since: float) -> None:
        """An abort was sent for a call that is to stop: for each time at which it was asked for, since another process may have lost the first."""
        host, now = self._world.record.hosts[out.host], asyncio.get_running_loop().time()
        needed = max(since, out.asked_for)
        done = out.aborts > 0 or out.aborted > needed - TICK or now < max(needed, host.since) + ABORTED_SECONDS
        assert done or not host.connected, f"[abort] no abort was sent for {named(job)}, which is to stop since {now - needed:.0f} s"

    def probing(self) -> None:
        """Somebody looks whether the calls are over of which nothing was heard."""
        record, now = self._world.record, asyncio.get_running_loop().time()
        for out in record.calls.values():
            job, host, place = self._world.journal.held[out.job_id], record.hosts[out.host], (out.host, out.operation.uuid)
            if job.ended is None or not out.inside or out.waits or out.aborts or not host.connected:
                continue
            looked = max(job.ended - EPOCH, host.since, record.probed.get(place, 0.0))
            done = now < looked + PROBED_SECONDS or record.probes_out.get(place, 0) > 0
            assert done, f"[probe] nobody has looked for {now - looked:.0f} s whether the call of {named(job)} is over"

    def waiting(self) -> None:
        """Nobody waits for what nobody has, nor for longer than it wanted to."""
        held = self._world.journal.held
        unfinished = [job for job in held.values() if not job.finished]
        queued = [job for job in unfinished if job.state is JobState.QUEUED and not self._world.journal.behind(job.id)]
        now = asyncio.get_running_loop().time()
        for job in queued:
            late = now - (job.created - EPOCH) - job.wait_limit
            assert late < MOMENT, f"[waits too long] {named(job)} waits {late:.2f} s longer than it wanted to"
            self._not_after_destroy(job, unfinished)
        if any(self._world.journal.behind(job.id) for job in unfinished) or self._world.journal.unborn:
            return
        has = self._had(unfinished)
        for job in queued:
            if self._standing.waiting_for(job) is WaitingFor.CONDITION and job.verb != "Destroy":
                self._waits_for_one_who_has(job, has)
            else:
                assert self._waits_rightly(job, unfinished), f"[lost waiter] {named(job)} waits for {job.waiting_for}, and nobody is in its way"

    def _had(self, unfinished: list[Job]) -> dict[str, frozenset[Key]]:
        """Who has which keys now, or keeps others from them."""
        return {
            **{job.id: self._standing.held(job) or self._may_have(job) for job in unfinished},
            **self._standing.held_by_ghosts(refreshing=True),
            **self._standing.held_off(),
        }

    def _may_have(self, job: Job) -> frozenset[Key]:
        """What a queued job may have that waits for its host to be known, in another life of the server than its first."""
        found = self._world.journal.found.get(job.id)
        waits = found is not None and job.state is JobState.QUEUED and self._standing.waiting_for(job) is None
        return self._standing.queued_at_once(job.id) if waits else frozenset()

    def _waits_for_one_who_has(self, job: Job, has: dict[str, frozenset[Key]]) -> None:
        """Nobody waits for what nobody has, and who waits is told who has it."""
        awaited = self._standing.awaited(job)
        needed = set(self._standing.keys(job.id)) if awaited is None else {awaited}
        in_the_way = {other for other, keys in has.items() if other != job.id and needed & keys}
        assert in_the_way, f"[lost waiter] {named(job)} waits for {awaited or 'something'}, and nobody is in its way"
        told = self._world.core.jobs.known(job.id)
        holders = {holder.job_id for holder in told.holders}
        assert holders & in_the_way, f"[holders] {named(job)} is told that it waits for {holders}, and {in_the_way} are in its way"

    def _not_after_destroy(self, job: Job, unfinished: list[Job]) -> None:
        for out in self._world.record.calls.values():
            same = out.operation.verb == "Destroy" and (out.host, out.operation.uuid) == (job.host, job.uuid)
            if same and out.job_id > job.id and out.job_id not in self._endings.harmless:
                assert job.verb == "Destroy", f"[preempted] {named(job)} waits, and its domain was destroyed"

    def _ahead_at_hosts(self, job: Job, unfinished: list[Job]) -> set[str]:
        """The jobs that have a place which this one needs: a migration counts at both its hosts."""
        others = [other for other in unfinished if self._standing.waiting_for(other) not in (WaitingFor.CONDITION, WaitingFor.HOST_LIMIT)]
        others += [self._world.journal.held[ghost] for ghost in self._standing.held_by_ghosts(refreshing=True)]
        needed = {job.host, job.destination_host} - {""}
        return {other.id for other in others if other.verb == job.verb and needed & {other.host, other.destination_host}} - {job.id}

    def _waits_rightly(self, job: Job, unfinished: list[Job]) -> bool:
        """For anything but its condition."""
        match self._standing.waiting_for(job):
            case None:
                return not self._world.core.hosts[job.host].listed
            case WaitingFor.HOST_LIMIT:
                return len(self._ahead_at_hosts(job, unfinished)) >= (DESTROYS_AT_ONCE if job.verb == "Destroy" else 1)
            case WaitingFor.DAEMON_BUDGET:
                places = max(1, self._world.workers - KEPT_PLACES)
                taken = len(self._border.in_daemon(job.host, job.id)) + self._world.record.reads_out.get(job.host, 0)
                return job.host == "a" and self._world.workers > 0 and taken >= places
            case WaitingFor.BLOCKED_BY_OTHER:
                record, at = self._world.record, (job.host, job.uuid)
                looked = max(self._world.journal.taken[job.id], record.probed.get(at, 0.0))
                resting = asyncio.get_running_loop().time() - looked < RETRY + MOMENT
                return resting or record.probes_out.get(at, 0) > 0 or not record.hosts[job.host].connected
        return False
