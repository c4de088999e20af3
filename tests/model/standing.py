"""Who has which keys, and where those who wait stand: from what jobs were told, and from what passed at the border."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterator

from tests.model.holding import Key, held_off, kept, keys_of
from tests.model.record import Out
from tests.model.world import World
from tests.virtual_time import EPOCH
from virtrpc_server.records import Job, JobState, WaitingFor

TICK = 1e-5
"""Seconds that wall time may be wrong by for its many digits."""
REFRESH_SECONDS = 5.0
"""How long the reading of a domain after a call is waited for."""


class Standing:
    """The keys of jobs now. Nothing is asked of the server: it is what says who has what that is judged."""

    def __init__(self, world: Callable[[], World]) -> None:
        self._there = world
        self._keys: dict[str, tuple[Key, ...]] = {}
        self._queued_at_once: dict[str, frozenset[Key]] = {}
        self._began = 0.0
        """Loop time in seconds at which the present life of the server began."""

    @property
    def _world(self) -> World:
        return self._there()

    def keys(self, job_id: str) -> tuple[Key, ...]:
        """What a job needs, in its order, as it was accepted."""
        if job_id not in self._keys:
            self._keys[job_id] = keys_of(self._world.journal.offered[job_id], self._world.shape)
        return self._keys[job_id]

    def held(self, job: Job) -> frozenset[Key]:
        """What a job has for certain, by its newest form that is stored: it may have got more since then."""
        if job.state is JobState.QUEUED and self.waiting_for(job) in (None, WaitingFor.CONDITION):
            awaited = self.awaited(job)
            return frozenset(self._before(job.id, awaited)) if awaited is not None else frozenset()
        out = self._world.record.calls.get(job.id)
        return frozenset(self._kept(job.id) if out is not None and out.asked else self.keys(job.id))

    def waiting_for(self, form: Job) -> WaitingFor | None:
        """What a job waits for by a form of its, where that is of this life: a queued job begins each life with nothing."""
        return form.waiting_for if self._world.journal.of_this_life(form) else None

    def life_begins(self) -> None:
        """Everybody has queued up anew."""
        self._queued_at_once.clear()
        self._began = asyncio.get_running_loop().time()

    def held_by_ghosts(self, *, refreshing: bool) -> dict[str, frozenset[Key]]:
        """What the jobs have that are over, while their calls, or aborts of these, are not.

        `refreshing`: and what they may have while their domain is read once more after that.
        """
        now, held, found = asyncio.get_running_loop().time(), self._world.journal.held, dict[str, frozenset[Key]]()
        for out in self._world.record.calls.values():
            job = held[out.job_id]
            if job.ended is None:
                continue
            outlived = out.over > job.ended - EPOCH + TICK and now < out.over + REFRESH_SECONDS
            if out.there or (refreshing and outlived):
                found[job.id] = frozenset(self._kept(job.id) if out.asked else self.keys(job.id))
        return found

    def held_off(self) -> dict[str, frozenset[Key]]:
        """What nobody gets while these destroys are out."""
        now = asyncio.get_running_loop().time()
        destroys = [job for job in self._world.journal.offered.values() if job.verb == "Destroy" and self._over_at(job) >= now]
        return {job.id: frozenset(held_off(job)) for job in destroys}

    def awaited(self, form: Job) -> Key | None:
        """The key that a job waits for by a form of its: the first of its own that the one in its way had then. None where that is not certain."""
        if self.waiting_for(form) is not WaitingFor.CONDITION or not form.holders:
            return None
        possible = self._may_have_had(form.holders[0].job_id, form)
        firsts = {next((key for key in self.keys(form.id) if key in had), None) for had in possible} - {None}
        return firsts.pop() if len(firsts) == 1 else None

    def queued_at_once(self, job_id: str) -> frozenset[Key]:
        """The keys in whose queues a job stood from its acceptance: up to the first that another might have had, or waited for, then.

        Where others have none of what it takes first, it has that at once, and its place in the next queue.
        """
        if job_id not in self._queued_at_once:
            job = self._world.journal.offered[job_id]
            others = {key for other in self._earlier(job) for key in (self.keys(other.id) if other.verb != "Destroy" else held_off(other))}
            mine = self.keys(job_id)
            place = next((place for place, key in enumerate(mine) if key in others), len(mine) - 1)
            self._queued_at_once[job_id] = frozenset(mine[: place + 1])
        return self._queued_at_once[job_id]

    def queued_before(self, job: Job, moment: float) -> frozenset[Key]:
        """The keys in whose queues a job stood before a moment (wall time), as far as that is certain."""
        stood = set(self.queued_at_once(job.id))
        for form in self._world.journal.forms.get(job.id, ()):
            if (
                form.updated < max(moment, self._began + EPOCH) - TICK
                and self._world.journal.of_this_life(form)
                and (awaited := self.awaited(form)) is not None
            ):
                stood |= {*self._before(job.id, awaited), awaited}
        return frozenset(stood)

    def _earlier(self, job: Job) -> Iterator[Job]:
        found = self._world.journal.found
        if job.id in found:
            # What ran or haunted had its places before anybody queued up.
            over = {other.id for other in found.values() if other.finished and not other.haunts}
            first = {other.id for other in found.values() if other.state is not JobState.QUEUED}
            yield from (other for other in found.values() if other.id not in over and (other.id < job.id or other.id in first))
            return
        for other in self._world.journal.offered.values():
            if other.id < job.id and self._over_at(other) >= job.created - EPOCH - TICK:
                yield other

    def _over_at(self, job: Job) -> float:
        """Loop time after which a job surely has nothing more; infinite where it may have something."""
        journal = self._world.journal
        if job.id in journal.refused:
            return journal.refused[job.id]
        newest, out = journal.held.get(job.id), self._world.record.calls.get(job.id)
        if newest is None or newest.ended is None or (out is not None and (out.there or out.waits)):
            return math.inf
        outlived = out is not None and out.over > newest.ended - EPOCH + TICK
        return max(journal.taken[job.id], out.over + REFRESH_SECONDS if out is not None and outlived else 0.0)

    def _may_have_had(self, job_id: str, told: Job) -> Iterator[tuple[Key, ...]]:
        """What a job may have had when another was told, in this form, that it was in its way: each possibility."""
        job, out = self._world.journal.offered.get(job_id), self._world.record.calls.get(job_id)
        if job is None:
            return
        if job.verb == "Destroy":
            yield held_off(job)
            return
        newest = next((form for form in reversed(self._world.journal.forms.get(job_id, [])) if form.updated <= told.updated + TICK), job)
        if newest.state is JobState.QUEUED and self.waiting_for(newest) in (None, WaitingFor.CONDITION):
            mine = self.keys(job_id)
            yield from (mine[:place] for place in range(1, len(mine) + 1))
            return
        asked = self._asked_before(out, told)
        if asked is not True:
            yield self.keys(job_id)
        if asked is not False:
            yield self._kept(job_id)

    def _asked_before(self, out: Out | None, told: Job) -> bool | None:
        """Whether a call went on with less than all its keys when this was told; None where nobody can say."""
        if out is None or out.asked_at is None:
            return False
        moment, (order, given) = told.updated - EPOCH, self._world.journal.given[told.id, told.revision]
        if abs(out.asked_at - moment) > TICK:
            return out.asked_at < moment
        return out.asked_in_order < order if abs(given - moment) <= TICK else None

    def _kept(self, job_id: str) -> tuple[Key, ...]:
        return kept(self._world.journal.offered[job_id], self._world.shape)

    def _before(self, job_id: str, key: Key) -> tuple[Key, ...]:
        mine = self.keys(job_id)
        return mine[: mine.index(key)]
