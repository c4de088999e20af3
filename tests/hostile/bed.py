"""A server under attack, one who goes on asking it, and what the attack costs it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from tests.beds.wait import wait_until
from tests.e2e.server import Server
from virtrpc.v1 import query_pb2 as q

GUARD = 120.0
QUERIES = 50
SPARE_DESCRIPTORS = 8
SPARE_MEMORY = 64 << 20


class Target:
    """A server, and what it has when nobody attacks it."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.address = f"unix:{server.socket}"
        self._descriptors = self.descriptors

    @property
    def descriptors(self) -> int:
        """How many files and sockets it has open."""
        return len(os.listdir(f"/proc/{self.server.pid}/fd"))  # noqa: PTH208 # they come and go

    def memory(self, which: str = "VmRSS") -> int:
        """Its bytes now, or with VmHWM the most that it ever had."""
        lines = Path(f"/proc/{self.server.pid}/status").read_text().splitlines()
        (kib,) = (line.split()[1] for line in lines if line.startswith(f"{which}:"))
        return int(kib) << 10

    async def ask(self, times: int = QUERIES) -> int:
        """How many of so many queries by another caller, one after the other, are answered."""
        answered = 0
        async with self.server.channel() as channel:
            for _ in range(times):
                answer = await channel.query.ListHosts(q.ListHostsRequest(), timeout=GUARD)
                answered += len(answer.hosts)
        return answered

    @asynccontextmanager
    async def under(self, *attacks: Any) -> AsyncIterator[None]:
        """Attacks run; meanwhile each query of another caller is answered, and so it is within the block."""
        running = [asyncio.ensure_future(attack) for attack in attacks]
        try:
            assert await self.ask() == QUERIES
            yield
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    def assert_whole(self) -> None:
        """It lives, has logged no fault, and has given back what the attack took."""
        wait_until(lambda: self.descriptors <= self._descriptors + SPARE_DESCRIPTORS, "its sockets to be closed", GUARD)
        self.server.assert_no_fault_of_its_own()
        assert asyncio.run(self.ask(1)) == 1


@contextmanager
def target(**limits: float) -> Iterator[Target]:
    """A server with a simulated host; `limits` are those of its configuration."""
    text = " ".join(f"{name}={value:g}" for name, value in limits.items())
    with Server({"sim": "sim:///?domains=2&running=1"}, drain_timeout=0, **({"limits": text} if text else {})) as server:
        server.wait_live()
        asyncio.run(Target(server).ask(3))
        made = Target(server)
        yield made
        made.assert_whole()
