"""What the fault tests share: virsh as a process of its own, and statistics that go on, or do not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.beds.daemon import Libvirtd
from tests.e2e.behaviour import when
from tests.e2e.server import GUARD, eventually
from virtrpc import AsyncClient, job_options
from virtrpc.v1 import types_pb2 as t

PATIENT = job_options(on_disconnect="detach", wait_timeout=600)
"""A job that waits for as long as a test does."""


@asynccontextmanager
async def virsh(daemon: Libvirtd, *words: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A virsh that runs beside the test; one that is still there at the end is killed."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec("virsh", "-c", daemon.uri, *words, stdout=pipe, stderr=asyncio.subprocess.STDOUT)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def succeeds(process: asyncio.subprocess.Process) -> None:
    """Wait for a virsh to end; fails with what it said where it failed."""
    said, _ = await asyncio.wait_for(process.communicate(), GUARD)
    assert process.returncode == 0, said.decode()


async def memory_freshness(client: AsyncClient, domain: str) -> t.Freshness.ValueType:
    """How far a domain's memory statistics can be trusted."""
    return (await client.get_memory_stats(domain)).stats.observation.freshness


async def stale(client: AsyncClient, *domains: str) -> None:
    """Return once the statistics of these guests are STALE."""

    async def all_stale() -> bool:
        return all([await memory_freshness(client, domain) == t.FRESHNESS_STALE for domain in domains])

    await eventually(all_stale, f"the statistics of {', '.join(domains)} to be STALE")


async def sampled_anew(client: AsyncClient, *domains: str) -> None:
    """Return once each of these guests was sampled again, twice, since this call began, and is LIVE: a sweep that was out before counts once."""
    last = {domain: when((await client.get_memory_stats(domain)).stats.observation) for domain in domains}
    seen = dict.fromkeys(domains, 0)

    async def again() -> bool:
        for domain in domains:
            observation = (await client.get_memory_stats(domain)).stats.observation
            if when(observation) > last[domain] and observation.freshness == t.FRESHNESS_LIVE:
                last[domain] = when(observation)
                seen[domain] += 1
        return all(count >= 2 for count in seen.values())

    await eventually(again, f"{', '.join(domains)} to be sampled anew")


async def suspended_and_resumed(client: AsyncClient, *domains: str) -> None:
    """Jobs of these guests run to their success."""
    for verb in (client.suspend_domain, client.resume_domain):
        handles = [await verb(domain) for domain in domains]
        async with asyncio.timeout(GUARD):
            await asyncio.gather(*(handle.wait() for handle in handles))
