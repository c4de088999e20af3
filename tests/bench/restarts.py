"""A server that is killed and started again on what it has left: how soon it answers, knows its jobs, and has told their watchers."""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.bench import forged
from tests.bench.child import Child
from tests.bench.figures import Figure
from tests.bench.processors import left_to_the_server, move_to
from tests.restart.bed import StubbornServer
from virtrpc import AsyncClient
from virtrpc.errors import VirtrpcError
from virtrpc.v1 import job_pb2 as j
from virtrpc.v1 import types_pb2 as t

HOST = "bench"
DOMAINS = 1000
RUNNING = 100
FINISHED = 10_000
STREAMS = 5000
ROUNDS = 3
"""At the most: each of them starts the server twice, and a bare one."""
SETTLE_SECONDS = 2.0
GUARD_SECONDS = 60.0
LOOK_SECONDS = 0.02
ANY_SIZE = 300
"""Bytes of the bare server's message before it is known how long ours are."""

Say = Callable[[str], None]


@dataclass
class Seen:
    """Seconds, of each round."""

    answered: list[float] = field(default_factory=list)
    reconciled: list[float] = field(default_factory=list)
    lost: int = 0
    ours: list[float] = field(default_factory=list)
    bare: list[float] = field(default_factory=list)

    def figures(self) -> list[Figure]:
        """The rows."""
        after = f"{RUNNING} jobs running and {FINISHED} over, kill -9"
        ratios = [ours / bare for ours, bare in zip(self.ours, self.bare, strict=True)]
        took = f"{statistics.median(self.ours):.2f} s; a bare server {statistics.median(self.bare):.2f} s"
        return [
            Figure(f"{after}: first query answered after the start, slowest", max(self.answered), "s", 2.0),
            Figure(f"{after}: all jobs reconciled after the host was reached, slowest", max(self.reconciled), "s", 3.0),
            Figure("running jobs that did not go on", self.lost, "jobs", 0.0),
            Figure(f"{STREAMS} WatchJob streams after a restart / a bare server", statistics.median(ratios), "ratio", 1.5, note=took),
        ]


@dataclass
class Bed:
    """The server, what it watches over in a process apart, and the ids of its jobs: those that run, and some that are over."""

    server: StubbornServer
    directory: Path
    processor: int
    running: list[str]
    over: list[str]
    message_bytes: int = ANY_SIZE


async def measure(rounds: int, say: Say) -> Seen:
    """Kill and start, again and again."""
    seen = Seen()
    async with _bed() as bed:
        for number in range(1, min(rounds, ROUNDS) + 1):
            say(f"restarts, round {number} of {min(rounds, ROUNDS)}")
            await _restart(bed, seen)
            await asyncio.sleep(SETTLE_SECONDS)
            seen.bare.append(await _bare(bed))
            seen.ours.append(await _come_back(bed))
            await asyncio.sleep(SETTLE_SECONDS)
    return seen


async def _restart(bed: Bed, seen: Seen) -> None:
    bed.server.kill()
    began, heard = time.monotonic(), len(bed.server.log)
    await asyncio.to_thread(bed.server.start)
    async with AsyncClient(bed.server.address) as client:
        await _until(lambda: _has_domain(client))
        seen.answered.append(time.monotonic() - began)
        await _until(lambda: _connected(bed, heard))
        reached = await _connected(bed, heard)
        running = j.JobFilter(states=[t.JOB_STATE_RUNNING])
        ended = 0
        while True:
            jobs = [job async for job in client.list_jobs(filter=running, page_size=1000)]
            ended = RUNNING - len(jobs)
            if all(job.progress.observed_time.ToNanoseconds() > reached * 1e9 for job in jobs):
                break
            await asyncio.sleep(LOOK_SECONDS)
        seen.reconciled.append(time.time() - reached)
        seen.lost = max(seen.lost, ended)


async def _has_domain(client: AsyncClient) -> bool:
    try:
        domain = await client.get_domain(f"{HOST}/guest-{DOMAINS}")
    except VirtrpcError:
        return False
    return domain.state == t.DOMAIN_STATE_RUNNING


async def _connected(bed: Bed, heard: int) -> float:
    """When the server said that it had reached its host, in wall seconds; 0.0 before it has."""
    lines = [line for line in bed.server.log[heard:].splitlines() if f"host {HOST}: connected" in line]
    return datetime.strptime(lines[0][:23], "%Y-%m-%d %H:%M:%S,%f").astimezone().timestamp() if lines else 0.0


async def _until(look: Callable[[], Awaitable[object]]) -> None:
    async with asyncio.timeout(GUARD_SECONDS):
        while not await look():  # noqa: ASYNC110  # another process, which can only be asked
            await asyncio.sleep(LOOK_SECONDS)


async def _bare(bed: Bed) -> float:
    socket = bed.directory / "bare"
    async with Child("tests.bench.bare", str(socket)) as bare:
        await bare.ask("move_to", processor=bed.processor)
        await bare.ask("say", size=bed.message_bytes, stay_open=len(bed.running))
        return (await _attached(bed, f"unix:{socket}"))[0]


async def _come_back(bed: Bed) -> float:
    bed.server.kill()
    await asyncio.to_thread(bed.server.start)
    move_to(bed.processor, bed.server.pid)
    seconds, told = await _attached(bed, bed.server.address)
    bed.message_bytes = told // STREAMS
    return seconds


async def _attached(bed: Bed, address: str) -> tuple[float, int]:
    async with Child("tests.bench.watchers", address) as watchers:
        seconds, told = await watchers.ask("attach", job_ids=[*bed.running, *bed.over][:STREAMS])
        return seconds, told


@asynccontextmanager
async def _bed() -> AsyncIterator[Bed]:
    async with AsyncExitStack() as stack:
        processor = stack.enter_context(left_to_the_server())
        directory = Path(stack.enter_context(TemporaryDirectory(prefix="virtrpc-bench-")))
        state = directory / "state"
        state.mkdir()
        jobs = list(forged.finished(FINISHED, HOST, forged.uuids(HOST, DOMAINS)))
        forged.write(state, jobs)
        await stack.enter_async_context(_hypervisor(directory / "sim"))
        uri = f"sim://{HOST}/?daemon={directory}/sim&domains={DOMAINS}&running={DOMAINS}&save_seconds=36000&progress_seconds=0.5"
        # More are remembered than there are, so that none is forgotten.
        server = StubbornServer({HOST: {"uri": uri, "saves": RUNNING}}, state=state, history_jobs=2 * FINISHED, drain_timeout=1)
        stack.enter_context(server)
        server.wait_live()
        async with Child("tests.bench.callers", server.address) as callers:
            running = await callers.ask("begin", host=HOST, uuids=forged.uuids(HOST, RUNNING))
        await asyncio.sleep(SETTLE_SECONDS)
        yield Bed(server, directory, processor, running, [job.id for job in jobs])


@asynccontextmanager
async def _hypervisor(socket: Path) -> AsyncIterator[None]:
    """The simulated hypervisor, which outlives the server."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "virtrpc_drivers.sim.daemon", "--socket", str(socket), stdin=PIPE, stdout=DEVNULL, start_new_session=True
    )
    try:
        await _until(lambda: asyncio.to_thread(socket.exists))
        yield
    finally:
        process.kill()
        await process.wait()
