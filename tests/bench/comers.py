"""Watchers that come and go, in a process of their own: each opens a stream, stays for a message or not even that, and leaves.

Usage: python -m tests.bench.comers ADDRESS.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import AsyncIterable, Iterator
from typing import TypeAlias

import grpc.aio

from tests.bench.child import obey
from virtrpc.v1 import job_pb2, query_pb2, types_pb2

AT_ONCE = 50
A_CHANNELS_LIFE = 500
"""Streams after which a channel is closed with those that are open on it."""

Opener: TypeAlias = "grpc.aio.UnaryStreamMultiCallable[bytes, bytes]"


class Comers:
    """Streams of every kind in turn."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._kinds: list[tuple[str, bytes]] = []
        self._held: list[asyncio.Task[None]] = []

    async def know(self, host: str, uuid: str, running: str, finished: str) -> None:
        """What is there to be watched: a domain, a job that runs, and one that has ended."""
        one = types_pb2.DomainFilter(hosts=[host], uuids=[uuid])
        of_one = job_pb2.JobFilter(domain=types_pb2.DomainRef(host=host, uuid=uuid))
        self._kinds = [
            ("/virtrpc.v1.QueryService/WatchDomains", query_pb2.WatchDomainsRequest().SerializeToString()),
            ("/virtrpc.v1.QueryService/WatchDomains", query_pb2.WatchDomainsRequest(filter=one).SerializeToString()),
            ("/virtrpc.v1.JobService/WatchJobs", job_pb2.WatchJobsRequest().SerializeToString()),
            ("/virtrpc.v1.JobService/WatchJobs", job_pb2.WatchJobsRequest(filter=of_one).SerializeToString()),
            ("/virtrpc.v1.JobService/WatchJob", job_pb2.WatchJobRequest(job_id=running).SerializeToString()),
            ("/virtrpc.v1.JobService/WatchJob", job_pb2.WatchJobRequest(job_id=finished).SerializeToString()),
        ]

    async def come_and_go(self, count: int) -> None:
        """Open this many streams, some at once, and leave each: after a message, before one, or by closing the channel under it."""
        lives = [min(A_CHANNELS_LIFE, count - begun) for begun in range(0, count, A_CHANNELS_LIFE)]
        for streams in lives:
            channel = grpc.aio.insecure_channel(self._address, options=[("grpc.use_local_subchannel_pool", 1)])
            numbers = iter(range(streams))
            await asyncio.gather(*(self._visits(channel, numbers, last=streams - AT_ONCE) for _ in range(AT_ONCE)))
            await channel.close()
        gc.collect()

    async def hold(self, streams: int) -> None:
        """Open streams and keep them: for a process that is to be killed. Returns once each has brought a message."""
        channel = grpc.aio.insecure_channel(self._address)
        opened = [self._open(channel, number) for number in range(streams) if number % len(self._kinds) < len(self._kinds) - 1]
        await asyncio.gather(*(_first(call) for call in opened))
        self._held = [asyncio.create_task(_rest(call)) for call in opened]

    async def _visits(self, channel: grpc.aio.Channel, numbers: Iterator[int], last: int) -> None:
        for number in numbers:  # shared: each visitor takes the next
            call = self._open(channel, number)
            if number % 7:
                await _first(call)
            if number < last:
                call.cancel()

    def _open(self, channel: grpc.aio.Channel, number: int) -> grpc.aio.UnaryStreamCall[bytes, bytes]:
        method, request = self._kinds[number % len(self._kinds)]
        opener: Opener = channel.unary_stream(method)
        return opener(request)


async def _first(call: AsyncIterable[bytes]) -> None:
    async for _ in call:
        return


async def _rest(call: AsyncIterable[bytes]) -> None:
    async for _ in call:
        pass


async def main(address: str) -> None:
    """Come and go as told, until standard input closes."""
    comers = Comers(address)
    await obey({name: getattr(comers, name) for name in vars(Comers) if not name.startswith("_")})


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
