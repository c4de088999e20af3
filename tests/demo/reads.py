"""The reading half of the demo, in a process of its own: three queries in turn, open loop, each timed from when it was due.

Usage: python -m tests.demo.reads SOCKET DOMAIN RATE. Ends when its standard input closes, and then prints one JSON line a read.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import grpc.aio
from google.protobuf.message import Message

from virtrpc.v1 import query_pb2, types_pb2

Read = Callable[[], Awaitable[Any]]


class Reader:
    """Reads at a fixed rate whether or not the answers keep up."""

    def __init__(self, channel: grpc.aio.Channel, domain: str) -> None:
        ref = types_pb2.DomainRef(name=domain)
        self._reads = [
            ("GetDomain", _read(channel, "GetDomain", query_pb2.GetDomainRequest(domain=ref), query_pb2.GetDomainResponse)),
            ("GetDomainXml", _read(channel, "GetDomainXml", query_pb2.GetDomainXmlRequest(domain=ref), query_pb2.GetDomainXmlResponse)),
            ("GetMemoryStats", _read(channel, "GetMemoryStats", query_pb2.GetMemoryStatsRequest(domain=ref), query_pb2.GetMemoryStatsResponse)),
        ]
        self._lines: list[dict[str, Any]] = []
        self._out: set[asyncio.Task[None]] = set()

    async def warm_up(self) -> None:
        """Connect, and let both sides make what they make once."""
        for _ in range(50):
            for _, read in self._reads:
                await read()

    async def run(self, rate: float, ended: asyncio.Future[Any]) -> None:
        """Read until `ended`, then print what was measured."""
        began, number = time.monotonic(), 0
        while not ended.done():
            due = began + number / rate
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            name, read = self._reads[number % len(self._reads)]
            task = asyncio.create_task(self._read(name, read, due))
            self._out.add(task)
            task.add_done_callback(self._out.discard)
            number += 1
        await asyncio.gather(*self._out)
        sys.stdout.write("".join(json.dumps(line) + "\n" for line in self._lines))

    async def _read(self, name: str, read: Read, due: float) -> None:
        answer = await read()
        line = {"rpc": name, "due": due, "seconds": time.monotonic() - due}
        if name == "GetMemoryStats":
            line["observed"] = answer.stats.observation.observed_time.ToNanoseconds()
        self._lines.append(line)


def _read(channel: grpc.aio.Channel, name: str, request: Message, answer: type[Message]) -> Read:
    call = channel.unary_unary(f"/virtrpc.v1.QueryService/{name}", type(request).SerializeToString, answer.FromString)
    return lambda: call(request)


async def main(socket: str, domain: str, rate: float) -> None:
    """Connect, warm up, say so, read."""
    async with grpc.aio.insecure_channel(f"unix:{socket}") as channel:
        reader = Reader(channel, domain)
        await reader.warm_up()
        # A collection of this process would be measured as the server's.
        gc.disable()
        ended = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        print("reading", flush=True)
        await reader.run(rate, ended)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], float(sys.argv[3])))
