"""What the caller of the present RPC may see of jobs, and do to them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable, Iterable
from dataclasses import replace
from typing import TypeAlias

import msgspec

from virtrpc.v1 import types_pb2
from virtrpc_server.caller import about_job, call
from virtrpc_server.endings import in_vain
from virtrpc_server.jobs import Jobs, not_found
from virtrpc_server.messages.jobs import JobBytes, job_bytes, job_bytes_for, job_message
from virtrpc_server.policy.actions import CONTROL_OTHERS_JOBS, SEE_DOMAIN, SEE_JOB
from virtrpc_server.policy.decisions import denied
from virtrpc_server.policy.engine import Resource
from virtrpc_server.policy.sight import Sight
from virtrpc_server.records import Holder, Job, Problem, WaitingFor

Holders: TypeAlias = tuple[Holder, ...]
UNSEEN = Holder(text="somebody whose work you may not see")
_READS = frozenset({"ListJobs", "WatchJobs", "WatchJob"})
"""RPCs that show jobs: beside GetJob a rule may forbid each of them."""
_OF_HOLDERS = frozenset({"WAIT_TIMEOUT", "BUSY"})
"""Reasons whose texts name holders."""


class JobSight:
    """Asks the rules about jobs. A job is there for whose it is, and for who may see its domain and jobs of it."""

    def __init__(self, sight: Sight, jobs: Jobs) -> None:
        self.sight = sight
        self._domains = jobs.domains
        self._jobs = jobs

    def known(self, job_id: str) -> Job:
        """A job as it was last told. Raises Refusal (JOB_NOT_FOUND, JOURNAL_UNAVAILABLE)."""
        job = self._jobs.known(job_id)
        about_job(job.id, job.host, job.uuid, job.name)
        if not self.sees(job):
            raise not_found(job_id)
        return job

    def steered(self, job_id: str) -> Job:
        """The same of a job that the caller is about to do something to. Raises PERMISSION_DENIED as well."""
        job = self.known(job_id)
        if self.sight.policed:
            self._check(job)
        return job

    def check_again(self, job: Job) -> None:
        """Raises PERMISSION_DENIED where the caller may no longer do what it has once begun, and now asks for again."""
        if self.sight.policed:
            for resource in self._resources(job):
                self._demand(job, call.get().rpc, resource)

    def sees(self, job: Job) -> bool:
        """Whether a job is there for the caller."""
        return not self.sight.policed or self.owns(job) or self._may(job, *self._reading)

    @property
    def _reading(self) -> tuple[str, ...]:
        rpc = call.get().rpc
        return (SEE_DOMAIN, SEE_JOB, rpc) if rpc in _READS else (SEE_DOMAIN, SEE_JOB)

    def check_seen(self, job: Job) -> None:
        """Raises JOB_NOT_FOUND where the caller may no longer see a job that it follows."""
        if not self.sees(job):
            raise not_found(job.id)

    def owns(self, job: Job) -> bool:
        """Whether it is the caller's own."""
        return job.owner == self.sight.caller.name

    @property
    def sees_all(self) -> bool:
        """Whether nothing of any job is kept from the caller."""
        return not self.sight.policed or self.sight.all_seen(*self._reading, CONTROL_OTHERS_JOBS)

    def told(self, job: Job) -> Job:
        """A job without what the caller may not know of it: others' request_id, and who it waits for."""
        if self.sees_all:
            return job
        changes: dict[str, object] = {}
        if job.request_id and not self.owns(job) and not self._may(job, CONTROL_OTHERS_JOBS):
            changes["request_id"] = ""
        holders = self.holders(job.holders, job.waiting_for)
        if holders != job.holders:
            changes |= {"holders": holders, "problem": _without(job, holders)}
        elif job.problem is not None and job.problem.reason == "PREEMPTED" and not self.knows_of(job.problem.metadata.get("job_id", "")):
            changes["problem"] = dataclasses.replace(job.problem, metadata={})
        return msgspec.structs.replace(job, **changes) if changes else job

    def holders(self, holders: Holders, waiting_for: WaitingFor | None) -> Holders:
        """Who is in the way, as far as the caller may know."""
        if self.sees_all or waiting_for is WaitingFor.BLOCKED_BY_OTHER:
            return holders
        return tuple(holder if self.knows_of(holder.job_id) else replace(UNSEEN, since=holder.since) for holder in holders)

    def problem_holders(self, holders: Holders) -> Holders:
        """The same of a verb that is refused because of them."""
        return self.holders(holders, None)

    def message(self, job: Job) -> types_pb2.Job:
        """A job as the caller may know it."""
        return job_message(self.told(job), self._jobs.hosts)

    def bytes(self, job: Job) -> JobBytes:
        """The same as streams send it: made once for all who may know as much."""
        told = self.told(job)
        if told is job:
            return job_bytes(job, self._jobs)
        return job_bytes_for(told, job, self._jobs)

    async def learn(self, jobs: Iterable[Job]) -> None:
        """Take the verdicts that streams of these need, a few at a time."""
        await self.sight.learn([resource for job in jobs for resource in self._resources(job)], *self._reading, CONTROL_OTHERS_JOBS)

    def standing(self) -> Callable[[], Hashable]:
        """Of a stream of jobs: which may see others as soon as domains are called or labelled otherwise."""
        return self.sight.standing(*self._reading, CONTROL_OTHERS_JOBS, also=lambda: self._domains.identities)

    def _check(self, job: Job) -> None:
        for resource in self._resources(job):
            self._demand(job, call.get().rpc, resource)
            if not self.owns(job):
                self._demand(job, CONTROL_OTHERS_JOBS, resource, f"job {job.id} is {job.owner or 'somebody'}'s")

    def _demand(self, job: Job, action: str, resource: Resource, detail: str = "") -> None:
        verdict = self.sight.verdict(action, resource)
        if not verdict.allowed:
            # By the name that the job tells: what its domain is called now may be none of its owner's business.
            raise denied(self.sight.caller, action, verdict, f"domain {job.name}", detail)

    def _may(self, job: Job, *actions: str) -> bool:
        return all(self.sight.verdict(action, resource).allowed for resource in self._resources(job) for action in actions)

    def _resources(self, job: Job) -> list[Resource]:
        """A job's domain as it is now and, where that is not the same, as the job tells of it."""
        entry = self._domains.get((job.host, job.uuid))
        now = self.sight.resource(entry) if entry is not None else self.sight.remembered((job.host, job.uuid))
        told = Resource(job.host, job.uuid, job.name, now.labels if now is not None else job.labels)
        return [told] if now is None or now == told else [now, told]

    def knows_of(self, job_id: str) -> bool:
        """Whether the caller may be told this id."""
        job = self._jobs.get(job_id) if job_id else None
        return self.sees_all or (job is not None and self.sees(job))


def _without(job: Job, holders: Holders) -> Problem | None:
    if job.problem is None or job.problem.reason not in _OF_HOLDERS or job.waiting_for is None:
        return job.problem
    return in_vain(job.wait_limit, job.waiting_for, holders, job.ended or job.updated, {"domain": job.uuid, "host": job.host})
