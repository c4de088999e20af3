"""Planted violations of the central rules, each by a way that a search for words would not see. Nobody runs this: `tests/test_structure.py`
shows that each is found."""

from __future__ import annotations

import asyncio
import functools
import os
import queue
import select
import shutil
import socket
import sqlite3
import subprocess
import threading
import time
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from virtrpc.v1 import job_pb2, query_pb2, snapshot_pb2, types_pb2
from virtrpc_drivers.protocol import AnyNotice, Driver
from virtrpc_drivers.values import Group, Listing, Readings
from virtrpc_server.acceptance import Context
from virtrpc_server.domains import Domains
from virtrpc_server.hosts import Host
from virtrpc_server.job import JobService
from virtrpc_server.jobs import Jobs
from virtrpc_server.query import QueryService
from virtrpc_server.slots import Slots
from virtrpc_server.snapshot import SnapshotService

Ask = Callable[[Driver], Awaitable[Readings]]


class Layers(QueryService):
    """Asks a driver through two helpers and a callback."""

    async def GetDomain(self, request: query_pb2.GetDomainRequest, context: Context) -> query_pb2.GetDomainResponse:  # noqa: N802 # an RPC's name
        entry = self._lookup.domain(request.domain)

        async def ask(driver: Driver) -> Readings:
            return await driver.read([entry.uuid], Group.STATE)

        await _helped(self._hosts[entry.host], ask)
        return query_pb2.GetDomainResponse()


async def _helped(host: Host, ask: Ask) -> Readings:
    return await _asked(host, ask)


async def _asked(host: Host, ask: Ask) -> Readings:
    return await ask(host.driver)


class Alias(JobService):
    """Takes a condition through another name for it."""

    async def GetJob(self, request: job_pb2.GetJobRequest, context: Context) -> job_pb2.GetJobResponse:  # noqa: N802 # an RPC's name
        condition = self._jobs.conditions.of
        condition((request.job_id,))
        return job_pb2.GetJobResponse()


@dataclass
class Reader:
    """Keeps a function that somebody else gives it."""

    read: Callable[[], Awaitable[Listing]]


READERS: list[Reader] = []


def fill(host: Host) -> None:
    """Whoever builds the server."""
    READERS.append(Reader(host.driver.list))


class Attribute(QueryService):
    """Calls what was put into an attribute elsewhere."""

    async def ListHosts(self, request: query_pb2.ListHostsRequest, context: Context) -> query_pb2.ListHostsResponse:  # noqa: N802 # an RPC's name
        for reader in READERS:
            await reader.read()
        return query_pb2.ListHostsResponse()


class Source(Protocol):
    """Something that knows texts."""

    def text(self, name: str) -> str:
        """One of them."""


class Files:
    """Knows them from files."""

    def text(self, name: str) -> str:
        """Blocks."""
        return Path(name).read_text()


class Behind(QueryService):
    """Blocks behind a protocol, in a special method."""

    _source: Source

    def __getitem__(self, name: str) -> str:
        return self._source.text(name)

    async def GetDomainXml(self, request: query_pb2.GetDomainXmlRequest, context: Context) -> query_pb2.GetDomainXmlResponse:  # noqa: N802 # an RPC's name
        return query_pb2.GetDomainXmlResponse(xml=self[request.domain.name])


class Untyped(QueryService):
    """Asks a driver that has lost its type."""

    async def GetHost(self, request: query_pb2.GetHostRequest, context: Context) -> query_pb2.GetHostResponse:  # noqa: N802 # an RPC's name
        driver: Any = self._hosts[request.host].driver
        await driver.list()
        return query_pb2.GetHostResponse()


class Computed(QueryService):
    """Asks a driver by a name that is computed."""

    async def GetMemoryStats(self, request: query_pb2.GetMemoryStatsRequest, context: Context) -> query_pb2.GetMemoryStatsResponse:  # noqa: N802 # an RPC's name
        driver: Any = self._hosts[request.domain.host].driver
        await getattr(driver, request.domain.name)()
        return query_pb2.GetMemoryStatsResponse()


class Unknown(QueryService):
    """Calls what nobody is known to have given it."""

    refresh: Callable[[], None]

    async def ListVcpus(self, request: query_pb2.ListVcpusRequest, context: Context) -> query_pb2.ListVcpusResponse:  # noqa: N802 # an RPC's name
        self.refresh()
        return query_pb2.ListVcpusResponse()


class Threaded(QueryService):
    """Leaves the loop."""

    async def ListDomains(self, request: query_pb2.ListDomainsRequest, context: Context) -> query_pb2.ListDomainsResponse:  # noqa: N802 # an RPC's name
        await asyncio.get_running_loop().run_in_executor(None, len, "")
        return query_pb2.ListDomainsResponse()


class Sleepy(QueryService):
    """Waits a little."""

    async def GetBlockStats(self, request: query_pb2.GetBlockStatsRequest, context: Context) -> query_pb2.GetBlockStatsResponse:  # noqa: N802 # an RPC's name
        await _rest()
        return query_pb2.GetBlockStatsResponse()


async def _rest() -> None:
    await _pause_for(0.1)


def _pause_for(seconds: float) -> Awaitable[None]:
    return asyncio.sleep(seconds)


class Locked(QueryService):
    """A stream that waits for a lock that others hold."""

    lock: asyncio.Lock

    async def WatchDomains(self, request: query_pb2.WatchDomainsRequest, context: Context) -> AsyncIterator[query_pb2.WatchDomainsResponse]:  # noqa: N802 # an RPC's name
        async with self.lock:
            yield query_pb2.WatchDomainsResponse()


class Queued(JobService):
    """A cancel that queues."""

    async def CancelJob(self, request: job_pb2.CancelJobRequest, context: Context) -> job_pb2.CancelJobResponse:  # noqa: N802 # an RPC's name
        await _place(self._jobs.hosts["a"].destroys)
        return job_pb2.CancelJobResponse()


class Tasked(JobService):
    """A cancel that waits for a task in which it queues."""

    async def CancelJob(self, request: job_pb2.CancelJobRequest, context: Context) -> job_pb2.CancelJobResponse:  # noqa: N802 # an RPC's name
        queued = asyncio.get_running_loop().create_task(_place(self._jobs.hosts["a"].destroys))
        await queued
        return job_pb2.CancelJobResponse()


async def _place(slots: Slots) -> None:
    await slots.take("me").wait(None, asyncio.Event())


class Holding(SnapshotService):
    """A read that holds a domain, in a task of its own."""

    jobs: Jobs

    async def GetSnapshot(self, request: snapshot_pb2.GetSnapshotRequest, context: Context) -> snapshot_pb2.GetSnapshotResponse:  # noqa: N802 # an RPC's name
        await asyncio.create_task(self._held())
        return snapshot_pb2.GetSnapshotResponse()

    async def _held(self) -> None:
        self.jobs.conditions.of(("a", "b"))


class Blocking(JobService):
    """A verb that keeps the loop waiting, by a default argument."""

    def SuspendDomain(self, request: job_pb2.SuspendDomainRequest, context: Context) -> AsyncIterator[types_pb2.JobUpdate]:  # noqa: N802 # an RPC's name
        _pause()
        return super().SuspendDomain(request, context)


def _pause(sleep: Callable[[float], None] = time.sleep) -> None:
    sleep(1)


class Blocks(QueryService):
    """Waits in every way that a thread can."""

    async def GetInterfaceStats(self, request: query_pb2.GetInterfaceStatsRequest, context: Context) -> query_pb2.GetInterfaceStatsResponse:  # noqa: N802 # an RPC's name
        _block(Path("/"), threading.Lock(), threading.Event(), queue.Queue(), Future(), socket.socket())
        return query_pb2.GetInterfaceStatsResponse()


def _block(path: Path, lock: threading.Lock, event: threading.Event, waiting: queue.Queue[int], future: Future[int], peer: socket.socket) -> None:
    # One a line: each is found.
    open("/")  # noqa: PTH123, SIM115 # planted
    path.exists()
    path.read_bytes()
    time.sleep(1)
    subprocess.run(["true"], check=True)
    subprocess.Popen(["true"])
    os.read(0, 1)
    os.stat("/")  # noqa: PTH116 # planted
    shutil.which("true")
    select.select([], [], [])
    socket.create_connection(("", 1))
    socket.getaddrinfo("", 1)
    peer.recv(1)
    peer.connect("")
    lock.acquire()
    event.wait()
    waiting.get()
    future.result()
    sqlite3.connect("")
    urllib.request.urlopen("")
    asyncio.run(_rest())
    with lock:
        pass


class Events:
    """Callbacks that await, drop coroutines, block and call libvirt."""

    def __init__(self, host: Host, domains: Domains) -> None:
        self._host = host
        self._domains = domains

    async def begin(self, connection: Any, task: asyncio.Task[None]) -> None:
        """Register them all."""
        loop = asyncio.get_running_loop()
        loop.call_later(1, self._late, "uuid")
        task.add_done_callback(functools.partial(self._done, 1))
        await self._host.driver.start(self._delivered)
        connection.registerCloseCallback(self._closed, None)
        await asyncio.to_thread(self._count)

    async def _late(self, uuid: str) -> None:
        await self._host.refresher.refresh(uuid, 1)

    def _done(self, _number: int, _task: asyncio.Task[None]) -> None:
        work = self._late("uuid")
        work.close()

    def _delivered(self, notice: AnyNotice) -> None:
        _pause()

    def _closed(self, connection: Any, _reason: int, _opaque: Any) -> None:
        connection.isAlive()

    def _count(self) -> int:
        return len(self._names())

    def _names(self) -> list[str]:
        return [entry.name for entry in self._domains.all()]
