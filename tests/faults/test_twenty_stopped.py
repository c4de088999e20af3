"""Twenty guests of twenty-five are stopped, under a libvirtd with its default limits: the other five are served as if nothing were the matter."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import libvirt
import pytest

from tests.e2e.behaviour import MIB, job_in, last, let_go_on, sampled
from tests.e2e.server import GUARD, Guest, QemuHost
from tests.faults.bed import PATIENT, sampled_anew, stale, suspended_and_resumed
from virtrpc import AsyncClient, AsyncJobHandle
from virtrpc.v1 import job_pb2 as j
from virtrpc.v1 import types_pb2 as t

pytestmark = [pytest.mark.hypervisor, pytest.mark.faults]

STOPPED = 20
HEALTHY = 5
LESS = 96 * MIB


@dataclass
class Crowd:
    """Guests whose QEMU is stopped, and those that run."""

    host: QemuHost
    wedged: list[Guest]
    healthy: list[Guest]

    @property
    def names(self) -> list[str]:
        """All of them."""
        return [guest.name for guest in (*self.wedged, *self.healthy)]

    @property
    def healthy_names(self) -> list[str]:
        """Those that run."""
        return [guest.name for guest in self.healthy]


@contextmanager
def crowd(host: QemuHost) -> Iterator[Crowd]:
    """The guests, all of them still going. Those that are to be stopped have their processors held, so that 25 do not boot at once."""
    with ExitStack() as stack:
        guests = [stack.enter_context(host.guest(start=False, disk_mib=16)) for _ in range(STOPPED + HEALTHY)]
        wedged, healthy = guests[:STOPPED], guests[STOPPED:]
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda guest: guest.domain.createWithFlags(libvirt.VIR_DOMAIN_START_PAUSED), wedged))
            list(pool.map(lambda guest: guest.domain.create(), healthy))
        host.wait_known(*guests)
        yield Crowd(host, wedged, healthy)


async def ask_for_all(client: AsyncClient, crowd: Crowd) -> None:
    """Every domain's state is LIVE, and every domain's statistics answer."""
    domains = await asyncio.gather(*(client.get_domain(name) for name in crowd.names))
    assert {domain.state_observation.freshness for domain in domains} == {t.FRESHNESS_LIVE}
    await asyncio.gather(*(client.get_memory_stats(name) for name in crowd.names), *(client.get_domain_xml(name) for name in crowd.names))
    assert {row.domain.name for row in await client.list_domain_stats().all()} >= set(crowd.names)


async def doctor(host: QemuHost, *words: str) -> str:
    """What `virtrpcd doctor` says with the server's own configuration."""
    program = Path(sys.executable).with_name("virtrpcd")
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(program, "doctor", *words, "--config", host.server.config, stdout=pipe, stderr=pipe)
    said, complaints = await asyncio.wait_for(process.communicate(), GUARD)
    return said.decode() + complaints.decode()


async def unfinished(client: AsyncClient) -> list[t.Job]:
    """The jobs that are not over."""
    return await client.list_jobs(filter=j.JobFilter(states=[t.JOB_STATE_QUEUED, t.JOB_STATE_RUNNING])).all()


async def test_twenty_of_twenty_five(client: AsyncClient, host: QemuHost) -> None:
    """While idle they hold up nobody; changes sent to all of them fill the daemon, and say so; the doctor makes room; when they wake, all is well."""
    with crowd(host) as guests:
        await sampled(client, *guests.names)
        pids = [host.daemon.qemu_pid(guest.name) for guest in guests.wedged]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            await stale(client, *(guest.name for guest in guests.wedged))
            await ask_for_all(client, guests)
            await sampled_anew(client, *guests.healthy_names)
            await suspended_and_resumed(client, *guests.healthy_names)
            changes = await changes_of_all(client, guests)
            others = await queued_behind(client, guests, changes)
            assert "min_workers raised" in await doctor(host, "--fix")
            ends = await asyncio.gather(*(last(client, other.job_id) for other in others))
            assert [end.state for end in ends] == [t.JOB_STATE_SUCCEEDED] * HEALTHY
            await ask_for_all(client, guests)
            await sampled_anew(client, *guests.healthy_names)
        finally:
            for pid in pids:
                let_go_on(pid)
        ends = await asyncio.gather(*(last(client, change.job_id) for change in changes))
        assert [end.state for end in ends] == [t.JOB_STATE_SUCCEEDED] * STOPPED
        assert await unfinished(client) == []
        await sampled_anew(client, *guests.names)


async def changes_of_all(client: AsyncClient, guests: Crowd) -> list[AsyncJobHandle]:
    """A change of each stopped guest: as many are sent as the daemon may be given, the others wait for a place."""
    budget = (await client.get_host(host=guests.host.name)).budget
    changes = [await client.set_memory(guest.name, memory_bytes=LESS, scope=t.CHANGE_SCOPE_LIVE, options=PATIENT) for guest in guests.wedged]
    for change in changes[: budget.places]:
        await job_in(client, change.job_id, t.JOB_STATE_RUNNING)
    return changes


async def queued_behind(client: AsyncClient, guests: Crowd, changes: list[AsyncJobHandle]) -> list[AsyncJobHandle]:
    """Jobs of the healthy guests: they wait for a place at the daemon and are told who has them; queries answer and sampling goes on."""
    others = [await client.suspend_domain(name, options=PATIENT) for name in guests.healthy_names]
    running = {job.job_id for job in await unfinished(client) if job.state == t.JOB_STATE_RUNNING}
    assert running < {change.job_id for change in changes}
    for other in others:
        job = await job_in(client, other.job_id, t.JOB_STATE_QUEUED)
        assert job.waiting_for == t.JOB_WAITING_FOR_DAEMON_BUDGET
        assert {holder.job_id for holder in job.holders} == running
    await ask_for_all(client, guests)
    await sampled_anew(client, *guests.healthy_names)
    return others
