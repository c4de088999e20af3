"""The callers, in a process of their own: calls at a fixed rate whether or not the answers keep up, each timed from when it was due.

Usage: python -m tests.bench.callers ADDRESS [DIRECTORY]; with a directory of certificates it speaks TLS, as the client in there.
All times are seconds of CLOCK_MONOTONIC, which processes share.
"""

from __future__ import annotations

import asyncio
import gc
import random
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import grpc.aio

from tests.bench.child import obey
from tests.bench.processors import go_first
from virtrpc.v1 import job_pb2, job_pb2_grpc, query_pb2, types_pb2

Unary: TypeAlias = "grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]"
RUNNING = types_pb2.JOB_STATE_RUNNING


class Timings:
    """When each call was due, how late it began, and how long after its due time it was answered."""

    def __init__(self, count: int) -> None:
        self.due = [0.0] * count
        self.late = [0.0] * count
        self.seconds = [0.0] * count

    async def open_loop(self, rate: float, call: Callable[[int], Awaitable[Any]]) -> None:
        """Make the calls at `rate` a second. Raises what a call raises."""
        began = time.monotonic() + 0.01
        async with asyncio.TaskGroup() as group:
            for number in range(len(self.due)):
                self.due[number] = began + number / rate
                await _until(self.due[number])
                group.create_task(self._timed(number, call))

    async def _timed(self, number: int, call: Callable[[int], Awaitable[Any]]) -> None:
        self.late[number] = time.monotonic() - self.due[number]
        await call(number)
        self.seconds[number] = time.monotonic() - self.due[number]


class Callers:
    """One channel, and what is called over it."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel
        self._cancel: Unary = channel.unary_unary("/virtrpc.v1.JobService/CancelJob")
        self._jobs = job_pb2_grpc.JobServiceStub(channel)

    async def queries(self, host: str, uuids: list[str], rate: float, count: int, rpcs: Sequence[str] = ("GetDomain",)) -> dict[str, list[float]]:
        """Queries of these domains, in no order."""
        asked = [self._query(rpc, host, uuid) for rpc in rpcs for uuid in uuids]
        chosen = random.Random(count).choices(asked, k=count)
        timings = Timings(count)
        await timings.open_loop(rate, lambda number: chosen[number]())
        return vars(timings)

    def _query(self, rpc: str, host: str, uuid: str) -> Callable[[], Awaitable[bytes]]:
        call: Unary = self._channel.unary_unary(f"/virtrpc.v1.QueryService/{rpc}")
        kind = getattr(query_pb2, f"{rpc}Request")
        request: bytes = kind(domain=types_pb2.DomainRef(host=host, uuid=uuid)).SerializeToString()

        async def ask() -> bytes:
            return await call(request)

        return ask

    async def begin(self, host: str, uuids: list[str], wait: bool = True) -> list[str]:
        """Begin a managed save of each of these domains and leave; returns the jobs' ids, once they run if that is to be waited for."""
        return list(await asyncio.gather(*(self._begun(host, uuid, wait=wait) for uuid in uuids)))

    async def cancels(self, host: str, jobs: list[str], uuids: list[str], rate: float) -> dict[str, list[Any]]:
        """Cancel jobs, oldest first, and begin a save of another domain with each cancel, so that all places stay taken.

        Returns the timings, the ids of the cancelled jobs in order of their cancels, and the jobs that are left.
        """
        left, cancelled = asyncio.Queue[str](), [""] * len(uuids)
        for job_id in jobs:
            left.put_nowait(job_id)

        async def replace(number: int) -> None:
            left.put_nowait(await self._begun(host, uuids[number], wait=False))

        async def cancel(number: int) -> None:
            cancelled[number] = await left.get()
            begins.create_task(replace(number))
            await self._cancel(job_pb2.CancelJobRequest(job_id=cancelled[number]).SerializeToString())

        timings = Timings(len(uuids))
        async with asyncio.TaskGroup() as begins:
            await timings.open_loop(rate, cancel)
        return {**vars(timings), "cancelled": cancelled, "left": [left.get_nowait() for _ in range(left.qsize())]}

    async def verbs(self, host: str, uuids: list[str], at_once: int, seconds: float) -> int:
        """Pause and unpause these domains in turn, so many at a time, each followed to its end; how many were done in this time."""
        left, count, deadline = iter(_turns(host, uuids)), 0, time.monotonic() + seconds

        async def work() -> None:
            nonlocal count
            for rpc, request in left:
                async for update in getattr(self._jobs, rpc)(request):
                    assert update.job.state != types_pb2.JOB_STATE_FAILED, update.job.error
                if time.monotonic() > deadline:
                    return
                count += 1

        await asyncio.gather(*(work() for _ in range(at_once)))
        return count

    async def rush(self, host: str, uuids: list[str], at_once: int, count: int) -> None:
        """GetDomain of these domains in turn, so many calls out at any moment."""
        asked, left = [self._query("GetDomain", host, uuid) for uuid in uuids], iter(range(count))

        async def work() -> None:
            for number in left:
                await asked[number % len(asked)]()

        await asyncio.gather(*(work() for _ in range(at_once)))

    async def lists(self, rate: float, count: int) -> dict[str, list[float]]:
        """The first page of all jobs."""
        call: Unary = self._channel.unary_unary("/virtrpc.v1.JobService/ListJobs")
        request = job_pb2.ListJobsRequest().SerializeToString()
        timings = Timings(count)
        await timings.open_loop(rate, lambda _number: _awaited(call(request)))
        return vars(timings)

    async def end(self, jobs: list[str]) -> None:
        """Cancel jobs, and return once they have ended."""
        for some in _parts(jobs, 50):
            await asyncio.gather(*(self._ended(job_id) for job_id in some))

    async def _begun(self, host: str, uuid: str, *, wait: bool) -> str:
        options = types_pb2.JobOptions(on_disconnect=types_pb2.ON_DISCONNECT_DETACH)
        options.wait_timeout.FromSeconds(3600)
        request = job_pb2.ManagedSaveDomainRequest(domain=types_pb2.DomainRef(host=host, uuid=uuid), options=options)
        call = self._jobs.ManagedSaveDomain(request)
        job = types_pb2.Job()
        async for update in call:
            job = update.job
            if not wait or job.state == RUNNING:
                break
        call.cancel()
        return job.job_id

    async def _ended(self, job_id: str) -> None:
        await self._jobs.CancelJob(job_pb2.CancelJobRequest(job_id=job_id))
        async for _ in self._jobs.WatchJob(job_pb2.WatchJobRequest(job_id=job_id)):
            pass


async def _awaited(call: Awaitable[bytes]) -> bytes:
    return await call


def _turns(host: str, uuids: list[str]) -> Iterable[tuple[str, Any]]:
    """For ever: each domain is paused, then each unpaused."""
    while True:
        for rpc, kind in (("SuspendDomain", job_pb2.SuspendDomainRequest), ("ResumeDomain", job_pb2.ResumeDomainRequest)):
            yield from ((rpc, kind(domain=types_pb2.DomainRef(host=host, uuid=uuid))) for uuid in uuids)


async def _until(due: float) -> None:
    # A timer may fire early by a clock's tick.
    while (early := due - time.monotonic()) > 0:  # noqa: ASYNC110  # time passes by itself
        await asyncio.sleep(early)


def _parts(items: list[str], size: int) -> Iterable[list[str]]:
    return (items[first : first + size] for first in range(0, len(items), size))


def _channel(address: str, directory: str = "") -> grpc.aio.Channel:
    if not directory:
        return grpc.aio.insecure_channel(address)
    ca, key, certificate = (Path(directory, name).read_bytes() for name in ("ca.pem", "client.key", "client.pem"))
    return grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(ca, key, certificate))


async def main(*words: str) -> None:
    """Call as told, until standard input closes."""
    # Before gRPC has threads, which inherit it: what waits for a processor here would be measured as the server's.
    go_first()
    async with _channel(*words) as channel:
        callers = Callers(channel)
        # A collection of this process would be measured as the server's.
        gc.collect()
        gc.freeze()
        gc.disable()
        await obey({name: getattr(callers, name) for name in vars(Callers) if not name.startswith("_")})


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
