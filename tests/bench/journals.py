"""What the journal costs, and what a long history does: a server with a journal beside one without, and one that remembers 100,000 jobs."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.bench import forged
from tests.bench.child import Child
from tests.bench.figures import Figure, median_p99, milliseconds
from tests.bench.processors import left_to_the_server
from tests.bench.stage import live_uuids

HOST = "bench"
DOMAINS = 1000
AT_ONCE = 50
"""Verbs that are out at any moment."""
SECONDS = 2.0
"""How long verbs are counted, on each server in each round."""
REMEMBERED = 100_000
LISTS = 120
LIST_RATE = 40.0
CONFIG = """
socket = "{socket}"
state_dir = "{socket}.state"
journal = {journal}
history_jobs = {jobs}
drain_timeout = 1
[[hosts]]
name = "{host}"
uri = "sim://{host}/?domains={domains}&running={domains}"
sample_seconds = 60
"""

Say = Callable[[str], None]


@dataclass
class Costs:
    """Verbs a second in each round, and how long each ListJobs took."""

    on: list[float] = field(default_factory=list)
    off: list[float] = field(default_factory=list)
    lists: list[list[float]] = field(default_factory=list)
    bytes_each: float = 0.0

    def figures(self) -> list[Figure]:
        """The rows."""
        ratio = statistics.median(on / off for on, off in zip(self.on, self.off, strict=True))
        rates = f"{statistics.median(self.on):.0f} and {statistics.median(self.off):.0f} verbs a second"
        return [
            Figure("job verbs with the journal / without", ratio, "ratio", 0.7, "higher", rates),
            milliseconds(f"ListJobs, first page over {REMEMBERED} jobs, p99", median_p99(self.lists), 20.0),
            Figure("server memory for each finished job", self.bytes_each / 1024, "KiB", 5.0),
        ]


async def measure(rounds: int, say: Say) -> Costs:
    """The two servers in turn, and then the long history."""
    costs = Costs()
    with left_to_the_server() as processor:
        await _verbs(costs, rounds, processor, say)
        await _lists(costs, rounds, processor, say)
    return costs


async def _verbs(costs: Costs, rounds: int, processor: int, say: Say) -> None:
    async with _serving(processor) as without, _serving(processor, journal=True) as with_it:
        for number in range(1, rounds + 1):
            say(f"round {number} of {rounds}: journal")
            for callers, rates in ((without, costs.off), (with_it, costs.on)):
                count = await callers.ask("verbs", host=HOST, uuids=forged.uuids(HOST, DOMAINS), at_once=AT_ONCE, seconds=SECONDS)
                rates.append(count / SECONDS)


async def _lists(costs: Costs, rounds: int, processor: int, say: Say) -> None:
    say(f"a journal of {REMEMBERED} jobs")
    memory = []
    for jobs in (0, REMEMBERED):
        async with _remembering(processor, jobs) as (server, callers):
            memory.append(await server.ask("memory"))
            for number in range(1, rounds + 1 if jobs else 1):
                say(f"round {number} of {rounds}: history")
                costs.lists.append((await callers.ask("lists", rate=LIST_RATE, count=LISTS))["seconds"])
    costs.bytes_each = (memory[1] - memory[0]) / REMEMBERED


@asynccontextmanager
async def _serving(processor: int, *, journal: bool = False) -> AsyncIterator[Child]:
    """The callers of a server of its own."""
    async with _server(processor, journal=journal) as (_, callers):
        # Both sides make what they make once.
        await callers.ask("verbs", host=HOST, uuids=forged.uuids(HOST, DOMAINS), at_once=AT_ONCE, seconds=SECONDS)
        yield callers


@asynccontextmanager
async def _remembering(processor: int, jobs: int) -> AsyncIterator[tuple[Child, Child]]:
    async with _server(processor, journal=True, jobs=jobs) as (server, callers):
        await callers.ask("lists", rate=LIST_RATE, count=10)
        yield server, callers


@asynccontextmanager
async def _server(processor: int, *, journal: bool, jobs: int = 0) -> AsyncIterator[tuple[Child, Child]]:
    with TemporaryDirectory(prefix="virtrpc-bench-") as directory:
        config, socket = Path(directory) / "virtrpcd.toml", f"{directory}/s"
        words = {"socket": socket, "journal": str(journal).lower(), "jobs": max(jobs, 1) * 2, "host": HOST, "domains": DOMAINS}
        config.write_text(CONFIG.format(**words))
        if jobs:
            Path(f"{socket}.state").mkdir()
            await asyncio.to_thread(lambda: forged.write(Path(f"{socket}.state"), forged.finished(jobs, HOST, forged.uuids(HOST, DOMAINS))))
        async with Child("tests.bench.server", str(config)) as server, Child("tests.bench.callers", f"unix:{socket}") as callers:
            await live_uuids(f"unix:{socket}", HOST)
            await server.ask("move_to", processor=processor)
            yield server, callers
