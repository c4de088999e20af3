"""The server's own state in numbers, read when somebody asks: what can be seen is not counted on the way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from math import inf

from virtrpc_server.core import Core
from virtrpc_server.hosts import Freshness, Host
from virtrpc_server.lag import Lag
from virtrpc_server.records import JobState, WaitingFor
from virtrpc_server.telemetry.points import NO_LABELS, Distribution, Family, Kind, Labels, Metric, Point

LAG_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5)
CACHE_AGE = Metric("virtrpc.cache.age", Kind.GAUGE, "s", "How old the oldest reading of each group is that the cache holds.", ("host", "group"))


@dataclass(frozen=True)
class View:
    """What is looked at."""

    core: Core
    lag: Lag
    rpcs: Callable[[], int]
    """How many RPCs are out."""
    certificate: Callable[[], float | None] = lambda: None
    """In how many seconds the server's own certificate ends; None where it has none."""


def _budget(host: Host) -> float:
    return inf if host.budget.limit is None else host.budget.limit


Look = Callable[[View], Iterable[Point]]


def _gauge(name: str, unit: str, text: str, *labels: str) -> Metric:
    return Metric(f"virtrpc.{name}", Kind.GAUGE, unit, text, labels)


def _exporters(name: str, unit: str, text: str) -> Metric:
    return Metric(f"libvirt_{name}", Kind.GAUGE, unit, text, ("host",))


def _per_host(number: Callable[[Host], float | None]) -> Look:
    def look(view: View) -> Iterator[Point]:
        for host in view.core.hosts:
            found = number(host)
            if found is not None:
                yield Point(Labels(host=host.name), found)

    return look


def _version(_view: View) -> Iterator[Point]:
    yield Point(Labels(version=version("virtrpc")), 1)


def _freshness(view: View) -> Iterator[Point]:
    for host in view.core.hosts:
        for freshness in Freshness:
            yield Point(Labels(host=host.name, freshness=freshness.value), int(host.freshness is freshness))


def _jobs(view: View) -> Iterator[Point]:
    counts = Counter((run.job.host, run.job.state.value) for run in view.core.jobs.runs if not run.job.finished)
    for host in view.core.hosts:
        for state in (JobState.QUEUED, JobState.RUNNING):
            yield Point(Labels(host=host.name, state=state.value), counts[host.name, state.value])


def _waiting(view: View) -> Iterator[Point]:
    queued = (run.job for run in view.core.jobs.runs if run.job.state is JobState.QUEUED and run.job.waiting_for is not None)
    counts = Counter((job.host, job.waiting_for) for job in queued)
    for host in view.core.hosts:
        for waiting_for in WaitingFor:
            yield Point(Labels(host=host.name, waiting_for=waiting_for.value), counts[host.name, waiting_for])


def _ghosts(view: View) -> Iterator[Point]:
    counts = Counter(run.job.host for run in view.core.jobs.runs if run.job.finished)
    for host in view.core.hosts:
        yield Point(Labels(host=host.name), counts[host.name])


def _stuck(view: View) -> Iterator[Point]:
    for host in view.core.hosts:
        for lane, count in host.stuck.items():
            yield Point(Labels(host=host.name, lane=lane), count)


def _streams(view: View) -> Iterator[Point]:
    for of, watches in view.core.watches.open.items():
        yield Point(Labels(of=of), len(watches))


def _stream_lag(view: View) -> Iterator[Point]:
    for of, watches in view.core.watches.open.items():
        yield Point(Labels(of=of), max((watch.lag for watch in watches), default=0.0))


def _journal(view: View) -> Iterator[Point]:
    yield Point(NO_LABELS, view.core.jobs.store.unwritten)


def _journal_failing(view: View) -> Iterator[Point]:
    yield Point(NO_LABELS, int(view.core.jobs.store.failing))


def _policy_failing(view: View) -> Iterator[Point]:
    yield Point(NO_LABELS, int(bool(view.core.decisions.fault)))


def _certificate(view: View) -> Iterator[Point]:
    seconds = view.certificate()
    if seconds is not None:
        yield Point(NO_LABELS, seconds)


def _rpcs(view: View) -> Iterator[Point]:
    yield Point(NO_LABELS, view.rpcs())


def _loop_lag(view: View) -> Iterator[Point]:
    yield Point(NO_LABELS, Distribution(LAG_BOUNDS, view.lag.counts(LAG_BOUNDS), view.lag.total))


LOOKS: tuple[tuple[Metric, Look], ...] = (
    (_gauge("server.info", "", "1, with the server's version.", "version"), _version),
    (_gauge("rpc.active", "{rpc}", "RPCs that are out, streams among them."), _rpcs),
    (Metric("virtrpc.loop.lag", Kind.HISTOGRAM, "s", "How late the event loop came round, asked 25 times a second."), _loop_lag),
    (_gauge("host.connected", "", "Whether the host can be reached.", "host"), _per_host(lambda host: int(host.connected))),
    (_gauge("host.freshness", "", "1 for what the host's part of the cache is: live, stale or unknown.", "host", "freshness"), _freshness),
    (_gauge("host.domains", "{domain}", "Domains that the host has.", "host"), _per_host(lambda host: host.tally.domains)),
    (_gauge("host.domains.active", "{domain}", "Domains of the host that are not off.", "host"), _per_host(lambda host: host.tally.active)),
    (
        _gauge("host.quarantined", "{domain}", "Running guests whose statistics are not asked for, since such a call hung.", "host"),
        _per_host(lambda host: len(host.sampler.quarantined)),
    ),
    (
        _gauge("driver.stuck.threads", "{thread}", "Calls that have not come back in time, each with a thread of its own.", "host", "lane"),
        _stuck,
    ),
    (
        Metric("virtrpc.driver.restarts", Kind.COUNTER, "{restart}", "How often the host's driver process was started again.", ("host",)),
        _per_host(lambda host: host.restarts),
    ),
    (_gauge("daemon.budget.limit", "{call}", "Calls that its daemon can bear at once, inf where it has no limit.", "host"), _per_host(_budget)),
    (_gauge("daemon.budget.used", "{call}", "Calls that hold a place in that.", "host"), _per_host(lambda host: len(host.budget.holders))),
    (_gauge("daemon.budget.waiting", "{call}", "Calls that wait for one.", "host"), _per_host(lambda host: len(host.budget.waiters))),
    (_gauge("jobs", "{job}", "Jobs that are not over.", "host", "state"), _jobs),
    (_gauge("jobs.waiting", "{job}", "Queued jobs by what they wait for.", "host", "waiting_for"), _waiting),
    (_gauge("jobs.ghosts", "{job}", "Jobs that are over while their call is still out.", "host"), _ghosts),
    (_gauge("watch.streams", "{stream}", "Streams that watch domains or jobs.", "of"), _streams),
    (_gauge("watch.lag", "s", "For how long the slowest of them has not been told what changed.", "of"), _stream_lag),
    (_gauge("journal.queue", "{job}", "Jobs whose newest form is not written yet."), _journal),
    (_gauge("journal.failing", "", "Whether the journal cannot be written."), _journal_failing),
    (_gauge("policy.failing", "", "Whether the policy file cannot be used: its former rules are in force."), _policy_failing),
    (_gauge("certificate.remaining", "s", "For how long the server's own certificate is still valid; below 0 where it has ended."), _certificate),
    (_exporters("up", "", "Whether the host can be reached."), _per_host(lambda host: int(host.connected))),
    (_exporters("domains", "{domain}", "Domains that the host has."), _per_host(lambda host: host.tally.domains)),
)  # fmt: skip


def families(view: View) -> Iterator[Family]:
    """All of it as it is now."""
    for metric, look in LOOKS:
        yield Family(metric, list(look(view)))


def cache_ages(ages: dict[tuple[str, str], float]) -> Family:
    """The ages that were found while the domains were looked at."""
    return Family(CACHE_AGE, [Point(Labels(host=host, group=group), age) for (host, group), age in sorted(ages.items())])
