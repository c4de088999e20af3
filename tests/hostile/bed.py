"""A server under attack, one who goes on asking it, and what the attack costs it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import grpc

from tests.beds.certificates import Authority, Pair
from tests.beds.wait import wait_until
from tests.e2e.server import Channel, Server
from tests.hostile.wire import Connection, client_context
from virtrpc.v1 import query_pb2 as q

GUARD = 120.0
QUERIES = 50
SPARE_DESCRIPTORS = 8
SPARE_MEMORY = 64 << 20


class Target:
    """A server, and what it has when nobody attacks it. With an `authority` it is attacked by TCP, where it asks for certificates."""

    def __init__(self, server: Server, authority: Authority | None = None) -> None:
        self.server, self.authority = server, authority
        self.address = f"unix:{server.socket}"
        self.attacker = self.other = None
        if authority is not None:
            self.address = next(word for word in server.log.partition(" listens on ")[2].split() if word.startswith("127.0.0.1:"))
            self.attacker, self.other = (authority.issue(name, dns=[name]) for name in ("attacker", "other"))
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

    def forget_peak(self) -> int:
        """Its bytes now, which count as the most that it ever had: what it had before, as under another attack, is forgotten."""
        Path(f"/proc/{self.server.pid}/clear_refs").write_text("5")
        return self.memory("VmHWM")

    async def connect(self, *, preface: bool = True) -> Connection:
        """The attacker's connection, with TLS and its certificate where the server wants them."""
        tls = client_context(self.authority.path, self.attacker) if self.authority is not None and self.attacker is not None else None
        return await Connection.to(self.address, preface=preface, tls=tls)

    def channel(self, pair: Pair | None = None) -> Channel:
        """A caller of good will: with its own certificate, which is no attacker's unless that is given."""
        if self.authority is None or self.other is None:
            return self.server.channel()
        certificate, key = (pair or self.other).pem
        return Channel(self.address, grpc.ssl_channel_credentials(self.authority.path.read_bytes(), key, certificate))

    async def ask(self, times: int = QUERIES) -> int:
        """How many of so many queries by another caller, one after the other, are answered."""
        answered = 0
        async with self.channel() as channel:
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
def target(*, tls: bool = False, **limits: float) -> Iterator[Target]:
    """A server with a simulated host; `limits` are those of its configuration."""
    text = " ".join(f"{name}={value:g}" for name, value in limits.items())
    with ExitStack() as stack:
        options: list[str] = []
        authority = None
        if tls:
            authority = Authority(Path(stack.enter_context(TemporaryDirectory(prefix="virtrpc-"))))
            own = authority.server()
            options = ["--listen", "127.0.0.1:0", "--tls-certificate", str(own.certificate), "--tls-key", str(own.key)]
            options += ["--tls-client-ca", str(authority.path)]
        hosts = {"sim": "sim:///?domains=4&running=4&save_seconds=3600"}
        server = stack.enter_context(Server(hosts, *options, drain_timeout=0, **({"limits": text} if text else {})))
        server.wait_live()
        asyncio.run(Target(server, authority).ask(3))
        made = Target(server, authority)
        yield made
        made.assert_whole()
