"""What anybody was ever told of each job, and what may never be told: held against every message as it comes."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from virtrpc import is_final
from virtrpc.v1 import types_pb2 as t


@dataclass(frozen=True)
class End:
    """A job's end, as far as it must be the same whoever is told of it, and whenever."""

    state: t.JobState.ValueType
    ended_ns: int
    reason: str
    message: str

    @classmethod
    def of(cls, job: t.Job) -> End:
        """That of a finished job."""
        return cls(job.state, job.end_time.ToNanoseconds(), job.error.reason, job.error.message)

    def __str__(self) -> str:
        return f"{t.JobState.Name(self.state)} {self.reason} ({self.message})"


@dataclass
class Told:
    """All that was told, by whom it was heard, and what was wrong with it."""

    ends: dict[str, End] = field(default_factory=dict)
    """Each job's end."""
    known: dict[str, t.Job] = field(default_factory=dict)
    """Each job that anybody heard of, as heard of last."""
    jobs_of: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """The jobs that each request_id led to."""
    refused: dict[str, str] = field(default_factory=dict)
    """Request ids that were refused, with the reason."""
    wrong: list[str] = field(default_factory=list)
    """What must not have been told."""
    _revisions: dict[tuple[str, str], int] = field(default_factory=dict)

    def accepted(self, request_id: str, job_id: str) -> None:
        """A caller was told that its request is this job."""
        self.jobs_of[request_id].add(job_id)
        if len(self.jobs_of[request_id]) > 1:
            self.wrong.append(f"[twice] request {request_id} became jobs {sorted(self.jobs_of[request_id])}")

    def heard(self, who: str, job: t.Job) -> None:
        """Somebody was told of a job."""
        if job.request_id:
            self.accepted(job.request_id, job.job_id)
        self._check_order(who, job)
        end, before = End.of(job) if is_final(job) else None, self.ends.get(job.job_id)
        if before is not None and end is None and job.revision >= self.known[job.job_id].revision:
            self.wrong.append(f"[risen] job {job.job_id} ended {before}, and then was {t.JobState.Name(job.state)} to {who}")
        elif before is not None and end is not None and end != before:
            self.wrong.append(f"[changed] job {job.job_id} ended {before}, and then {end} to {who}")
        elif end is not None:
            self.ends[job.job_id] = end
        known = self.known.get(job.job_id)
        if known is None or job.revision >= known.revision:
            self.known[job.job_id] = job

    def lost(self, who: str, job_id: str) -> None:
        """Somebody was told that there is no such job."""
        self.wrong.append(f"[lost] job {job_id} is not known to {who}")

    def summary(self) -> str:
        """How much was told so far."""
        return f"{len(self.known)} jobs of which {len(self.ends)} ended, {len(self.refused)} refusals"

    def assert_well(self) -> None:
        """Nothing was told that must not be."""
        assert not self.wrong, "\n".join(self.wrong[:20])

    def _check_order(self, who: str, job: t.Job) -> None:
        last = self._revisions.get((who, job.job_id), 0)
        if job.revision < last:
            self.wrong.append(f"[back] {who} was told revision {job.revision} of job {job.job_id} after {last}")
        self._revisions[who, job.job_id] = job.revision
