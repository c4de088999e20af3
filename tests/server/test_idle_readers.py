"""Who opens a stream and does not read it, over a real channel: it costs a few messages, holds up nobody, and sees the end if it reads after all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from grpc import aio

from tests.server.world import until
from virtrpc.v1 import job_pb2 as j
from virtrpc.v1 import job_pb2_grpc, query_pb2_grpc
from virtrpc.v1 import query_pb2 as q
from virtrpc.v1 import types_pb2 as t
from virtrpc_drivers.sim.driver import SimDriver
from virtrpc_drivers.sim.events import LoopDeliverer
from virtrpc_drivers.sim.hypervisor import SimHypervisor
from virtrpc_drivers.sim.options import from_uri
from virtrpc_server import guard
from virtrpc_server.core import Core
from virtrpc_server.settings import Settings
from virtrpc_server.settings.hosts import HostSettings
from virtrpc_server.transport import Transport

JOBS = 10
URI = "sim://a/?domains=1000&running=1000&save_seconds=1000&progress_seconds=0.01"
GUARD_SECONDS = 60.0
WINDOW = [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 65_535)]
"""What the client takes in for a stream that it does not read; gRPC would let it grow to megabytes, which are the client's own."""


@dataclass
class Bed:
    """A server in this process, a channel to it, and how many messages each stream was given to send."""

    core: Core
    channel: aio.Channel
    given: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.query: Any = query_pb2_grpc.QueryServiceStub(self.channel)
        self.job: Any = job_pb2_grpc.JobServiceStub(self.channel)

    async def save(self, number: int) -> tuple[Any, str]:
        """A save's stream, which is not read, and its job's id."""
        call = self.job.ManagedSaveDomain(j.ManagedSaveDomainRequest(domain=t.DomainRef(name=f"guest-{number}")))
        metadata = {key: str(value) for key, value in await call.initial_metadata()}
        return call, metadata["virtrpc-job-id"]

    async def revision(self, job_id: str, number: int) -> None:
        """Return once a job has come to this revision."""
        await until(lambda: self.core.jobs.known(job_id).revision >= number, GUARD_SECONDS)


@asynccontextmanager
async def bed(path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bed]:
    """A server whose streams are counted in the order in which they are opened."""
    stream, given = guard._stream, list[int]()

    async def counted(behaviour: Any, request: Any, context: Any, serialize: Any) -> None:
        given.append(0)
        place = len(given) - 1

        async def answers(request: Any, context: Any) -> AsyncIterator[Any]:
            async for answer in behaviour(request, context):
                given[place] += 1
                yield answer

        await stream(answers, request, context, serialize)

    monkeypatch.setattr(guard, "_stream", counted)
    settings = Settings(hosts=(HostSettings(name="a", uri=URI, saves=JOBS),), socket=path)
    core = Core(settings, lambda settings: SimDriver(settings, SimHypervisor(from_uri(URI), deliverer=LoopDeliverer())))
    transport = Transport(path)
    core.add_to(transport.server)
    await core.start(lambda _host: None)
    await transport.start()
    await until(lambda: all(host.listed for host in core.hosts), GUARD_SECONDS)
    async with aio.insecure_channel(transport.addresses[0], options=WINDOW) as channel:
        try:
            yield Bed(core, channel, given)
        finally:
            await transport.stop()
            await core.close()


async def last(call: Any) -> Any:
    """The last message of a stream, which ends in whatever way."""
    message = None
    try:
        while (read := await call.read()) is not aio.EOF:
            message = read
    except aio.AioRpcError:
        pass  # the job's own error: it was cancelled
    return message


async def test_streams_that_nobody_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A verb's stream, WatchJob, WatchJobs and WatchDomains: what they hold stays as it is however much happens, others hear of everything, and the
    job's end is the last that they tell."""
    async with bed(tmp_path / "s", monkeypatch) as here:
        saves = [await here.save(number) for number in range(1, JOBS + 1)]
        verb, job_id = saves[0]
        watch = here.job.WatchJob(j.WatchJobRequest(job_id=job_id))
        unread = [verb, watch, here.job.WatchJobs(j.WatchJobsRequest()), here.query.WatchDomains(q.WatchDomainsRequest())]
        await until(lambda: len(here.given) == JOBS + 3, GUARD_SECONDS)
        await here.revision(job_id, 500)
        held = list(here.given)
        reader = asyncio.ensure_future(last(here.job.WatchJob(j.WatchJobRequest(job_id=job_id))))
        for number in range(900, 910):
            suspended = here.job.SuspendDomain(j.SuspendDomainRequest(domain=t.DomainRef(name=f"guest-{number}")))
            assert (await last(suspended)).job.state == t.JOB_STATE_SUCCEEDED
        await here.revision(job_id, 1000)
        assert here.given[: JOBS + 3] == held
        for _, other in saves:
            await here.job.CancelJob(j.CancelJobRequest(job_id=other))
        assert (await reader).job.state == t.JOB_STATE_CANCELLED
        assert max(held) < 500
        for call in unread[:2]:
            assert (await last(call)).job.state == t.JOB_STATE_CANCELLED
