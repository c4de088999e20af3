"""At the end: what was told, what the server says now, and what the hypervisors really did must be one story."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from dataclasses import dataclass, field

from tests.beds.sim_daemon import SimDaemon
from tests.restart.bed import FORGETFUL
from tests.restart.load import GUARD, Load
from tests.restart.told import End, Told
from virtrpc import AsyncClient, is_final
from virtrpc.v1 import job_pb2 as j
from virtrpc.v1 import types_pb2 as t
from virtrpc_drivers.errors import Reason
from virtrpc_drivers.sim.ledger import Deed

UNFINISHED = j.JobFilter(states=[t.JOB_STATE_QUEUED, t.JOB_STATE_RUNNING])
UNDECIDED = (t.JOB_STATE_INTERRUPTED, t.JOB_STATE_OUTCOME_UNKNOWN)
"""Ends that claim nothing of the call's effect."""
NEVER_BY_STATE = frozenset(
    {t.JOB_KIND_CREATE_SNAPSHOT, t.JOB_KIND_SET_METADATA, t.JOB_KIND_COPY_BLOCK, t.JOB_KIND_RESET_DOMAIN}
)  # fmt: skip
"""Verbs whose success nothing but their own call can have brought about: what they make has a name of its own, or leaves nothing to be read."""


@dataclass
class Reckoning:
    """The jobs as the server tells of them at last, beside the calls as the hypervisors' ledgers have them."""

    jobs: dict[str, t.Job]
    deeds: dict[str, list[Deed]]
    """By job."""
    kills: list[float]
    """When a server or driver process was killed, in seconds since the epoch."""
    wrong: list[str] = field(default_factory=list)

    @classmethod
    async def of(cls, client: AsyncClient, daemon: SimDaemon, hosts: str, kills: list[float]) -> Reckoning:
        """Ask them all, once every job has ended."""
        async with asyncio.timeout(2 * GUARD):
            while [job async for job in client.list_jobs(filter=UNFINISHED)]:  # noqa: ASYNC110 - it is asked of a server
                await asyncio.sleep(0.1)
        deeds: dict[str, list[Deed]] = defaultdict(list)
        for host in hosts:
            for deed in await daemon.ledger(host):
                deeds[deed.call_id.rpartition(".")[0]].append(deed)
        return cls({job.job_id: job async for job in client.list_jobs()}, deeds, kills)

    def check(self, load: Load) -> None:
        """All that must hold."""
        self._check_told(load.told)
        self._check_watchers(load)
        for job_id, deeds in self.deeds.items():
            if job_id not in self.jobs:
                self._accuse("lost", job_id, f"the hypervisor was sent calls of it: {deeds}")
        for job in self.jobs.values():
            self._check_calls(job, self.deeds.get(job.job_id, []))
            self._check_end(job, self.deeds.get(job.job_id, []))
        assert not self.wrong, f"{len(self.wrong)} wrong:\n" + "\n".join(self.wrong[:20])

    def summary(self) -> str:
        """How many jobs of each kind ended how."""
        ends = Counter((t.JobState.Name(job.state).removeprefix("JOB_STATE_"), job.error.reason) for job in self.jobs.values())
        calls = sum(len(deeds) for deeds in self.deeds.values())
        return f"{len(self.jobs)} jobs, {calls} calls, {len(self.kills)} kills; " + ", ".join(
            f"{' '.join(end)}: {n}" for end, n in ends.most_common()
        )

    def _check_told(self, told: Told) -> None:
        for job_id in {*told.known, *(job for jobs in told.jobs_of.values() for job in jobs)} - set(self.jobs):
            self._accuse("lost", job_id, "it was told to somebody, and is not known any more")
        for job_id, end in told.ends.items():
            if job_id in self.jobs and End.of(self.jobs[job_id]) != end:
                self._accuse("changed", job_id, f"it was told as ended {end}, and is now {End.of(self.jobs[job_id])}")
        requests = Counter(job.request_id for job in self.jobs.values())
        self.wrong += [f"[twice] request {request} became {count} jobs" for request, count in requests.items() if request and count > 1]
        self.wrong += [f"[refused] request {request} was refused ({why}), and is a job" for request, why in told.refused.items() if requests[request]]

    def _check_watchers(self, load: Load) -> None:
        for who, seen in load.watched.items():
            for job_id in self.jobs.keys() - seen:
                self._accuse("unseen", job_id, f"the {who} watcher was never told of its end")

    def _check_calls(self, job: t.Job, deeds: list[Deed]) -> None:
        for deed in deeds:
            if deed.sent > 1:
                self._accuse("twice", job.job_id, f"call {deed.call_id} was sent {deed.sent} times")
        for refused in deeds[:-1]:
            if refused.reason != Reason.FOREIGN_JOB:
                self._accuse("twice", job.job_id, f"it was sent again although {refused}")
        ended, still_out = job.end_time.ToNanoseconds() / 1e9, job.state == t.JOB_STATE_OUTCOME_UNKNOWN and job.may_still_apply
        late = [deed for deed in deeds if deed.ended is None or deed.ended > ended]
        if late and not still_out:
            self._accuse("late", job.job_id, f"it ended at {ended} while its call was out: {late}")

    def _check_end(self, job: t.Job, deeds: list[Deed]) -> None:
        done = any(deed.how == "succeeded" or deed.applied for deed in deeds)
        if not is_final(job):
            self._accuse("unfinished", job.job_id, "")
        elif job.state == t.JOB_STATE_SUCCEEDED and not done and not self._may_be_so(job, deeds):
            self._accuse("wrongly succeeded", job.job_id, f"the hypervisor did {deeds or 'nothing'}")
        elif job.state not in (t.JOB_STATE_SUCCEEDED, *UNDECIDED) and done:
            self._accuse("wrongly failed", job.job_id, f"the hypervisor did {deeds}")
        elif job.state == t.JOB_STATE_INTERRUPTED and deeds and deeds[-1].reason != Reason.FOREIGN_JOB and job.domain.host not in FORGETFUL:
            # One that was refused for somebody else's job was queued again, with nothing at the hypervisor.
            self._accuse("not asked", job.job_id, f"the hypervisor could have told: {deeds}")

    def _may_be_so(self, job: t.Job, deeds: list[Deed]) -> bool:
        """Whether it may count as a success without a call that succeeded: what was asked for was so, and its call was lost or is a destroy."""
        if job.kind == t.JOB_KIND_DESTROY_DOMAIN:
            return True
        if deeds and job.domain.host not in FORGETFUL:
            return False
        began, ended = job.start_time.ToNanoseconds() / 1e9, job.end_time.ToNanoseconds() / 1e9
        return job.kind not in NEVER_BY_STATE and any(began - 1 <= kill <= ended for kill in self.kills)

    def _accuse(self, what: str, job_id: str, why: str) -> None:
        job = self.jobs.get(job_id)
        told = "" if job is None else f" ({t.JobKind.Name(job.kind)} on {job.domain.host}, {End.of(job)}, evidence {job.evidence!r})"
        self.wrong.append(f"[{what}] job {job_id}{told}: {why}")
