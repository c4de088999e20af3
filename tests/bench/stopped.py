"""Real guests of which most are stopped: what is asked of all of them, and what is done to the others, does not suffer."""

from __future__ import annotations

import asyncio
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.beds.daemon import Libvirtd
from tests.bench.child import Child
from tests.bench.figures import Figure, Ratio, shown
from tests.e2e.behaviour import job_in, last, let_go_on, sampled, when
from tests.e2e.server import Guest, QemuHost, qemu_host
from virtrpc import AsyncClient, job_options
from virtrpc.v1 import types_pb2 as t

GUESTS = 25
STOPPED = 20
MEMORY_MIB = 128
QUERIES = ["GetDomain", "GetDomainXml", "GetMemoryStats", "GetBlockStats"]
RATE = 500.0
CALLS = 1500
PERIODS = 3
WATCH_SECONDS = 8.0
"""How long the others' statistics are looked at, from the stop on: longer than a hung sweep is waited for."""
PROMPT_SECONDS = 20.0
"""A job of a guest that runs is done within this time, or does not run."""
HANG_SECONDS = 5.0
PATIENT = job_options(on_disconnect="detach", wait_timeout=600)

Say = Callable[[str], None]


@dataclass
class Seen:
    """What the rounds have shown."""

    stopped: Ratio = field(default_factory=lambda: Ratio([], [], []))
    changed: list[list[float]] = field(default_factory=list)
    oldest: list[float] = field(default_factory=list)
    period: float = 0.0
    ran: list[bool] = field(default_factory=list)
    queued: list[bool] = field(default_factory=list)
    fixed: bool = False
    hung: dict[str, bool] = field(default_factory=dict)

    def figures(self) -> list[Figure]:
        """The rows."""
        few = f"{STOPPED} of {GUESTS} stopped"
        changed = Ratio(self.stopped.idle, self.stopped.again, self.changed).figures("queries", f"{few}, a change sent to each", 1.2, 15.0)
        return [
            *self.stopped.figures("queries", few, ratio=1.2, cap_ms=15.0),
            *changed[:2],
            shown(f"jobs of the other {GUESTS - STOPPED} run", all(self.ran)),
            Figure("oldest statistics of the others", statistics.median(self.oldest), "s", PERIODS * self.period, note=f"period {self.period:g} s"),
            shown("with the changes: the others' jobs queue and name what fills the budget", all(self.queued)),
            shown("after doctor --fix they run", self.fixed),
            *(shown(f"meanwhile virsh {command} hangs", hangs) for command, hangs in self.hung.items()),
        ]


@dataclass
class Bed:
    """A server on a private libvirtd with libvirt's own limits, and guests that run."""

    host: QemuHost
    client: AsyncClient
    callers: Child
    guests: list[Guest]

    @property
    def others(self) -> list[Guest]:
        """Those that are never stopped."""
        return self.guests[STOPPED:]

    async def queries(self) -> list[float]:
        """A block of queries of all guests, each a few seconds in no order."""
        uuids = [guest.uuid for guest in self.guests]
        timings = await self.callers.ask("queries", host=self.host.name, uuids=uuids, rate=RATE, count=CALLS, rpcs=QUERIES)
        seconds: list[float] = timings["seconds"]
        return seconds

    @contextmanager
    def most_stopped(self) -> Iterator[None]:
        """SIGSTOP for most of the guests."""
        pids = [self.host.daemon.qemu_pid(guest.name) for guest in self.guests[:STOPPED]]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                let_go_on(pid)


async def measure(rounds: int, say: Say) -> Seen:
    """All rows, in rounds: idle twice, then with the guests stopped, then with changes sent to them."""
    seen = Seen()
    say(f"starting {GUESTS} guests")
    async with _bed() as bed:
        seen.period = (await bed.client.get_host(host=bed.host.name)).stats_target_age.ToTimedelta().total_seconds()
        for number in range(1, rounds + 1):
            say(f"round {number} of {rounds}: {STOPPED} guests are stopped")
            await _round(bed, seen, final=number == rounds)
    return seen


async def _round(bed: Bed, seen: Seen, *, final: bool) -> None:
    await sampled(bed.client, *(guest.name for guest in bed.guests))
    seen.stopped.idle.append(await bed.queries())
    seen.stopped.again.append(await bed.queries())
    with bed.most_stopped():
        ages = asyncio.create_task(_oldest(bed))
        seen.stopped.busy.append(await bed.queries())
        seen.oldest.append(await ages)
        seen.ran.append(await _run(bed))
        changes = [await bed.client.set_memory(guest.name, memory_bytes=96 << 20, options=PATIENT) for guest in bed.guests[:STOPPED]]
        seen.changed.append(await bed.queries())
        waiting = [await bed.client.suspend_domain(guest.name, options=PATIENT) for guest in bed.others]
        seen.queued.append(all([await _names_holders(bed, handle.job_id, {change.job_id for change in changes}) for handle in waiting]))
        if final:
            seen.fixed = await _fixed(bed, [handle.job_id for handle in waiting])
            seen.hung = {command: await _hangs(bed, *command.split()) for command in ("domstats", f"dommemstat {bed.guests[0].name}")}
            seen.hung = {command.split()[0]: hangs for command, hangs in seen.hung.items()}
    for handle in [*changes, *waiting]:
        await last(bed.client, handle.job_id)
    for guest in bed.others:
        await (await bed.client.resume_domain(guest.name)).wait()


async def _oldest(bed: Bed) -> float:
    """The greatest age, in seconds, that the others' statistics came to."""
    oldest, until = 0.0, time.monotonic() + WATCH_SECONDS
    while time.monotonic() < until:
        for guest in bed.others:
            observed = when((await bed.client.get_memory_stats(guest.name)).stats.observation)
            oldest = max(oldest, time.time() - observed / 1e9)
        await asyncio.sleep(0.1)
    return oldest


async def _run(bed: Bed) -> bool:
    """Whether jobs of the others come to their end."""
    try:
        async with asyncio.timeout(PROMPT_SECONDS):
            for verb in (bed.client.suspend_domain, bed.client.resume_domain):
                handles = [await verb(guest.name) for guest in bed.others]
                await asyncio.gather(*(handle.wait() for handle in handles))  # raises what a job failed with
    except TimeoutError:
        return False
    return True


async def _names_holders(bed: Bed, job_id: str, changes: set[str]) -> bool:
    queued = await job_in(bed.client, job_id, t.JOB_STATE_QUEUED)
    holders = {holder.job_id for holder in queued.holders}
    return queued.waiting_for == t.JOB_WAITING_FOR_DAEMON_BUDGET and bool(holders) and holders <= changes


async def _fixed(bed: Bed, jobs: list[str]) -> bool:
    """Whether jobs that queue for the budget succeed after `virtrpcd doctor --fix`."""
    program = Path(sys.executable).with_name("virtrpcd")
    words = ["doctor", "--fix", "--host", f"bench={bed.host.daemon.uri}"]
    doctor = await asyncio.create_subprocess_exec(program, *words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    await asyncio.wait_for(doctor.wait(), 60)
    try:
        async with asyncio.timeout(PROMPT_SECONDS):
            ended = [await last(bed.client, job_id) for job_id in jobs]
    except TimeoutError:
        return False
    return all(job.state == t.JOB_STATE_SUCCEEDED for job in ended)


async def _hangs(bed: Bed, *words: str) -> bool:
    """Whether virsh has not come back from a command after a while; it is killed then."""
    virsh = await asyncio.create_subprocess_exec("virsh", "-c", bed.host.daemon.uri, *words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        await asyncio.wait_for(virsh.wait(), HANG_SECONDS)
    except TimeoutError:
        virsh.kill()
        await virsh.wait()
        return True
    return False


@asynccontextmanager
async def _bed() -> AsyncIterator[Bed]:
    with Libvirtd("bench") as daemon, qemu_host(daemon) as host, ExitStack() as stack:
        guests = [stack.enter_context(host.guest(ready=False, memory_mib=MEMORY_MIB, disk_mib=16)) for _ in range(GUESTS)]
        for guest in guests:
            await asyncio.to_thread(guest.wait_for)
        async with host.server.client() as client, Child("tests.bench.callers", host.server.address) as callers:
            yield Bed(host, client, callers, guests)
