"""Watches below the transport, on virtual time: what a stream is told, when, and where it may be taken up again."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field

import msgspec
import pytest
from google.protobuf.duration_pb2 import Duration

from tests import virtual_time
from tests.server.fake_driver import FakeDriver, listing, reading, stamp, uuid
from tests.server.test_messages import job
from tests.server.world import all_seen
from virtrpc.v1 import job_pb2, query_pb2, types_pb2
from virtrpc_drivers.values import Group, Missing, Phase, State
from virtrpc_server import feed as feeds
from virtrpc_server import following
from virtrpc_server.domains import Domains
from virtrpc_server.errors import Refusal
from virtrpc_server.following import BATCHES_PER_SECOND, INTERVAL_SECONDS, LATE_SECONDS, MAX_CHANGES, SLICE, SLICE_SECONDS, VAIN_SECONDS
from virtrpc_server.heartbeats import Heartbeats
from virtrpc_server.hosts import Host, HostConfig, Hosts
from virtrpc_server.jobs import Jobs
from virtrpc_server.lookup import Lookup
from virtrpc_server.messages.jobs import JobBytes, job_bytes, job_message
from virtrpc_server.policy import job_sight
from virtrpc_server.progress import Progress
from virtrpc_server.records import CancelReason, Holder, Job, JobState, Problem
from virtrpc_server.store import MemoryStore
from virtrpc_server.watching import Watches

HEARTBEAT = 15.0
Batch = query_pb2.WatchDomainsResponse
Request = query_pb2.WatchDomainsRequest
RUNNING = types_pb2.DomainFilter(states=[types_pb2.DOMAIN_STATE_RUNNING])


@dataclass
class Client:
    """What a watcher holds: it applies batches as the contract says."""

    held: dict[str, types_pb2.Domain] = field(default_factory=dict)
    strays: int = 0
    """Removals of what it does not hold."""
    token: str = ""
    batches: list[query_pb2.WatchDomainsResponse] = field(default_factory=list)

    def apply(self, batch: query_pb2.WatchDomainsResponse) -> None:
        """Take in a batch."""
        if batch.reset:
            self.held.clear()
        for change in batch.changes:
            if change.HasField("current"):
                self.held[change.current.uuid] = change.current
            elif self._holds(change.removed):
                del self.held[change.removed.domain.uuid]
            else:
                self.strays += 1
        self.token = batch.resume_token
        self.batches.append(batch)

    def _holds(self, removed: query_pb2.DomainRemoval) -> bool:
        held = self.held.get(removed.domain.uuid)
        return held is not None and removed.generation in ("", held.generation)

    @property
    def names(self) -> list[str]:
        """What it holds."""
        return sorted(domain.name for domain in self.held.values())

    async def catch_up(self, stream: AsyncIterator[query_pb2.WatchDomainsResponse]) -> None:
        """Read until the present state is held, then what follows at once."""
        while True:
            self.apply(await anext(stream))
            if self.batches[-1].caught_up:
                return


class Bed:
    """One host that is up, listed, and has the domains that a test reads into it."""

    def __init__(self) -> None:
        self._last = 0.0
        self.domains = Domains()
        self.driver = FakeDriver()
        self.host = Host(HostConfig("h", "fake:", audit_seconds=1e6), self.driver, self.domains, clock=virtual_time.wall)
        self.hosts = Hosts([self.host])
        lookup = Lookup(self.hosts, self.domains)
        self.jobs = Jobs(self.hosts, self.domains, MemoryStore())
        self.watches = Watches(self.jobs, lookup, all_seen(self.jobs), Heartbeats(HEARTBEAT))

    async def __aenter__(self) -> Bed:
        await self.host.start(lambda _host, _report: None, lambda _host: self.domains.feed.nudge(), lambda _spans: None)
        await asyncio.sleep(1.0)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.host.close()

    def read(self, number: int, name: str = "", state: State = State.RUNNING) -> None:
        """A domain as a read that begins now sees it."""
        self.domains.read("h", reading(number, self._moment(), name, state=state))

    def gone(self, number: int) -> None:
        """A domain is no longer there."""
        self.domains.missing("h", Missing(uuid=uuid(number), stamp=stamp(self._moment())))

    def _moment(self) -> float:
        # Virtual time stands still between two awaits; calls to a hypervisor do not begin at one moment.
        self._last = max(self._last + 1e-6, self.now)
        return self._last

    @property
    def now(self) -> float:
        """Virtual seconds."""
        return asyncio.get_running_loop().time()

    @asynccontextmanager
    async def watch(self, request: query_pb2.WatchDomainsRequest | None = None) -> AsyncIterator[AsyncGenerator[Batch, None]]:
        """An open stream."""
        stream = self._messages(request or Request())
        async with aclosing(stream):
            yield stream

    async def _messages(self, request: query_pb2.WatchDomainsRequest) -> AsyncGenerator[Batch, None]:
        stream = self.watches.domains(request)
        assert isinstance(stream, AsyncGenerator)
        async with aclosing(stream):
            async for body in stream:
                yield Batch.FromString(body)


def test_the_present_state_comes_first_then_each_change() -> None:
    """The first batch says reset and caught_up; a change follows without polling; what is gone is removed with its name."""

    async def work() -> None:
        async with Bed() as bed, bed.watch() as stream:
            bed.read(1, "web")
            bed.read(2, "db")
            client = Client()
            await client.catch_up(stream)
            assert client.batches[0].reset
            assert client.names == ["db", "web"]
            bed.read(1, "web", State.PAUSED)
            client.apply(await anext(stream))
            assert client.held[uuid(1)].state == types_pb2.DOMAIN_STATE_PAUSED
            bed.gone(2)
            client.apply(await anext(stream))
            assert client.names == ["web"]
            assert client.batches[-1].changes[0].removed.domain.name == "db"
            assert not client.batches[-1].reset

    virtual_time.run(work())


def test_a_stream_that_is_not_read_lags() -> None:
    """It counts while it is open; it lags from the moment at which it was last told, once there is news, and no more when it has taken that."""

    async def work() -> None:
        async with Bed() as bed:
            async with bed.watch() as stream:
                client = Client()
                await client.catch_up(stream)
                (watch,) = bed.watches.open["domains"]
                await asyncio.sleep(5)
                assert watch.lag == 0
                bed.read(1, "web")
                assert watch.lag == 5
                client.apply(await anext(stream))
                assert client.names == ["web"]
                assert watch.lag == 0
            assert not bed.watches.open["domains"]

    virtual_time.run(work())


def test_an_empty_server_is_told_of_at_once() -> None:
    """Nothing to show is an answer, too."""

    async def work() -> None:
        async with Bed() as bed, bed.watch() as stream:
            began = bed.now
            batch = await anext(stream)
            assert (batch.reset, batch.caught_up, len(batch.changes)) == (True, True, 0)
            assert bed.now == began

    virtual_time.run(work())


def test_changes_within_the_interval_come_as_one() -> None:
    """At most one batch in 100 ms, and of many changes of a domain the last."""

    async def work() -> None:
        async with Bed() as bed, bed.watch() as stream:
            await anext(stream)
            began = bed.now
            for state in (State.PAUSED, State.RUNNING, State.SHUTOFF):
                bed.read(1, state=state)
                await asyncio.sleep(0.01)
            batch = await anext(stream)
            assert [change.current.state for change in batch.changes] == [types_pb2.DOMAIN_STATE_SHUTOFF]
            assert bed.now - began >= INTERVAL_SECONDS - 1e-9

    virtual_time.run(work())


def test_silence_is_broken_by_heartbeats() -> None:
    """An empty batch after each heartbeat's time, with a token that is good."""

    async def work() -> None:
        async with Bed() as bed, bed.watch() as stream:
            first = await anext(stream)
            began = bed.now
            beats = [await anext(stream) for _ in range(3)]
            assert bed.now - began == pytest.approx(3 * HEARTBEAT)
            assert all(beat.caught_up and not beat.changes and not beat.reset for beat in beats)
            assert beats[-1].resume_token == first.resume_token

    virtual_time.run(work())


def test_leaving_the_filter_is_a_removal() -> None:
    """And entering it shows the domain; what never fitted causes nothing."""

    async def work() -> None:
        async with Bed() as bed, bed.watch(Request(filter=RUNNING)) as stream:
            bed.read(1, "on")
            bed.read(2, "off", State.SHUTOFF)
            client = Client()
            await client.catch_up(stream)
            assert client.names == ["on"]
            bed.gone(2)
            bed.read(1, "on", State.SHUTOFF)
            client.apply(await anext(stream))
            assert (client.names, client.strays) == ([], 0)
            bed.read(1, "on")
            client.apply(await anext(stream))
            assert client.names == ["on"]

    virtual_time.run(work())


def test_a_domain_replaced_by_one_that_does_not_fit_is_removed_by_the_generation_that_was_shown() -> None:
    """The watcher holds the old one, and is told that that one is gone."""

    async def work() -> None:
        async with Bed() as bed, bed.watch(Request(filter=RUNNING)) as stream:
            bed.read(1)
            client = Client()
            await client.catch_up(stream)
            shown = client.held[uuid(1)].generation
            bed.gone(1)
            await asyncio.sleep(0.01)
            bed.read(1, state=State.SHUTOFF)
            batch = await anext(stream)
            assert [change.removed.generation for change in batch.changes] == [shown]

    virtual_time.run(work())


def test_a_domain_replaced_while_a_long_batch_is_made_is_removed_by_the_generation_that_was_shown() -> None:
    """The batch has what the stream looked at; the one in its place comes with the next, or was never there for this stream."""

    async def work() -> None:
        async with Bed() as bed, bed.watch(Request(filter=RUNNING)) as stream:
            for number in range(2 * SLICE):
                bed.read(number)
            client = Client()
            await client.catch_up(stream)
            last = uuid(2 * SLICE - 1)
            coming = asyncio.ensure_future(anext(stream))
            await asyncio.sleep(1.0)
            for number in range(2 * SLICE):
                bed.read(number, "renamed")
            await asyncio.sleep(SLICE_SECONDS / 2)
            bed.gone(2 * SLICE - 1)
            await asyncio.sleep(0)
            bed.read(2 * SLICE - 1, "another", State.SHUTOFF)
            client.apply(await coming)
            assert {domain.name for domain in client.held.values()} == {"renamed"}
            bed.gone(2 * SLICE - 1)
            client.apply(await anext(stream))
            assert (last in client.held, client.strays) == (False, 0)

    virtual_time.run(work())


def test_who_resumes_is_told_of_what_is_gone_whichever_it_holds() -> None:
    """Another one has come and gone meanwhile, or has come and does not fit."""

    async def work() -> None:
        async with Bed() as bed:
            bed.read(1)
            bed.read(2)
            client = Client()
            async with bed.watch(Request(filter=RUNNING)) as stream:
                await client.catch_up(stream)
            for number in (1, 2):
                bed.gone(number)
                await asyncio.sleep(0.01)
                bed.read(number, "another", State.SHUTOFF)
            await asyncio.sleep(0.01)
            bed.gone(2)
            async with bed.watch(Request(filter=RUNNING, resume_token=client.token)) as stream:
                await client.catch_up(stream)
            assert (client.names, client.strays, client.batches[-1].reset) == ([], 0, False)

    virtual_time.run(work())


def test_a_long_present_state_comes_in_parts() -> None:
    """No batch holds more than it may, only the last says caught_up, and changes meanwhile are neither lost nor doubled."""

    async def work() -> None:
        count = 3 * MAX_CHANGES
        async with Bed() as bed, bed.watch() as stream:
            for number in range(count):
                bed.read(number)
            client = Client()
            client.apply(await anext(stream))
            assert not client.batches[0].caught_up
            bed.gone(0)
            bed.gone(count - 1)
            bed.read(1, state=State.PAUSED)
            await client.catch_up(stream)
            assert [batch.caught_up for batch in client.batches] == [False] * (len(client.batches) - 1) + [True]
            assert max(len(batch.changes) for batch in client.batches) == MAX_CHANGES
            assert [batch.reset for batch in client.batches] == [True] + [False] * (len(client.batches) - 1)
            assert (len(client.held), client.strays) == (count - 2, 0)
            assert client.held[uuid(1)].state == types_pb2.DOMAIN_STATE_PAUSED

    virtual_time.run(work())


def test_a_token_brings_only_what_changed_since() -> None:
    """After a broken connection: new, changed, gone and no longer fitting domains, and no reset."""

    async def work() -> None:
        async with Bed() as bed:
            for number in range(5):
                bed.read(number)
            client = Client()
            async with bed.watch(Request(filter=RUNNING)) as stream:
                await client.catch_up(stream)
            bed.gone(0)
            bed.read(1, state=State.SHUTOFF)
            bed.read(2, "renamed")
            bed.read(9)
            async with bed.watch(Request(filter=RUNNING, resume_token=client.token)) as stream:
                await client.catch_up(stream)
            assert not client.batches[-1].reset
            assert len(client.batches[-1].changes) == 4
            assert client.names == ["guest-3", "guest-4", "guest-9", "renamed"]

    virtual_time.run(work())


def test_a_token_from_the_middle_of_a_present_state_goes_on_there() -> None:
    """A connection that broke during a long beginning need not begin again."""

    async def work() -> None:
        async with Bed() as bed:
            for number in range(3 * MAX_CHANGES):
                bed.read(number)
            client = Client()
            async with bed.watch() as stream:
                client.apply(await anext(stream))
            bed.gone(0)
            async with bed.watch(Request(resume_token=client.token)) as stream:
                await client.catch_up(stream)
            assert [batch.reset for batch in client.batches] == [True, *[False] * (len(client.batches) - 1)]
            assert len(client.held) == 3 * MAX_CHANGES - 1

    virtual_time.run(work())


def test_a_token_that_tombstones_no_longer_reach_brings_a_reset(monkeypatch: pytest.MonkeyPatch) -> None:
    """Old is no error: the present state comes, and what is gone is gone."""

    async def work() -> None:
        monkeypatch.setattr(feeds, "MAX_TOMBSTONES", 2)
        async with Bed() as bed:
            for number in range(6):
                bed.read(number)
            client = Client()
            async with bed.watch() as stream:
                await client.catch_up(stream)
            for number in range(4):
                bed.gone(number)
            async with bed.watch(Request(resume_token=client.token)) as stream:
                await client.catch_up(stream)
            assert client.batches[-1].reset
            assert client.names == ["guest-4", "guest-5"]

    virtual_time.run(work())


def test_a_token_of_an_earlier_life_brings_a_reset() -> None:
    """Revisions of another server's life mean nothing in this one."""

    async def work() -> None:
        client = Client()
        async with Bed() as earlier:
            earlier.read(1, "old")
            async with earlier.watch() as stream:
                await client.catch_up(stream)
        async with Bed() as bed:
            bed.read(2, "new")
            async with bed.watch(Request(resume_token=client.token)) as stream:
                await client.catch_up(stream)
        assert client.batches[-1].reset
        assert client.names == ["new"]

    virtual_time.run(work())


def test_what_is_no_token_of_this_watch_is_refused() -> None:
    """Garbage, and a token of another filter."""

    async def work() -> None:
        async with Bed() as bed:
            async with bed.watch() as stream:
                token = (await anext(stream)).resume_token
            for request in (Request(resume_token="x"), Request(resume_token="é"), Request(filter=RUNNING, resume_token=token)):
                with pytest.raises(Refusal) as caught:
                    async with bed.watch(request) as stream:
                        await anext(stream)
                assert caught.value.problem.reason == "RESUME_TOKEN_INVALID"

    virtual_time.run(work())


def test_hosts_that_go_and_come_are_told_once_each_time() -> None:
    """A lost host is in the next batch and every later one, without its domains; its return is told as well."""

    async def work() -> None:
        async with Bed() as bed, bed.watch() as stream:
            bed.driver.domains[uuid(1)] = reading(1, 0.0)
            bed.driver.changed(1)
            client = Client()
            await client.catch_up(stream)
            while not client.held:
                client.apply(await anext(stream))
            bed.driver.down("connection refused")
            batch = await anext(stream)
            assert [(host.host, host.freshness) for host in batch.unreachable] == [("h", types_pb2.FRESHNESS_STALE)]
            assert "connection refused" in batch.unreachable[0].message
            assert not batch.changes
            assert len((await anext(stream)).unreachable) == 1
            began = bed.now
            bed.driver.up()
            while (await anext(stream)).unreachable:
                pass
            assert bed.now - began < HEARTBEAT

    virtual_time.run(work())


def test_a_host_that_goes_in_the_pause_after_a_look_in_vain_is_told_soon() -> None:
    """What changed just before was of no concern to this stream."""

    async def work() -> None:
        async with Bed() as bed, bed.watch(Request(filter=RUNNING)) as stream:
            await anext(stream)
            coming = asyncio.ensure_future(anext(stream))
            await asyncio.sleep(1.0)
            bed.read(1, state=State.SHUTOFF)
            await asyncio.sleep(VAIN_SECONDS / 2)
            began = bed.now
            bed.driver.down("connection refused")
            assert (await coming).unreachable
            assert bed.now - began < 1.0

    virtual_time.run(work())


def test_a_host_never_reached_is_unknown() -> None:
    """Its domains are missing, and the first batch says so."""

    async def work() -> None:
        async with Bed() as bed:
            bed.host.known.clear()
            async with bed.watch() as stream:
                batch = await anext(stream)
            assert [host.freshness for host in batch.unreachable] == [types_pb2.FRESHNESS_UNKNOWN]

    virtual_time.run(work())


def test_a_domain_shown_while_a_read_was_due_is_shown_again_when_it_is_live() -> None:
    """A read that finds nothing new makes no change; the watcher does not keep STALE for ever."""

    async def work() -> None:
        async with Bed() as bed, bed.watch() as stream:
            bed.driver.domains[uuid(1)] = reading(1, 0.0)
            opened = asyncio.Event()
            bed.driver.changed(1)
            await bed.host.refresher.drained(60.0)

            async def gate(_group: Group, _uuids: object) -> None:
                await opened.wait()

            bed.driver.gate = gate
            bed.driver.changed(1)
            await asyncio.sleep(1.0)
            client = Client()
            await client.catch_up(stream)
            assert client.held[uuid(1)].state_observation.freshness == types_pb2.FRESHNESS_STALE
            opened.set()
            client.apply(await anext(stream))
            assert client.held[uuid(1)].state_observation.freshness == types_pb2.FRESHNESS_LIVE

    virtual_time.run(work())


def test_a_watcher_that_does_not_read_costs_nothing_and_misses_nothing() -> None:
    """Thousands of changes behind, it is told the last form of each domain in one go."""

    async def work() -> None:
        async with Bed() as bed, bed.watch() as stream:
            client = Client()
            await client.catch_up(stream)
            for turn in range(2000):
                bed.read(turn % 10, state=State.PAUSED if turn % 3 else State.RUNNING)
                await asyncio.sleep(0.01)
            await client.catch_up(stream)
            assert len(client.batches[-1].changes) == 10
            for number in range(10):
                entry = bed.domains.get(("h", uuid(number)))
                assert entry is not None
                assert client.held[uuid(number)].active == entry.active

    virtual_time.run(work())


def test_a_listed_domain_that_was_not_read_is_shown_without_zeros() -> None:
    """UNKNOWN, and its fields unset."""

    async def work() -> None:
        async with Bed() as bed, bed.watch() as stream:
            bed.domains.listed("h", listing(bed.now, [1]))
            client = Client()
            await client.catch_up(stream)
            domain = client.held[uuid(1)]
            assert domain.state_observation.freshness == types_pb2.FRESHNESS_UNKNOWN
            assert not domain.state_observation.HasField("observed_time")
            assert not any(domain.HasField(name) for name in ("id", "active", "memory_bytes", "persistent", "cpu_time", "vcpus"))

    virtual_time.run(work())


def test_a_heartbeat_comes_although_its_timer_fired_a_tick_early() -> None:
    """Time that cannot be told exactly does not make a stream spin: what is due within a tick is due."""

    async def work() -> None:
        async with Bed() as bed:
            for offset in range(40):
                async with bed.watch() as stream:
                    await asyncio.sleep(offset / 7)
                    await anext(stream)
                    await anext(stream)

    virtual_time.run(work())


def test_a_watch_of_one_domain_hears_of_it_whatever_else_changes() -> None:
    """It sleeps while others change, also for longer than it can look back at once, and is told of its own at once."""

    async def work() -> None:
        async with Bed() as bed:
            bed.read(1)
            async with bed.watch(Request(filter=types_pb2.DomainFilter(uuids=[uuid(1).upper()]))) as stream:
                client = Client()
                await client.catch_up(stream)
                waiting = asyncio.ensure_future(anext(stream))
                for number in range(2, 2 * MAX_CHANGES):
                    bed.read(number)
                await asyncio.sleep(1.0)
                assert not waiting.done()
                bed.read(1, state=State.PAUSED)
                changed = bed.now
                client.apply(await waiting)
                assert bed.now == changed
                assert [domain.state for domain in client.held.values()] == [types_pb2.DOMAIN_STATE_PAUSED]

    virtual_time.run(work())


def test_streams_that_always_have_something_to_tell_do_not_tell_it_together() -> None:
    """Woken by the same change they begin together; as long as changes go on, each keeps to a beat of its own."""

    async def work() -> None:
        async with Bed() as bed:
            times: list[list[float]] = [[] for _ in range(4)]

            async def follow(number: int) -> None:
                async with bed.watch() as stream:
                    async for _ in stream:
                        times[number].append(bed.now)

            tasks = [asyncio.ensure_future(follow(number)) for number in range(len(times))]
            for turn in range(300):
                await asyncio.sleep(0.01)
                bed.read(1, state=State.PAUSED if turn % 2 else State.RUNNING)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for each in times:
                assert all(later - earlier >= INTERVAL_SECONDS - LATE_SECONDS for earlier, later in itertools.pairwise(each))
                assert 25 <= len(each) <= 31
            last = sorted(each[-1] % INTERVAL_SECONDS for each in times)
            assert all(later - earlier > 0.01 for earlier, later in itertools.pairwise(last))

    virtual_time.run(work())


@pytest.mark.parametrize("most", [MAX_CHANGES, 20], ids=["all that is new", "less than one of them missed"])
def test_streams_of_all_jobs_share_what_they_tell_and_end_with_the_same(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """Jobs that go on and are forgotten while several streams of everything follow, one of them slow: none is told twice."""
    monkeypatch.setattr(following, "MAX_CHANGES", most)

    async def work() -> None:
        async with Bed() as bed:
            held: list[dict[str, int]] = [{} for _ in range(5)]

            async def follow(number: int) -> None:
                async for body in bed.watches.jobs(job_pb2.WatchJobsRequest()):
                    for change in job_pb2.WatchJobsResponse.FromString(body).changes:
                        if change.HasField("removed"):
                            held[number].pop(change.removed.job_id, None)
                        else:
                            assert held[number].get(change.current.job_id, 0) < change.current.revision
                            held[number][change.current.job_id] = change.current.revision
                    await asyncio.sleep(0.7 if number == 0 else 0)

            tasks = [asyncio.ensure_future(follow(number)) for number in range(len(held))]
            for turn in range(300):
                await asyncio.sleep(0.01)
                bed.jobs.publish(job(id=f"j{turn % 40}", host="h", revision=turn + 1))
                if turn % 7 == 0:
                    bed.jobs.feed.remove(f"j{turn % 40}")
                # Told once, by whichever stream.
                bed.jobs.publish(job(id=f"once {turn}", host="h", revision=1))
                bed.jobs.feed.remove(f"once {turn - 30}")
            await asyncio.sleep(30.0)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            assert bed.jobs.feed.get("j39") is not None
            assert held == 5 * [{each: known.revision for each in held[0] if (known := bed.jobs.feed.get(each)) is not None}]
            assert len(held[0]) == len(bed.jobs.feed)

    virtual_time.run(work())


def test_what_streams_of_all_jobs_tell_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """However far apart their turns are, and although some come while another still makes it."""
    made: list[int] = []

    def made_of(told: Job, jobs: Jobs) -> JobBytes:
        made.append(told.revision)
        return job_bytes(told, jobs)

    monkeypatch.setattr(job_sight, "job_bytes", made_of)

    async def work() -> None:
        async with Bed() as bed:
            streams = [asyncio.ensure_future(_read_all(bed.watches.jobs(job_pb2.WatchJobsRequest()))) for _ in range(8)]
            await asyncio.sleep(1.0)
            for revision in range(1, 201):
                for number in range(4 * SLICE if revision % 20 == 0 else 1):
                    bed.jobs.publish(job(id=f"j{number}", host="h", revision=revision))
                await asyncio.sleep(0.01)
            await asyncio.sleep(1.0)
            for stream in streams:
                stream.cancel()
            await asyncio.gather(*streams, return_exceptions=True)

    virtual_time.run(work())
    assert len(made) <= 190 + 10 * 4 * SLICE
    assert made.count(200) == 4 * SLICE


async def _read_all(stream: AsyncIterator[object]) -> None:
    async for _ in stream:
        pass


def test_streams_of_all_jobs_that_missed_too_much_are_reset_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """What one of them is told after its reset is no good for the other, which still holds what is gone."""

    async def work() -> None:
        monkeypatch.setattr(feeds, "MAX_TOMBSTONES", 2)
        async with Bed() as bed:
            for number in range(8):
                bed.jobs.publish(job(id=f"j{number}", host="h", revision=1))
            held: list[set[str]] = [set(), set()]

            async def follow(number: int) -> None:
                async for body in bed.watches.jobs(job_pb2.WatchJobsRequest()):
                    batch = job_pb2.WatchJobsResponse.FromString(body)
                    if batch.reset:
                        held[number].clear()
                    held[number] |= {change.current.job_id for change in batch.changes if change.HasField("current")}
                    held[number] -= {change.removed.job_id for change in batch.changes}

            tasks = [asyncio.ensure_future(follow(number)) for number in range(2)]
            await asyncio.sleep(1.0)
            assert [len(jobs) for jobs in held] == [8, 8]
            for number in range(6):
                bed.jobs.feed.remove(f"j{number}")
            await asyncio.sleep(1.0)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            assert held == [{"j6", "j7"}, {"j6", "j7"}]

    virtual_time.run(work())


def test_a_stream_of_some_jobs_is_told_of_no_others() -> None:
    """Beside a stream of everything, whose batches are not for it; a job that is called otherwise now, or is forgotten, is removed."""

    async def work() -> None:
        async with Bed() as bed:
            everything, some = [aiter(bed.watches.jobs(request)) for request in (job_pb2.WatchJobsRequest(), jobs_of("web"))]
            for stream in (everything, some):
                await anext(stream)
            changes: list[str] = []
            coming = [asyncio.ensure_future(anext(stream)) for stream in (everything, some)]
            await asyncio.sleep(1.0)
            for job_id, name in (("a", "web"), ("b", "db"), ("c", "web")):
                bed.jobs.publish(job(id=job_id, host="h", name=name, revision=1))
            for turn in range(3):
                batch = job_pb2.WatchJobsResponse.FromString((await asyncio.gather(*coming))[1])
                changes += [f"+{each.current.job_id}" if each.HasField("current") else f"-{each.removed.job_id}" for each in batch.changes]
                coming = [asyncio.ensure_future(anext(stream)) for stream in (everything, some)]
                if turn == 0:
                    bed.jobs.publish(job(id="a", host="h", name="renamed", revision=2))
                else:
                    bed.jobs.feed.remove("c")
            for task in coming:
                task.cancel()
            await asyncio.gather(*coming, return_exceptions=True)
            assert changes == ["+a", "+c", "-a", "-c"]

    virtual_time.run(work())


def jobs_of(name: str) -> job_pb2.WatchJobsRequest:
    """Asks for the jobs of domains with this name."""
    return job_pb2.WatchJobsRequest(filter=job_pb2.JobFilter(domain=types_pb2.DomainRef(name=name)))


def test_a_domain_that_is_watched_by_its_uuid_is_removed() -> None:
    """Nothing has its topic any more."""

    async def work() -> None:
        async with Bed() as bed, bed.watch(Request(filter=types_pb2.DomainFilter(uuids=[uuid(1)]))) as stream:
            bed.read(1)
            bed.read(2)
            client = Client()
            await client.catch_up(stream)
            bed.gone(1)
            began = bed.now
            client.apply(await anext(stream))
            assert (client.names, client.strays, bed.now - began < 1.0) == ([], 0, True)

    virtual_time.run(work())


def test_a_job_is_encoded_with_those_in_its_own_way() -> None:
    """They are encoded once for all who wait for the same ones at the same time, and the same as for GetJob."""

    async def work() -> None:
        async with Bed() as bed:
            few = (Holder(job_id="x", verb="Suspend", since=100.0),)
            many = (*few, Holder(text="somebody else's job"))
            for number, (holders, updated) in enumerate([(few, 110.0), (few, 110.0), (many, 110.0), ((), 110.0), (few, 120.0), (few, 110.0)]):
                waiting = job(id=f"j{number}", host="h", holders=holders, updated=updated)
                encoded = types_pb2.JobUpdate.FromString(job_bytes(waiting, bed.jobs).update).job
                assert encoded == job_message(waiting, bed.hosts)

    virtual_time.run(work())


def test_a_job_is_encoded_as_it_is_now_whatever_has_changed() -> None:
    """What a report of progress does not change is encoded once for many revisions, and anew as soon as any of it changes."""
    changes: list[dict[str, object]] = [
        {"state": JobState.RUNNING, "phase": Phase.CALLING, "started": 11.0},
        {"progress": Progress(processed_bytes=1, percent=0.5)},
        {"progress": Progress(processed_bytes=2, percent=1.0), "updated": 12.0},
        {"phase": Phase.ABORTING, "cancel_reason": CancelReason.REQUESTED, "abortable": False},
        {"progress": None},
        {"state": JobState.FAILED, "ended": 13.0, "problem": Problem("CANCELLED", "as was asked"), "evidence": "it ran on"},
        {"haunts": True, "may_still_apply": True},
    ]

    async def work() -> None:
        async with Bed() as bed:
            now = job(host="h")
            for change in changes:
                now = msgspec.structs.replace(now, revision=now.revision + 1, **change)
                assert types_pb2.JobUpdate.FromString(job_bytes(now, bed.jobs).update).job == job_message(now, bed.hosts)

    virtual_time.run(work())


def test_many_streams_that_always_have_something_to_tell_take_longer_intervals() -> None:
    """What all streams send together is bounded; one that was silent is told at once all the same."""

    async def work() -> None:
        async with Bed() as bed:
            bed.read(2)
            sent: list[float] = []

            async def follow() -> None:
                async with bed.watch() as stream:
                    async for _ in stream:
                        sent.append(bed.now)  # noqa: PERF401  # the stream has no end

            tasks = [asyncio.ensure_future(follow()) for _ in range(100)]
            async with bed.watch(Request(filter=types_pb2.DomainFilter(uuids=[uuid(2)]))) as silent:
                client = Client()
                await client.catch_up(silent)
                for turn in range(500):
                    await asyncio.sleep(0.01)
                    bed.read(1, state=State.PAUSED if turn % 2 else State.RUNNING)
                late = [at for at in sent if at > bed.now - 3]
                assert 1.5 * BATCHES_PER_SECOND < len(late) < 3.5 * BATCHES_PER_SECOND
                bed.read(2, state=State.PAUSED)
                changed = bed.now
                client.apply(await anext(silent))
                assert bed.now == changed
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    virtual_time.run(work())


def test_a_filter_that_few_fit_is_caught_up_in_one_batch() -> None:
    """Also where the feed is looked at in parts: what does not fit makes no batch."""

    async def work() -> None:
        async with Bed() as bed:
            for number in range(2 * feeds.LINES + 10):
                bed.read(number, state=State.RUNNING if number % 1000 == 1 else State.PAUSED)
            async with bed.watch(Request(filter=RUNNING)) as stream:
                client = Client()
                await client.catch_up(stream)
                assert len(client.batches) == 1
                assert len(client.held) == 2 * feeds.LINES // 1000 + 1

    virtual_time.run(work())


def test_who_resumes_after_a_restart_keeps_what_it_holds_until_there_is_something_else() -> None:
    """While the new server has not heard of all its hosts, nothing is reset: empty batches, with the old token. Then the present state."""

    async def work() -> None:
        async with Bed() as earlier:
            earlier.read(1, "web")
            async with earlier.watch() as stream:
                token = (await anext(stream)).resume_token
        async with Bed() as bed:
            bed.host.known.clear()
            async with bed.watch(Request(resume_token=token, heartbeat=Duration(seconds=1))) as stream:
                waiting = await anext(stream)
                assert (waiting.reset, waiting.caught_up, waiting.resume_token) == (False, False, token)
                assert [host.host for host in waiting.unreachable] == ["h"]
                assert not (await anext(stream)).reset  # a heartbeat
                bed.read(1, "web")
                bed.host.known.set()
                bed.domains.feed.nudge()
                batch = await anext(stream)
            assert (batch.reset, batch.caught_up, [change.current.name for change in batch.changes]) == (True, True, ["web"])

    virtual_time.run(work())


def test_a_host_that_stays_silent_holds_up_nobody_for_ever() -> None:
    """After ten seconds the present state is told as far as it is known."""

    async def work() -> None:
        async with Bed() as earlier, earlier.watch() as stream:
            token = (await anext(stream)).resume_token
        async with Bed() as bed:
            bed.host.known.clear()
            began = bed.now
            async with bed.watch(Request(resume_token=token)) as stream:
                while not (await anext(stream)).reset:
                    assert bed.now < began + 10.1

    virtual_time.run(work())
