"""A server on a simulated host of a thousand domains, its callers and its watchers: five processes, all of them started here."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from tests.bench.child import Child
from tests.bench.processors import left_to_the_server
from virtrpc import AsyncClient
from virtrpc.errors import VirtrpcError
from virtrpc.v1 import types_pb2
from virtrpc_drivers.sim.control import ContinueGuest, StopGuest

HOST = "bench"
DOMAINS = 1000
JOBS = 100
WEDGED = 5
QUEUED = 10
STREAMS = 50
SAVE_SECONDS = 3600
START_SECONDS = 60.0
SETTLE_SECONDS = 1.5
# The places for operations are two less: see virtrpc_server.budgets.
URI = f"sim://{HOST}/?domains={DOMAINS}&running={DOMAINS}&save_seconds={SAVE_SECONDS}&progress_seconds=0.1&workers={JOBS + WEDGED + 2}"
CONFIG = f"""
socket = "{{socket}}"
state_dir = "{{socket}}.state"
drain_timeout = 1
[[hosts]]
name = "{HOST}"
uri = "{URI}"
saves = {DOMAINS}
"""


@dataclass
class Stage:
    """What the rows measure with. `jobs` are those that run or queue now, oldest first."""

    server: Child
    callers: Child
    watchers: Child
    uuids: list[str]
    jobs: list[str] = field(default_factory=list)

    async def simulate(self, command: msgspec.Struct) -> Any:
        """Have the simulated hypervisor do something."""
        return await self.server.ask("simulate", host=HOST, command=msgspec.to_builtins(command))

    @asynccontextmanager
    async def busy(self) -> AsyncIterator[None]:
        """All places for operations are taken: by jobs that report their progress, and by calls to guests that are wedged. Some more queue."""
        wedged = self.uuids[JOBS : JOBS + WEDGED]
        queued = self.uuids[JOBS + WEDGED : JOBS + WEDGED + QUEUED]
        self.jobs = await self.callers.ask("begin", host=HOST, uuids=self.uuids[:JOBS])
        for uuid in wedged:
            await self.simulate(StopGuest(uuid=uuid))
        stuck = await self.callers.ask("begin", host=HOST, uuids=wedged)
        self.jobs += await self.callers.ask("begin", host=HOST, uuids=queued, wait=False)
        await asyncio.sleep(SETTLE_SECONDS)
        yield
        for uuid in wedged:
            await self.simulate(ContinueGuest(uuid=uuid))
        await self.callers.ask("end", jobs=[*reversed(self.jobs), *stuck])
        await asyncio.sleep(SETTLE_SECONDS)


@asynccontextmanager
async def simulated() -> AsyncIterator[Stage]:
    """The stage, the server on a processor of its own, with its streams of jobs open: half of them of everything, half of one domain each."""
    async with AsyncExitStack() as stack:
        processor = stack.enter_context(left_to_the_server())
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="virtrpc-bench-"))
        config, address = Path(directory) / "virtrpcd.toml", f"unix:{directory}/s"
        config.write_text(CONFIG.format(socket=f"{directory}/s"))
        server = await stack.enter_async_context(Child("tests.bench.server", str(config)))
        uuids = await live_uuids(address, HOST)
        await server.ask("move_to", processor=processor)
        callers, watchers, idle_watchers = [
            await stack.enter_async_context(Child(f"tests.bench.{module}", address)) for module in ("callers", "watchers", "watchers")
        ]
        await idle_watchers.ask("jobs", host=HOST, everything=STREAMS // 2, uuids=uuids[: STREAMS - STREAMS // 2])
        # Both sides make what they make once.
        await callers.ask("queries", host=HOST, uuids=uuids, rate=200, count=400)
        yield Stage(server, callers, watchers, uuids)


async def live_uuids(address: str, host: str) -> list[str]:
    """The only host's domains, once it is LIVE."""
    async with AsyncClient(address) as client, asyncio.timeout(START_SECONDS):
        while not await _live(client, host):  # noqa: ASYNC110  # another process, which can only be asked
            await asyncio.sleep(0.05)
        return [domain.uuid async for domain in client.list_domains()]


async def _live(client: AsyncClient, name: str) -> bool:
    try:
        host = await client.get_host(host=name)
    except VirtrpcError:
        return False
    return host.state == types_pb2.FRESHNESS_LIVE
