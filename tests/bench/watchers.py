"""The watchers, in a process of their own: streams of WatchJobs that are only kept open, and streams whose messages are timed.

Usage: python -m tests.bench.watchers ADDRESS. All times are seconds of CLOCK_MONOTONIC, which processes share.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from collections.abc import AsyncIterable
from typing import TypeAlias

import grpc.aio

from tests.bench.child import obey
from virtrpc.v1 import job_pb2, query_pb2, types_pb2

FINAL = frozenset(number for number in types_pb2.JobState.values() if number > types_pb2.JOB_STATE_RUNNING)
CHANNELS = 10

Opener: TypeAlias = "grpc.aio.UnaryStreamMultiCallable[bytes, bytes]"


class Watchers:
    """Streams, each a task. Messages are kept as bytes while time counts, and read afterwards."""

    def __init__(self, channels: list[grpc.aio.Channel]) -> None:
        self._watch_jobs: list[Opener] = [channel.unary_stream("/virtrpc.v1.JobService/WatchJobs") for channel in channels]
        self._watch_job: list[Opener] = [channel.unary_stream("/virtrpc.v1.JobService/WatchJob") for channel in channels]
        self._watch_domains: list[Opener] = [channel.unary_stream("/virtrpc.v1.QueryService/WatchDomains") for channel in channels]
        self._streams: list[asyncio.Task[None]] = []
        self._arrived: list[tuple[float, int, bytes]] = []
        """When which stream brought what."""
        self._begun = 0
        self._messages = 0

    async def jobs(self, host: str, everything: int, uuids: list[str]) -> None:
        """Follow all jobs on this many streams, and those of one domain on one stream each."""
        requests = [job_pb2.WatchJobsRequest()] * everything
        requests += [
            job_pb2.WatchJobsRequest(filter=job_pb2.JobFilter(hosts=[host], domain=types_pb2.DomainRef(host=host, uuid=uuid))) for uuid in uuids
        ]
        for number, request in enumerate(requests):
            call = self._watch_jobs[number % CHANNELS](request.SerializeToString())
            self._streams.append(asyncio.create_task(self._count(call)))

    async def messages(self) -> int:
        """How many messages the streams of jobs have brought."""
        return self._messages

    async def domains(self, host: str, streams: int, uuid: str = "") -> None:
        """Follow all domains, or one, on this many streams; returns once each of them holds the present state."""
        wanted = types_pb2.DomainFilter(hosts=[host], uuids=[uuid] if uuid else [])
        request = query_pb2.WatchDomainsRequest(filter=wanted).SerializeToString()
        for number in range(streams):
            self._streams.append(asyncio.create_task(self._time(number, self._watch_domains[number % CHANNELS](request))))
        await self._all_begun()
        self._arrived.clear()

    async def arrived(self) -> list[tuple[float, int, str, str]]:
        """When which stream told which domain to be in which state, oldest first, since this was last asked."""
        arrived, self._arrived = self._arrived, []
        return [
            (at, number, change.current.uuid, types_pb2.DomainState.Name(change.current.state))
            for at, number, body in arrived
            for change in query_pb2.WatchDomainsResponse.FromString(body).changes
        ]

    async def job(self, job_id: str, streams: int) -> None:
        """Follow one job on this many streams; returns once each of them has told of it."""
        request = job_pb2.WatchJobRequest(job_id=job_id).SerializeToString()
        for number in range(streams):
            self._streams.append(asyncio.create_task(self._last(number, self._watch_job[number % CHANNELS](request))))
        await self._all_begun()

    async def attach(self, job_ids: list[str]) -> tuple[float, int]:
        """Follow each of these jobs on a stream of its own, all at once: seconds until the last has told of its job, and the bytes that were told."""
        requests = [job_pb2.WatchJobRequest(job_id=job_id).SerializeToString() for job_id in job_ids]
        began = time.monotonic()
        calls = [self._watch_job[number % CHANNELS](request) for number, request in enumerate(requests)]
        self._streams += [asyncio.create_task(self._first(number, call)) for number, call in enumerate(calls)]
        await self._all_begun()
        arrived, self._arrived = self._arrived, []
        return max(at for at, _, _ in arrived) - began, sum(len(body) for _, _, body in arrived)

    async def ended(self, seconds: float) -> list[float]:
        """Wait for the end of all streams; the times at which those ended that told a final state."""
        await asyncio.wait(self._streams, timeout=seconds)
        arrived, self._arrived = self._arrived, []
        return [at for at, _, body in arrived if _job(body).state in FINAL]

    async def leave(self) -> None:
        """Cancel all streams."""
        for stream in self._streams:
            stream.cancel()
        await asyncio.gather(*self._streams, return_exceptions=True)
        self._streams.clear()
        self._arrived.clear()
        self._begun = 0
        gc.collect()

    async def _all_begun(self) -> None:
        async with asyncio.timeout(60):
            while self._begun < len(self._streams):  # noqa: ASYNC110  # counted by a thousand tasks
                await asyncio.sleep(0.05)

    async def _count(self, call: AsyncIterable[bytes]) -> None:
        async for _ in call:
            self._messages += 1

    async def _time(self, number: int, call: AsyncIterable[bytes]) -> None:
        begun = False
        async for body in call:
            self._arrived.append((time.monotonic(), number, body))
            if not begun and query_pb2.WatchDomainsResponse.FromString(body).caught_up:
                begun = True
                self._begun += 1

    async def _first(self, number: int, call: AsyncIterable[bytes]) -> None:
        begun = False
        async for body in call:
            if not begun:
                self._arrived.append((time.monotonic(), number, body))
                self._begun += 1
                begun = True

    async def _last(self, number: int, call: AsyncIterable[bytes]) -> None:
        body = b""
        async for message in call:
            self._begun += not body
            body = message
        self._arrived.append((time.monotonic(), number, body))


def _job(body: bytes) -> types_pb2.Job:
    return types_pb2.JobUpdate.FromString(body).job


async def main(address: str) -> None:
    """Watch as told, until standard input closes."""
    # Channels of one process to one address share a connection unless their options differ.
    channels = [grpc.aio.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) for _ in range(CHANNELS)]
    watchers = Watchers(channels)
    gc.collect()
    gc.freeze()
    gc.disable()
    await obey({name: getattr(watchers, name) for name in vars(Watchers) if not name.startswith("_")})
    await watchers.leave()
    for channel in channels:
        await channel.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
