"""What was told in all lives of the server, and what each found in the journal: no later one may contradict it.

Each rule has a name in brackets, by which a failure is known.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable

from tests.model.callers import FINAL, Caller
from tests.model.channel import LocalChannel
from tests.model.wishes import Wishes
from tests.model.world import World
from tests.virtual_time import EPOCH
from virtrpc.v1 import job_pb2, types_pb2
from virtrpc_drivers.errors import Reason
from virtrpc_server.records import CancelReason, Job, JobState

EDGE = 0.01
"""Seconds by which a wait limit may have passed, or not."""

UNPROVABLE = frozenset({"Reboot", "RevertToSnapshot", "SetUserPassword"})
"""Verbs of which nothing shows afterwards whether they were done."""


class Past:
    """The memory of those who see the server end and begin again."""

    def __init__(self, world: World, channel: LocalChannel, wishes: Wishes) -> None:
        self._world, self._channel, self._wishes = world, channel, wishes
        self._finals: dict[str, types_pb2.Job] = {}
        self.newest: dict[str, int] = {}
        """The newest revision that anybody was told of each job."""
        self.began = 0.0
        """Loop time in seconds at which the present life began."""
        self.cut_off: set[str] = set()
        """The jobs that a life found queued and may not begin: nothing is ever sent for them."""
        self._either: set[str] = set()
        """Those whose time was over in that very moment, or was not."""

    def told(self, job: types_pb2.Job) -> None:
        """Somebody was told this."""
        self.newest[job.job_id] = max(job.revision, self.newest.get(job.job_id, 0))
        if job.state in FINAL:
            final = self._finals.setdefault(job.job_id, job)
            same = (final.state, final.error.reason, final.revision) == (job.state, job.error.reason, job.revision)
            assert same, f"[one end] job {job.job_id} was told to have ended {final.state}, and now {job.state}: {job.error.message}"

    def server_ends(self, callers: Iterable[Caller], cancelled: Collection[str]) -> None:
        """What was promised to anybody is stored. `cancelled` are the jobs whose cancel was answered."""
        held = self._world.journal.held
        for job_id in cancelled:
            job = held[job_id]
            assert job.finished or job.cancel_reason is not None, f"[cancel] the cancel of job {job_id} was answered and is not stored"
        for caller in callers:
            if caller.leaves == "detach" and caller.job_id:
                kept = held[caller.job_id]
                assert kept.detached or kept.finished, f"[detach] job {kept.id} was told to one who wanted DETACH, and that is not stored"

    def life_begins(self) -> None:
        """A life has taken up what it found: everything that was told is known, and no older than it was told."""
        self.began = asyncio.get_running_loop().time()
        for job in self._world.journal.found.values():
            if job.state is JobState.QUEUED and self._may_not_begin(job):
                self.cut_off.add(job.id)
            elif job.state is JobState.QUEUED and abs(self._late(job)) <= EDGE:
                self._either.add(job.id)
        known = {job.job_id: job for job in self._listed()}
        lost = self._world.journal.found.keys() ^ known.keys()
        assert not lost, f"[lost] the jobs {lost} are in the journal or in the list, and not in both"
        for job_id, revision in self.newest.items():
            assert job_id in known, f"[lost] job {job_id} was told and is not known any more"
            now = known[job_id].revision
            assert now >= revision, f"[one end] job {job_id} was told in revision {revision}, and the next life of the server tells it in {now}"

    def check(self) -> None:
        """What holds for the jobs of all lives, after each step."""
        requests: dict[tuple[str, str], str] = {}
        for job in self._world.journal.held.values():
            other = requests.setdefault((job.owner, job.request_id), job.id)
            assert other == job.id, f"[once] the same request has the jobs {other} and {job.id}"
            if not job.finished:
                continue
            out = self._world.record.calls.get(job.id)
            begun = out is not None and out.answer != Reason.FOREIGN_JOB.value
            assert job.cancel_reason is not CancelReason.DRAIN or not begun, f"[drain] job {job.id} had begun, and was ended by a drain"
            proven = job.state is not JobState.SUCCEEDED or job.verb not in UNPROVABLE or self._world.applied(job)
            assert proven, f"[truth] job {job.id} succeeded, and {job.verb} was not done"
            if job.id in self.cut_off:
                ends = (JobState.INTERRUPTED, JobState.PREEMPTED, JobState.CANCELLED)
                assert job.state in ends, f"[cut off] job {job.id} was queued when the server ended, was not to go on, and ended {job.state}"
            elif job.state is JobState.INTERRUPTED and out is None:
                assert job.id in self._wishes.drained | self._either, f"[cut off] job {job.id} was queued, was to go on, and ended {job.problem}"

    def _may_not_begin(self, job: Job) -> bool:
        return not job.detached or job.secret or self._late(job) > EDGE

    def _late(self, job: Job) -> float:
        return self.began - (job.created - EPOCH) - job.wait_limit

    def _listed(self) -> Iterable[types_pb2.Job]:
        token = ""
        while True:
            page = self._channel.ask("ListJobs", job_pb2.ListJobsRequest(page_size=100, page_token=token))
            yield from page.jobs
            token = page.next_page_token
            if not token:
                return
