"""Who calls: callers of verbs, followers of jobs, and watchers that may be slow. Each judges what it is told as it is told it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from google.protobuf.message import Message

from tests.model.channel import Channel, Rpc
from virtrpc.v1 import job_pb2, query_pb2, types_pb2

FINAL = frozenset({
    types_pb2.JOB_STATE_SUCCEEDED, types_pb2.JOB_STATE_FAILED, types_pb2.JOB_STATE_CANCELLED, types_pb2.JOB_STATE_PREEMPTED,
    types_pb2.JOB_STATE_INTERRUPTED, types_pb2.JOB_STATE_OUTCOME_UNKNOWN,
})  # fmt: skip

SHORTEST_SILENCE = 7.0
"""Seconds after which a job may be told again as it is; the server makes it 7.5 at least."""
Told = Callable[[types_pb2.Job], None]
"""Judges a job as somebody was told of it."""


class Caller:
    """One who runs a verb or follows a job. `leave` is what it wants when it goes; "" for one who only follows."""

    def __init__(self, channel: Channel, method: str, request: Message, leave: str, told: Told, who: str) -> None:
        self.leaves, self.who = leave, who
        self.request = (who, request.options.request_id) if leave else ("", "")  # type: ignore[attr-defined]  # every verb's request has options
        """By which the server knows a verb that was sent before: its caller, and the id that it gave."""
        self.updates: list[types_pb2.Job] = []
        self.left = False
        self.method, self.wanted = method, request
        self._heard = 0.0
        self._told = told
        self._rpc: Rpc = channel.begin(method, request, self._take, who)

    @property
    def reason(self) -> str | None:
        """How the RPC ended; None while it is out."""
        return self._rpc.reason

    @property
    def lost(self) -> bool:
        """Whether the server ended, and its stream with it."""
        return self._rpc.reason == "LOST"

    @property
    def accepted(self) -> bool:
        """Whether it was told that it has a job, or that it has none."""
        return self._rpc.reason is not None or self._rpc.metadata is not None

    @property
    def refused(self) -> bool:
        """Whether it was told that it has no job."""
        return self.reason is not None and not self.left and not self.lost and not self.job_id

    @property
    def job_id(self) -> str:
        """The job that it was told of, if any."""
        metadata = self._rpc.metadata or {}
        return metadata.get("virtrpc-job-id", "") or (self.updates[-1].job_id if self.updates else "")

    def leave(self) -> None:
        """Go away."""
        self.left = True
        self._rpc.leave()

    async def over(self) -> None:
        """Wait for the end."""
        await self._rpc.over()

    def check_end(self) -> None:
        """A stream whose listener stayed ends with the job's final state, and with the status that goes with it."""
        if self.left or self.lost or self.reason is None:
            return
        if not self.updates:
            assert self.reason != "OK", "[one end] an accepted verb ended without a word of its job"
            return
        last = self.updates[-1]
        assert last.state in FINAL, f"[one end] the stream of job {last.job_id} ended in state {last.state}, with {self.reason}"
        error = last.error.reason if last.HasField("error") else "OK"
        assert self.reason == (error if self.leaves else "OK"), f"[one end] job {last.job_id} ended {error}, its RPC {self.reason}"

    async def _take(self, update: types_pb2.JobUpdate) -> None:
        job = update.job
        if self.updates:
            last = self.updates[-1]
            assert last.state not in FINAL, f"[one end] job {job.job_id} was told again after its final state"
            assert last.revision <= job.revision, f"[one end] job {job.job_id} went back from revision {last.revision} to {job.revision}"
            again = last.revision == job.revision
            assert not again or self._silence >= SHORTEST_SILENCE, f"[one end] job {job.job_id} was told twice in revision {job.revision}"
            assert last.job_id == job.job_id
            back = last.progress.HasField("percent") and job.progress.percent < last.progress.percent
            assert not back, f"[progress] job {job.job_id} went back from {last.progress.percent} % to {job.progress.percent} %"
        assert not self.leaves or job.owner == self.who, f"[owner] {self.who} was told job {job.job_id} of {job.owner} as its own"
        self._heard = asyncio.get_running_loop().time()
        self.updates.append(job)
        self._told(job)

    @property
    def _silence(self) -> float:
        return asyncio.get_running_loop().time() - self._heard


class Watcher:
    """Follows all domains or all jobs, and takes `pause` seconds for each batch; holds what a client would."""

    def __init__(self, channel: Channel, what: str, pause: float, told: Told) -> None:
        self.what, self._pause, self._told, self._channel = what, pause, told, channel
        self.held: dict[tuple[str, str], Any] = {}
        self._before: dict[str, int] = {}
        """The newest revision of each job that it was ever told."""
        self._token = ""
        self._finished: set[str] = set()
        self._rpc = self._open()

    def resume(self) -> None:
        """Lose the stream, and go on where it was."""
        self._rpc.leave()
        self._rpc = self._open()

    def hurry(self) -> None:
        """Read fast from now on."""
        self._pause = 0.0

    async def close(self) -> None:
        """Leave."""
        self._rpc.leave()
        await self._rpc.over()

    @property
    def reason(self) -> str | None:
        """How the stream ended; None while it is open."""
        return self._rpc.reason

    def _open(self) -> Rpc:
        mine: list[Rpc] = []

        async def take(batch: Any) -> None:
            # What a stream that was left still had on its way is nobody's.
            if mine and mine[0] is self._rpc:
                await self._take(batch)

        request = query_pb2.WatchDomainsRequest if self.what == "WatchDomains" else job_pb2.WatchJobsRequest
        rpc = self._channel.begin(self.what, request(resume_token=self._token), take)
        mine.append(rpc)
        return rpc

    async def _take(self, batch: Any) -> None:
        if batch.reset:
            self.held.clear()
            self._finished.clear()
        for change in batch.changes:
            if self.what == "WatchDomains":
                self._domain(change)
            else:
                self._job(change)
        self._token = batch.resume_token
        if self._pause:
            await asyncio.sleep(self._pause)

    def _domain(self, change: query_pb2.DomainChange) -> None:
        if change.HasField("current"):
            self.held[change.current.host, change.current.uuid] = change.current
        else:
            key = (change.removed.domain.host, change.removed.domain.uuid)
            if key in self.held and change.removed.generation in ("", self.held[key].generation):
                del self.held[key]

    def _job(self, change: job_pb2.JobChange) -> None:
        if not change.HasField("current"):
            self.held.pop((change.removed.job_id, ""), None)
            return
        job = change.current
        last = self.held.get((job.job_id, ""))
        assert last is None or last.revision < job.revision, f"[one end] a watcher was told job {job.job_id} again, or an older form of it"
        assert job.job_id not in self._finished, f"[one end] a watcher was told job {job.job_id} after its final state"
        before = self._before.get(job.job_id, 0)
        assert before <= job.revision, f"[one end] a watcher was told job {job.job_id} in revision {before}, and now in {job.revision}"
        self._before[job.job_id] = job.revision
        if job.state in FINAL:
            self._finished.add(job.job_id)
        self.held[job.job_id, ""] = job
        self._told(job)
