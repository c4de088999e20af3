"""What holds after every step, whatever was done. Each rule has a name in brackets, by which a failure is known."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from functools import partial

from google.protobuf.message import Message

from tests.model.channel import LocalChannel
from tests.model.holding import keys_of
from tests.model.record import Out
from tests.model.wishes import Wishes
from tests.model.world import World
from tests.virtual_time import EPOCH
from virtrpc.v1 import job_pb2, query_pb2, types_pb2
from virtrpc_drivers.protocol import Call
from virtrpc_drivers.values import Group
from virtrpc_server.records import CancelReason, Job, JobState, WaitingFor

DESTROYS_AT_ONCE = 3
KEPT_PLACES = 2
"""Of a daemon's workers, for aborts and for sampling."""
TICK = 1e-5
"""Seconds that wall time may be wrong by for its many digits."""
MOMENT = 0.01
"""Seconds that a timer may be late."""
SOON = 0.5
"""Seconds after which a loss must have been noticed."""
STOPPED_SECONDS = 60.0
"""Seconds after which what was to stop is over: 15 for its call, 25 for a destroy and readings, and what the store takes."""
REFRESH_SECONDS = 5.0
"""How long the reading of a domain after a call is waited for."""
RETRY = 1.0
"""Seconds after which a job that a foreign one was in the way of tries again."""


class AtTheBorder:
    """What may be sent to a hypervisor now."""

    def __init__(self, world: Callable[[], World], wishes: Wishes) -> None:
        self._world, self._wishes = world, wishes

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
        if job.cancel_reason is not None:
            yield f"[cancel] {named(job)} was sent although it was to stop"
        needed = keys_of(job, world.shape)
        for out in world.record.holding():
            other = world.journal.held[out.job_id]
            if needed & keys_of(other, world.shape):
                yield f"[exclusion] {named(job)} was sent while {named(other)} was out"
        if getattr(call.operation, "password", "") and getattr(job.operation, "password", ""):
            yield f"[secrets] {named(job)} was stored with its password"
        for out in world.record.calls.values():
            if needed and out.waits and out.operation.verb == "Destroy" and (out.host, out.operation.uuid) == (job.host, job.uuid):
                yield f"[destroy] {named(job)} was sent while its domain was being destroyed"
        for other in self._ahead(job):
            yield f"[order] {named(job)} was sent before {named(other)}, which came first"
        places = max(1, world.workers - KEPT_PLACES) if world.workers else None
        if host == "a" and places is not None and job.verb != "Destroy" and len(self.in_daemon(host, job_id)) >= places:
            yield f"[budget] {named(job)} was sent with all {places} places taken"

    def in_daemon(self, host: str, besides: str) -> list[Out]:
        """The calls that hold a place of a host's budget."""
        outs = self._world().record.calls.values()
        return [out for out in outs if out.host == host and out.holds and out.operation.verb != "Destroy" and out.job_id != besides]

    def _ahead(self, job: Job) -> Iterator[Job]:
        """The jobs that came earlier to the condition which this one took first, and still wait for it."""
        world = self._world()
        first = first_key(job, world.shape)
        for other in world.journal.held.values():
            if other.id >= job.id:
                return
            if first is None or other.finished or first_key(other, world.shape) != first or self._wishes.may_have_left(other):
                continue
            out = world.record.calls.get(other.id)
            if out is None or not out.asked:
                yield other

    def abort_sent(self, call_id: str) -> None:
        """Judge an abort before it leaves."""
        world = self._world()
        job_id = call_id.partition(".")[0]
        out, job = world.record.calls.get(job_id), world.journal.held[job_id]
        if out is None or not out.waits:
            world.record.faults.append(f"[abort] an abort for {named(job)} was sent after its call's end")
        elif not self._wishes.stops(job) and not ran_out(job, out, asyncio.get_running_loop().time()):
            world.record.faults.append(f"[cancel] an abort for {named(job)} was sent, and nobody had asked for it")


def first_key(job: Job, shape: str) -> tuple[str, ...] | None:
    """The condition that a job queues for first: all take theirs in one order."""
    return min(keys_of(job, shape), default=None)


def ran_out(job: Job, out: Out, now: float) -> bool:
    """Whether a job's run_timeout has passed."""
    return job.run_limit is not None and now >= out.began + job.run_limit - MOMENT


def named(job: Job) -> str:
    """A job in words."""
    return f"{job.verb} {job.id} of {job.host}/{job.name}"


class Checks:
    """What can be seen between two steps."""

    def __init__(self, world: World, channel: LocalChannel, wishes: Wishes, border: AtTheBorder) -> None:
        self._world, self._channel, self._wishes, self._border = world, channel, wishes, border
        self._queries = self._one_by_one()
        self._lives: dict[tuple[str, str], tuple[int, str]] = {}
        self._generations: set[tuple[str, str, str]] = set()
        self._observed: dict[tuple[str, str, str, Group], int] = {}

    def all(self, *, settled: bool) -> None:
        """Everything; `settled` says that nothing more happens at this moment."""
        self.border()
        domains = self._answers()
        self._never_back(domains)
        self._fresh(domains)
        self._ends()
        if settled:
            self._cache(domains)
            self._waiting()
            self._stopping()

    def border(self) -> None:
        """Nothing was sent that may not be sent, and nobody else was hit."""
        faults = self._world.record.faults
        assert not faults, "; ".join(faults)
        for sim in self._world.sims.values():
            assert not sim.violations, f"[abort] {sim.violations}" if "abort" in sim.violations[0] else f"[exclusion] {sim.violations}"

    # Queries

    def _answers(self) -> list[types_pb2.Domain]:
        """Every query answers, and waits for nothing: the list after each step, the others in turn."""
        method, request = next(self._queries)
        answer = self._channel.ask(method, request())
        if method == "ListHosts":
            self._hosts(answer)
        return list(self._channel.ask("ListDomains", query_pb2.ListDomainsRequest()).domains)

    def _one_by_one(self) -> Iterator[tuple[str, Callable[[], Message]]]:
        refs = [types_pb2.DomainRef(uuid=self._world.uuids[label]) for label in ("a1", "c1", "new1")]
        about_domains = ("GetDomain", "GetDomainXml", "ListVcpus", "GetBlockStats", "GetInterfaceStats", "GetMemoryStats")
        while True:
            for ref in refs:
                for method in about_domains:
                    yield method, partial(getattr(query_pb2, f"{method}Request"), domain=ref)
                yield "ListHosts", query_pb2.ListHostsRequest
                yield "ListJobs", partial(job_pb2.ListJobsRequest, page_size=3)
                yield "ListDomainStats", query_pb2.ListDomainStatsRequest
                yield "GetHost", partial(query_pb2.GetHostRequest, host="a")
                yield "GetJob", partial(job_pb2.GetJobRequest, job_id=next(reversed(self._world.journal.held), ""))

    def _hosts(self, answer: query_pb2.ListHostsResponse) -> None:
        for host in answer.hosts:
            held = self._world.record.hosts[host.name]
            live = host.state == types_pb2.FRESHNESS_LIVE
            assert not live or (held.connected and held.listed > held.up), f"[fresh] host {host.name} is LIVE and was not listed since it came back"

    # The cache

    def _never_back(self, domains: list[types_pb2.Domain]) -> None:
        for domain in domains:
            for group, observation in groups(domain):
                key = (domain.host, domain.uuid, domain.generation, group)
                at = observation.observed_time.ToNanoseconds()
                assert at >= self._observed.get(key, 0), f"[back in time] {group} of {domain.host}/{domain.name} is of an earlier moment than before"
                self._observed[key] = at

    def _fresh(self, domains: list[types_pb2.Domain]) -> None:
        """What is LIVE was read after the last change that was announced."""
        for domain in domains:
            known = self._world.expected.domains.get((domain.host, domain.uuid))
            host = self._world.record.hosts[domain.host]
            for group, observation in groups(domain):
                if observation.freshness != types_pb2.FRESHNESS_LIVE:
                    continue
                assert host.connected, f"[fresh] {group} of {domain.host}/{domain.name} is LIVE, and its host is away"
                reading = known.groups.get(group) if known is not None else None
                if reading is None:
                    continue  # the answer that took it away is on its way to the server
                began = self._world.record.began(domain.host, reading.stamp)
                announced = host.announced.get((domain.uuid, group), 0)
                assert began > announced, f"[refresh] {group} of {domain.host}/{domain.name} is LIVE, and was not read since a change was announced"

    def glance(self, keys: Iterable[tuple[str, str]]) -> None:
        """A look at a few domains, while nothing more happens at this moment."""
        told = {key: self._domain(*key) for key in keys}
        self._fresh([domain for domain in told.values() if domain is not None])
        for key, domain in told.items():
            self._newest(key, domain)

    def _domain(self, host: str, uuid: str) -> types_pb2.Domain | None:
        answer = self._channel.ask("GetDomain", query_pb2.GetDomainRequest(domain=types_pb2.DomainRef(host=host, uuid=uuid)))
        return answer.domain if answer is not None else None

    def _cache(self, domains: list[types_pb2.Domain]) -> None:
        held = {(domain.host, domain.uuid): domain for domain in domains}
        for key in self._world.expected.domains.keys() | held.keys():
            self._newest(key, held.get(key))

    def _newest(self, key: tuple[str, str], domain: types_pb2.Domain | None) -> None:
        """What is told is what the newest readings said; a domain is gone when, and only when, a newer answer lacks it."""
        known = self._world.expected.domains.get(key)
        assert domain is None or known is not None, f"[presence] {key} is told, and the newest answer lacks it"
        assert domain is not None or known is None, f"[presence] {key} is not told, and the newest answer has it"
        if domain is None or known is None:
            return
        assert domain.name == known.name, f"[newest] {key} is told as {domain.name}, and was last read as {known.name}"
        for group, observation in groups(domain):
            reading = known.groups.get(group)
            at = round(reading.stamp.wall * 1e6) if reading is not None else None
            told = observation.observed_time.ToMicroseconds() if observation.HasField("observed_time") else None
            close = at is told or (at is not None and told is not None and abs(at - told) <= 1)
            assert close, f"[newest] {group} of {key} is not as the newest reading has it"
        state = known.groups[Group.STATE].state if Group.STATE in known.groups else None
        if state is not None:
            shown = (domain.active, domain.id if domain.HasField("id") else None, domain.state_reason)
            assert shown == (state.active, state.id, state.reason), f"[newest] the state of {key} is {shown}, and was last read {state}"
        self._life(key, known.life, domain.generation)

    def _life(self, key: tuple[str, str], life: int, generation: str) -> None:
        before = self._lives.get(key)
        if before is not None and before[0] == life:
            assert before[1] == generation, f"[generation] {key} has another generation and is the same domain"
            return
        assert (*key, generation) not in self._generations, f"[generation] {key} is another domain and has an old generation"
        self._generations.add((*key, generation))
        self._lives[key] = (life, generation)

    # Jobs

    def _ends(self) -> None:
        for job_id, forms in self._world.journal.forms.items():
            last = forms[-1]
            final = [form for form in forms if form.finished]
            assert len(final) <= 1, f"[one end] job {job_id} was stored with two ends"
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
                assert self._wishes.left_for_good(job.id), f"[cancel] {named(job)} was cancelled, and its callers had not left it"
            case CancelReason.FOREIGN:
                assert self._wishes.foreign_abort, f"[cancel] {named(job)} was aborted, and by nobody"
            case CancelReason.DRAIN:
                assert self._wishes.drained, f"[cancel] {named(job)} was drained, and the server was not"
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
            assert answer != "OK", f"[truth] {named(job)} ended {job.state}, and its call succeeded"

    def _stopping(self) -> None:
        """Who is to stop has been told so, and stops in the time that it has for that."""
        now = asyncio.get_running_loop().time()
        for job in self._world.journal.held.values():
            if job.finished or self._world.journal.behind(job.id):
                continue
            asked = job.id in self._wishes.cancelled | self._wishes.must_stop and not self._wishes.preempted(job)
            assert job.cancel_reason is not None or not asked, f"[cancel] {named(job)} was cancelled, and does not know it"
            out = self._world.record.calls.get(job.id)
            late = out is not None and job.state is JobState.RUNNING and (out.waits or out.inside) and ran_out(job, out, now - SOON)
            assert job.cancel_reason is not None or not late, f"[run_timeout] {named(job)} has run for longer than it may"
            since = next((form.updated - EPOCH for form in self._world.journal.forms[job.id] if form.cancel_reason), now)
            assert now - since < STOPPED_SECONDS, f"[stops too late] {named(job)} was to stop {now - since:.0f} s ago"

    def _waiting(self) -> None:
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
        rightly = self._rightly_waiting(queued, unfinished)
        for job in queued:
            assert job.id in rightly, f"[lost waiter] {named(job)} waits for {job.waiting_for}, and nobody is in its way"

    def _not_after_destroy(self, job: Job, unfinished: list[Job]) -> None:
        for out in self._world.record.calls.values():
            if out.operation.verb == "Destroy" and (out.host, out.operation.uuid) == (job.host, job.uuid) and out.job_id > job.id:
                assert job.verb == "Destroy", f"[preempted] {named(job)} waits, and its domain was destroyed"

    def _rightly_waiting(self, queued: list[Job], unfinished: list[Job]) -> set[str]:
        rightly = {job.id for job in queued if self._waits_rightly(job, unfinished)}
        shape, waiting = self._world.shape, [job for job in queued if job.waiting_for is WaitingFor.CONDITION and job.verb != "Destroy"]
        at_work = [job for job in unfinished if job.waiting_for is not WaitingFor.CONDITION]
        ghosts = self._ghosts()
        in_the_way = {job.id: keys_of(job, shape) for job in (*at_work, *ghosts)}
        while found := [job for job in waiting if job.id not in rightly and self._kept_back(job, in_the_way, unfinished)]:
            for job in found:
                rightly.add(job.id)
                # One that waits for its second condition has its first.
                in_the_way[job.id] = keys_of(job, shape) if len(keys_of(job, shape)) > 1 else frozenset()
        return rightly

    def _kept_back(self, job: Job, in_the_way: dict[str, frozenset[tuple[str, ...]]], unfinished: list[Job]) -> bool:
        needed = keys_of(job, self._world.shape)
        destroys = (other for other in unfinished if other.verb == "Destroy")
        destroyed = any((other.host, other.uuid) == (job.host, job.uuid) for other in destroys)
        return destroyed or any(needed & held for other, held in in_the_way.items() if other != job.id)

    def _ghosts(self) -> list[Job]:
        """The jobs whose calls are out. After a ghost's end its domain is read once more, before another may have it."""
        now, held = asyncio.get_running_loop().time(), self._world.journal.held
        found: list[Job] = []
        for out in self._world.record.calls.values():
            job = held[out.job_id]
            outlived = job.ended is not None and out.over > job.ended - EPOCH + TICK
            if out.holds or (outlived and now < out.over + REFRESH_SECONDS):
                found.append(job)
        return found

    def _ahead_at_hosts(self, job: Job, unfinished: list[Job]) -> set[str]:
        """The jobs that have a place which this one needs: a migration counts at both its hosts."""
        others = [other for other in unfinished if other.waiting_for not in (WaitingFor.CONDITION, WaitingFor.HOST_LIMIT)]
        others += self._ghosts()
        needed = {job.host, job.destination_host} - {""}
        return {other.id for other in others if other.verb == job.verb and needed & {other.host, other.destination_host}} - {job.id}

    def _waits_rightly(self, job: Job, unfinished: list[Job]) -> bool:
        """For anything but its condition."""
        match job.waiting_for:
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


def groups(domain: types_pb2.Domain) -> tuple[tuple[Group, types_pb2.Observation], ...]:
    """The two groups that carry an age of their own."""
    return ((Group.STATE, domain.state_observation), (Group.CONFIG, domain.configuration_observation))
