"""Silence on a stream: broken by heartbeats, at the pace of the server or of who asked for a quicker one."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import aclosing
from itertools import pairwise
from typing import Any, cast

import pytest

from tests.server.test_acceptance import CALL
from tests.server.test_acceptance import acceptance as acceptance_of
from tests.server.world import World, all_seen, virtual
from virtrpc.v1 import job_pb2, query_pb2, types_pb2
from virtrpc_drivers import operations as op
from virtrpc_server.acceptance import Updates
from virtrpc_server.errors import Refusal
from virtrpc_server.heartbeats import Heartbeats
from virtrpc_server.lookup import Lookup
from virtrpc_server.orders import lifecycle
from virtrpc_server.watching import Watches

QUIET = "sim://a/?domains=1&running=1&save_seconds=100&progress_seconds=1000"
"""A save that does not tell how far it has come."""
HEARTBEAT = 15.0


def paced(seconds: float) -> Any:
    """What a request says of the longest silence that it wants."""
    options = types_pb2.JobOptions()
    options.heartbeat.FromMilliseconds(int(seconds * 1000))
    return options.heartbeat


async def timed(updates: Updates) -> list[tuple[float, types_pb2.Job]]:
    """The jobs of a stream, with the moments at which they came."""
    loop = asyncio.get_running_loop()
    return [(loop.time(), types_pb2.JobUpdate.FromString(cast("bytes", update)).job) async for update in updates]


async def batches(watches: Watches, request: job_pb2.WatchJobsRequest, count: int) -> list[job_pb2.WatchJobsResponse]:
    """The first batches of a watch."""
    stream: Any = watches.jobs(request)
    async with aclosing(stream):
        return [job_pb2.WatchJobsResponse.FromString(await anext(stream)) for _ in range(count)]


@virtual
async def test_a_job_without_news_is_told_again() -> None:
    """WatchJob and the verb's own stream repeat the job as it is, never silent for longer than the heartbeat; its end comes once."""
    async with World(QUIET) as world:
        accept = acceptance_of(world)
        request = job_pb2.ManagedSaveDomainRequest(domain=types_pb2.DomainRef(name="guest-1"))
        verb = asyncio.ensure_future(timed(accept.existing(request, CALL, lifecycle.managed_save)))
        await asyncio.sleep(1)
        (job_id,) = world.jobs.ids()
        watch = asyncio.ensure_future(timed(accept.watching(job_pb2.WatchJobRequest(job_id=job_id))))
        for told in await asyncio.gather(verb, watch):
            gaps = [after - before for (before, _), (after, _) in pairwise(told)]
            assert max(gaps) <= HEARTBEAT + 0.01
            revisions = Counter(job.revision for _, job in told)
            assert max(revisions.values()) >= 6
            assert revisions[told[-1][1].revision] == 1
            assert told[-1][1].state == types_pb2.JOB_STATE_SUCCEEDED


@virtual
async def test_a_quicker_pace_can_be_asked_for() -> None:
    """By a request, in seconds of its own; a slower one than the server's is not given."""
    async with World(QUIET) as world:
        save = world.accept(op.ManagedSave(uuid=world.guest().uuid))
        await world.running(save)
        accept = acceptance_of(world)
        quick = asyncio.ensure_future(timed(accept.watching(job_pb2.WatchJobRequest(job_id=save.job.id, heartbeat=paced(1)))))
        slow = asyncio.ensure_future(timed(accept.watching(job_pb2.WatchJobRequest(job_id=save.job.id, heartbeat=paced(1000)))))
        assert len(await quick) >= 100
        assert 100 / HEARTBEAT <= len(await slow) < 20


@virtual
async def test_too_quick_a_pace_is_refused() -> None:
    """Below a tenth of a second it is INVALID_ARGUMENT that names the field, and no job is made."""
    async with World(QUIET) as world:
        accept, lookup = acceptance_of(world), Lookup(world.hosts, world.domains)
        watches = Watches(world.jobs, lookup, all_seen(world.jobs), Heartbeats())
        request = job_pb2.ManagedSaveDomainRequest(domain=types_pb2.DomainRef(name="guest-1"), options=types_pb2.JobOptions(heartbeat=paced(0)))
        streams: list[tuple[str, Any]] = [
            ("options.heartbeat", accept.existing(request, CALL, lifecycle.managed_save)),
            ("heartbeat", accept.watching(job_pb2.WatchJobRequest(job_id="any", heartbeat=paced(0.05)))),
            ("heartbeat", watches.jobs(job_pb2.WatchJobsRequest(heartbeat=paced(-1)))),
            ("heartbeat", watches.domains(query_pb2.WatchDomainsRequest(heartbeat=paced(0.05)))),
        ]
        for field, stream in streams:
            with pytest.raises(Refusal, match="INVALID_ARGUMENT") as caught:
                await anext(stream)
            assert caught.value.problem.metadata == {"field": field}
        assert not world.jobs.ids()


@virtual
async def test_a_watch_may_change_its_pace_when_it_resumes() -> None:
    """A resume token is good whatever heartbeat comes with it, and the new pace holds."""
    async with World(QUIET) as world:
        watches = Watches(world.jobs, Lookup(world.hosts, world.domains), all_seen(world.jobs), Heartbeats())
        (first,) = await batches(watches, job_pb2.WatchJobsRequest(), 1)
        began = asyncio.get_running_loop().time()
        beats = await batches(watches, job_pb2.WatchJobsRequest(resume_token=first.resume_token, heartbeat=paced(1)), 4)
        assert not any(beat.reset for beat in beats)
        assert asyncio.get_running_loop().time() - began <= 3.1


@virtual
async def test_a_crowd_does_not_break_its_silence_together() -> None:
    """A thousand streams that heard the same news spread their heartbeats over half of the time that they may be silent."""
    async with World(QUIET) as world:
        save = world.accept(op.ManagedSave(uuid=world.guest().uuid))
        await world.running(save)
        accept = acceptance_of(world)
        crowd = [asyncio.ensure_future(timed(accept.watching(job_pb2.WatchJobRequest(job_id=save.job.id)))) for _ in range(1000)]
        seconds = Counter(int(at) for told in await asyncio.gather(*crowd) for at, _ in told[1:-1])
        assert max(seconds.values()) < 200
