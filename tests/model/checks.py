"""What holds after every step, whatever was done. Each rule has a name in brackets, by which a failure is known."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial

from google.protobuf.message import Message

from tests.model.border import AtTheBorder
from tests.model.channel import LocalChannel
from tests.model.endings import Endings
from tests.model.past import Past
from tests.model.queues import Queues
from tests.model.standing import Standing
from tests.model.wishes import Wishes
from tests.model.world import World
from virtrpc.v1 import job_pb2, query_pb2, types_pb2
from virtrpc_drivers.values import Group


class Checks:
    """What can be seen between two steps."""

    def __init__(
        self, world: World, channel: LocalChannel, wishes: Wishes, border: AtTheBorder, endings: Endings, standing: Standing, past: Past
    ) -> None:
        self._world, self._channel, self._endings, self._past = world, channel, endings, past
        self._queues = Queues(world, wishes, border, endings, standing, past)
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
        self._endings.all()
        self._past.check()
        if settled:
            self._cache(domains)
            self._queues.waiting()
            self._queues.stopping()
            self._queues.probing()

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
        may_be_told = known is not None or self._world.expected.may_be_told(key)
        assert domain is None or may_be_told, f"[presence] {key} is told, and the newest answer lacks it"
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
        self._world.generations[key] = generation


def groups(domain: types_pb2.Domain) -> tuple[tuple[Group, types_pb2.Observation], ...]:
    """The two groups that carry an age of their own."""
    return ((Group.STATE, domain.state_observation), (Group.CONFIG, domain.configuration_observation))
