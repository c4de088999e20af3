"""What a host beside another one must not notice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tests.e2e.behaviour import DETACHED
from virtrpc import AsyncClient
from virtrpc.v1 import types_pb2 as t


@dataclass
class Told:
    """What a watch of all domains told."""

    removed: list[str] = field(default_factory=list)
    unreachable: set[str] = field(default_factory=set)


@asynccontextmanager
async def calm_beside(client: AsyncClient, lost: str) -> AsyncIterator[Told]:
    """Whatever happens to host `lost` in this context, host `calm` notices nothing, nor is any domain told to be gone."""
    before = (await client.get_host(host="calm")).driver_process
    save = await client.managed_save_domain("calm/guest-1", options=DETACHED)
    told = Told()

    async def watch() -> None:
        async for batch in client.watch_domains():
            told.removed += [change.removed.domain.name for change in batch.changes if change.HasField("removed")]
            told.unreachable |= {host.host for host in batch.unreachable}

    async def look() -> None:
        while True:
            assert (await client.get_host(host="calm")).state == t.FRESHNESS_LIVE
            assert (await client.get_domain("calm/guest-2")).state_observation.freshness == t.FRESHNESS_LIVE

    tasks = [asyncio.create_task(watch()), asyncio.create_task(look())]
    try:
        yield told
        assert not any(task.done() for task in tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    assert (await save.wait()).state == t.JOB_STATE_SUCCEEDED
    await (await client.start_domain("calm/guest-1")).wait()
    after = (await client.get_host(host="calm")).driver_process
    assert (after.pid, after.restarts) == (before.pid, before.restarts)
    assert told.unreachable == {lost}
    assert told.removed == []
