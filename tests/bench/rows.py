"""What is measured on the simulated stage: each row idle, then under load, in every round."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Iterable
from typing import Protocol

from tests.bench.figures import Figure, Ratio, median_p99, milliseconds, p99, percentile
from tests.bench.stage import DOMAINS, HOST, JOBS, WEDGED, Stage
from virtrpc_drivers.sim.control import Aborts, Stranger

CALLS = 3000
"""Calls of one block of queries, and at the least those of a row over all rounds."""
QUERY_RATE = 500.0
CANCEL_RATE = 40.0
CANCELS = 450
WATCHERS = 10
CROWD = 1000
SPACING = 0.4
"""Seconds between two events, and before the first: more than a stream waits after the two batches that an event may take."""
EVENTS = 50
LAST_WORDS = 1.0
"""Seconds that messages still have after the last event, however slow the machine: one that comes later is missed."""
CROWD_SPACING = 1.8
CROWD_EVENTS = 4
ENDING_SECONDS = 30.0


class Row(Protocol):
    """One thing to measure, round after round."""

    title: str

    async def idle(self, stage: Stage) -> None:
        """The part of a round in which no job runs."""

    async def busy(self, stage: Stage) -> None:
        """The part of a round in which all places for operations are taken."""

    def figures(self) -> list[Figure]:
        """What all rounds say."""


class Queries:
    """GetDomain of any domain."""

    title = "queries"

    def __init__(self) -> None:
        self.ratio = Ratio([], [], [])
        self._late: list[list[float]] = []

    async def idle(self, stage: Stage) -> None:
        """Two blocks: the second over the first is the noise."""
        self.ratio.idle.append(await self._block(stage))
        self.ratio.again.append(await self._block(stage))

    async def busy(self, stage: Stage) -> None:
        """The same under load."""
        self.ratio.busy.append(await self._block(stage))

    async def _block(self, stage: Stage) -> list[float]:
        timings = await stage.callers.ask("queries", host=HOST, uuids=stage.uuids, rate=QUERY_RATE, count=CALLS)
        self._late.append(timings["late"])
        seconds: list[float] = timings["seconds"]
        return seconds

    def figures(self) -> list[Figure]:
        """The ratio, its cap, and how late the caller itself was."""
        return [
            *self.ratio.figures("GetDomain", f"{JOBS} jobs running and {WEDGED} domains wedged", ratio=1.2, cap_ms=15.0),
            milliseconds("the caller's own lateness, p99", median_p99(self._late), 5.0),
        ]


def _first(arrived: Iterable[tuple[float, int, str, str]], *, pause: bool) -> dict[tuple[int, str], float]:
    """When each stream first told each domain to be paused, or to run: a second time says that the configuration was read as well."""
    wanted = "DOMAIN_STATE_PAUSED" if pause else "DOMAIN_STATE_RUNNING"
    first: dict[tuple[int, str], float] = {}
    for at, stream, uuid, state in arrived:
        if state == wanted:
            first.setdefault((stream, uuid), at)
    return first


class Events:
    """From the moment at which the simulated hypervisor changes a domain to the message at each of ten watchers."""

    title = "events"

    def __init__(self) -> None:
        self._seconds: list[list[float]] = []
        self._missed = 0

    async def idle(self, stage: Stage) -> None:
        """Nothing: under load is what counts."""

    async def busy(self, stage: Stage) -> None:
        """Change one domain after the other, each more than a batch's interval after the one before."""
        # Paused in one round, unpaused in the next: what is told is new each time.
        pause = len(self._seconds) % 2 == 0
        await stage.watchers.ask("domains", host=HOST, streams=WATCHERS)
        await asyncio.sleep(SPACING)
        changed: dict[str, float] = {}
        for uuid in stage.uuids[-EVENTS:]:
            changed[uuid] = await stage.simulate(Stranger(action="pause" if pause else "unpause", uuid=uuid))
            await asyncio.sleep(SPACING)
        await asyncio.sleep(LAST_WORDS)
        told = _first(await stage.watchers.ask("arrived"), pause=pause)
        await stage.watchers.ask("leave")
        self._seconds.append([at - changed[uuid] for (_, uuid), at in told.items() if uuid in changed])
        self._missed += WATCHERS * EVENTS - len(self._seconds[-1])

    def figures(self) -> list[Figure]:
        """The 99th percentile."""
        return [
            milliseconds(f"driver event to message, {WATCHERS} watchers, p99", median_p99(self._seconds), 20.0),
            Figure("messages missed", self._missed, "messages", 0.0),
        ]


class Crowd:
    """A thousand watchers of one domain, and then of one job."""

    title = "crowd"

    def __init__(self) -> None:
        self._seconds: list[list[float]] = []
        self._bytes: list[int] = []
        self._growth: list[int] = []
        self._missed = 0

    async def idle(self, stage: Stage) -> None:
        """Nothing: under load is what counts."""

    async def busy(self, stage: Stage) -> None:
        """A domain that is paused and goes on, then a job that is cancelled."""
        await self._domain(stage)
        await self._job(stage)

    async def _domain(self, stage: Stage) -> None:
        uuid = stage.uuids[DOMAINS // 2]
        before = await stage.server.ask("memory")
        await stage.watchers.ask("domains", host=HOST, streams=CROWD, uuid=uuid)
        opened = await stage.server.ask("memory")
        seconds: list[float] = []
        for number in range(CROWD_EVENTS):
            seconds += await self._event(stage, uuid, pause=number % 2 == 0)
        self._seconds.append(seconds)
        self._bytes.append((opened - before) // CROWD)
        self._growth.append(await stage.server.ask("memory") - opened)
        await stage.watchers.ask("leave")

    async def _event(self, stage: Stage, uuid: str, *, pause: bool) -> list[float]:
        at = await stage.simulate(Stranger(action="pause" if pause else "unpause", uuid=uuid))
        await asyncio.sleep(CROWD_SPACING)
        told = _first(await stage.watchers.ask("arrived"), pause=pause)
        self._missed += CROWD - len(told)
        return [arrived - at for arrived in told.values()]

    async def _job(self, stage: Stage) -> None:
        await stage.watchers.ask("job", job_id=stage.jobs[0], streams=CROWD)
        await stage.callers.ask("end", jobs=[stage.jobs.pop(0)])
        self._missed += CROWD - len(await stage.watchers.ask("ended", seconds=ENDING_SECONDS))
        await stage.watchers.ask("leave")

    def figures(self) -> list[Figure]:
        """How late the last of them are, what they cost, and what they missed."""
        slowest = statistics.median(max(seconds) for seconds in self._seconds)
        return [
            milliseconds(f"driver event to message, {CROWD} watchers of one domain, p99", median_p99(self._seconds), 300.0),
            milliseconds(f"driver event to message, {CROWD} watchers of one domain, slowest", slowest, 300.0),
            Figure("server memory for each watcher, at most", max(self._bytes) / 1024, "KiB", 100.0),
            Figure(f"server memory for {CROWD_EVENTS} events told to {CROWD} watchers", statistics.median(self._growth) / (1 << 20), "MiB", 16.0),
            Figure(f"events and final states missed by {CROWD} watchers", self._missed, "messages", 0.0),
        ]


class Cancels:
    """CancelJob while every place for operations is taken: a job that queues takes each place that comes free."""

    title = "cancels"

    def __init__(self) -> None:
        self._answered: list[list[float]] = []
        self._aborted: list[list[float]] = []
        self._missed = 0

    async def idle(self, stage: Stage) -> None:
        """Nothing: without jobs nothing can be cancelled."""

    async def busy(self, stage: Stage) -> None:
        """Cancel the oldest job again and again."""
        fresh = stage.uuids[2 * JOBS : 2 * JOBS + CANCELS]
        told = await stage.callers.ask("cancels", host=HOST, jobs=stage.jobs, uuids=fresh, rate=CANCEL_RATE)
        stage.jobs = told["left"]
        await asyncio.sleep(LAST_WORDS)
        aborts = {call_id.partition(".")[0]: at for call_id, at in (await stage.simulate(Aborts())).items()}
        reached = [(aborts[job_id], due) for job_id, due in zip(told["cancelled"], told["due"], strict=True) if job_id in aborts]
        self._answered.append(told["seconds"])
        self._aborted.append([at - due for at, due in reached])
        self._missed += len(told["cancelled"]) - len(reached)

    def figures(self) -> list[Figure]:
        """How soon the caller has an answer, and how soon the hypervisor has heard."""
        return [
            milliseconds("CancelJob answered, p99", median_p99(self._answered), 20.0),
            milliseconds("abort at the driver, p99", median_p99(self._aborted), 50.0),
            milliseconds("abort at the driver, slowest", statistics.median(percentile(seconds, 100) for seconds in self._aborted), 50.0),
            Figure("cancelled jobs of which the driver was told no abort", self._missed, "jobs", 0.0),
        ]


ROWS: dict[str, type[Queries | Events | Crowd | Cancels]] = {row.title: row for row in (Queries, Events, Crowd, Cancels)}
__all__ = ["ROWS", "Queries", "Row", "p99"]
