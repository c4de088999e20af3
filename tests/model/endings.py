"""How jobs may end. Each rule has a name in brackets, by which a failure is known."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from msgspec.structs import replace

from tests.model.border import MOMENT, named
from tests.model.channel import LocalChannel
from tests.model.holding import BACKGROUND
from tests.model.record import Out
from tests.model.standing import REFRESH_SECONDS
from tests.model.wishes import Wishes
from tests.model.world import World
from tests.virtual_time import EPOCH
from virtrpc.v1 import query_pb2, types_pb2
from virtrpc_drivers.errors import Reason
from virtrpc_drivers.operations import Backup, CommitBlock, CopyBlock
from virtrpc_drivers.values import Group
from virtrpc_server.records import CancelReason, Job, JobState, operation_kept


class Endings:
    """The jobs that have ended, and each at the moment at which it ends."""

    def __init__(self, world: World, channel: LocalChannel, wishes: Wishes) -> None:
        self._world, self._channel, self._wishes = world, channel, wishes
        self.harmless: dict[str, Job] = {}
        """Destroys that are over, and their domains ran."""

    # The moment of an end

    def ended(self, job: Job) -> None:
        """Judge an end that has been decided, and that nobody has been told of."""
        self._world.record.faults.extend(self._faults(job))

    def _faults(self, job: Job) -> Iterator[str]:
        out = self._world.record.calls.get(job.id)
        if out is None or out.waits or job.may_still_apply or out.answer == Reason.FOREIGN_JOB.value:
            return
        places = [(job.host, job.uuid)]
        if job.state is JobState.SUCCEEDED and job.destination_host:
            places.append((job.destination_host, job.uuid))
        for place in places:
            if not self._read_since(place, out):
                yield f"[refresh] {named(job)} ended {job.state}, and {place} was not read after its call"
        if job.verb == "Destroy":
            yield from self._of_destroy(job, out)
        else:
            yield from self._of_destroyed(job, out)

    def _read_since(self, place: tuple[str, str], out: Out) -> bool:
        """Whether a domain was read after a call, as far as it could be."""
        record, now = self._world.record, asyncio.get_running_loop().time()
        host = record.hosts[place[0]]
        if not host.connected or host.down > out.answered or now > out.back + REFRESH_SECONDS - MOMENT:
            return True
        return all(record.read.get((*place, group), 0) > out.answered for group in Group)

    def _of_destroy(self, job: Job, out: Out) -> Iterator[str]:
        """A destroy is judged by what its domain is like afterwards."""
        off = self._is_off(job)
        if off is False:
            self.harmless[job.id] = job
            if job.state is JobState.SUCCEEDED and out.answer != "OK":
                yield f"[truth] {named(job)} succeeded, its call said {out.answer}, and the domain runs"
        elif job.state is JobState.SUCCEEDED and out.answer != "OK" and not self._world.expected.shown_off((job.host, job.uuid)):
            yield f"[truth] {named(job)} succeeded, its call said {out.answer}, and nobody has seen the domain off"
        if off and job.state is JobState.FAILED:
            yield f"[truth] {named(job)} failed, and the domain is off"

    def _of_destroyed(self, job: Job, out: Out) -> Iterator[str]:
        if job.state is JobState.PREEMPTED:
            by = self.harmless.get(job.problem.metadata["job_id"]) if job.problem is not None else None
            if by is not None and by.ended is not None and job.ended is not None and job.ended > by.ended:
                yield f"[preempted] {named(job)} ended so after the destroy was over, and the domain ran then"
        elif job.state not in (JobState.SUCCEEDED, JobState.INTERRUPTED) and self._is_off(job):
            # Of a call that was lost nobody knows whether it did its work before the destroy.
            for destroy in self._destroyed_under(out):
                yield f"[preempted] {named(job)} ended {job.state}, and job {destroy.job_id} had destroyed its domain meanwhile"

    def _destroyed_under(self, out: Out) -> Iterator[Out]:
        """The destroys that were sent while a call was out, and have done it."""
        for other in self._world.record.calls.values():
            same = other.operation.verb == "Destroy" and (other.host, other.operation.uuid) == (out.host, out.operation.uuid)
            if same and other.answer == "OK" and out.job_id < other.job_id and out.began <= other.began < out.back:
                yield other

    def _is_off(self, job: Job) -> bool | None:
        """Whether a domain is off or gone by what is told of it as the end is decided; None where that is not known for certain."""
        if job.ended is None or asyncio.get_running_loop().time() > job.ended - EPOCH + MOMENT:
            return None  # it waited for the store
        reference = types_pb2.DomainRef(host=job.host, uuid=job.uuid)
        answer = self._channel.ask("GetDomain", query_pb2.GetDomainRequest(domain=reference))
        if answer is None:
            return True if self._world.record.hosts[job.host].listed >= 0 else None
        live = answer.domain.state_observation.freshness == types_pb2.FRESHNESS_LIVE
        return not answer.domain.active if live else None

    # All of them, after each step

    def all(self) -> None:
        """Each job has one end, told by what its call said and by what was wanted of it."""
        for job_id, forms in self._world.journal.forms.items():
            last = forms[-1]
            # A ghost's job is stored once more when the ghost is over.
            final = [_at_rest(form) for form in forms if form.finished]
            assert all(form == final[0] for form in final), f"[one end] job {job_id} was stored with two ends"
            assert not final or last.finished, f"[one end] job {job_id} went on after its end"
            if last.finished:
                self._rightly(last)
                self._told_true(last)

    def _rightly(self, job: Job) -> None:
        assert (job.state is JobState.SUCCEEDED) == (job.problem is None), f"[one end] {named(job)} {job.state}: {job.problem}"
        assert job.problem is None or job.problem.reason != "INTERNAL", f"[one end] {named(job)}: {job.problem}"
        match job.cancel_reason:
            case CancelReason.REQUESTED:
                assert job.id in self._wishes.cancelled, f"[cancel] {named(job)} was cancelled, and nobody had asked for it"
            case CancelReason.CALLER_LEFT:
                assert self._wishes.left_for_good(job), f"[cancel] {named(job)} was cancelled, and its callers had not left it"
            case CancelReason.FOREIGN:
                assert self._wishes.foreign_abort or job.id in self._wishes.forgotten, f"[cancel] {named(job)} was aborted, and by nobody"
            case CancelReason.DRAIN:
                assert job.id in self._wishes.drained, f"[cancel] {named(job)} was drained, and the server was not"
            case _:
                assert job.state is not JobState.CANCELLED, f"[cancel] {named(job)} was cancelled for {job.cancel_reason}"
        if job.state is JobState.PREEMPTED:
            assert job.problem is not None
            by = self._world.record.calls.get(job.problem.metadata["job_id"])
            assert by is not None, f"[cancel] {named(job)} was preempted by a destroy that was not sent"
            assert by.job_id > job.id, f"[cancel] {named(job)} was preempted by a destroy that it came after"

    def _told_true(self, job: Job) -> None:
        """What a job's end says is what its last call said; a destroy that erred may have destroyed all the same."""
        out = self._world.record.calls.get(job.id)
        answer = out.answer if out is not None else ""
        if job.state is JobState.SUCCEEDED:
            assert answer == "OK" or (answer and job.verb == "Destroy"), f"[truth] {named(job)} succeeded, and its call said {answer or 'nothing'}"
        elif job.state is not JobState.OUTCOME_UNKNOWN:
            # Nobody holds its secret against what there is now.
            assert answer != "OK" or (job.secret and out is not None and out.resumed), (
                f"[truth] {named(job)} ended {job.state}, and its call succeeded"
            )
        if job.verb in BACKGROUND:
            self._of_background(job)

    def _of_background(self, job: Job) -> None:
        """What goes on in the background has been done where its job says so, and finished as somebody said."""
        done = self._world.applied(job)
        if job.state is JobState.SUCCEEDED:
            assert done or not self._world.remembers, f"[truth] {named(job)} succeeded, and was not done"
            told = self._wishes.finishing.get(job.id, set())
            finish = job.outcome.finish if job.outcome is not None else None
            assert told or not self._waits_to_be_told(job), f"[finish] {named(job)} is finished, and nobody told it to"
            assert finish in {*told, None} or not self._waits_to_be_told(job), f"[finish] {named(job)} was finished by {finish}, and told {told}"
        elif job.state is JobState.CANCELLED:
            assert not done or not self._world.remembers, f"[truth] {named(job)} was cancelled, and has been done"

    def _waits_to_be_told(self, job: Job) -> bool:
        match self._world.journal.offered[job.id].operation:
            case Backup() as operation:
                return operation.asked.pull
            case CopyBlock(finish=finish) | CommitBlock(finish=finish):
                return finish == "wait"
        return False


def _at_rest(form: Job) -> Job:
    """Without what only its ghost needed, and without what only the life that accepted it knew."""
    return replace(form, haunts=False, operation=operation_kept(form.operation), generation=None)
