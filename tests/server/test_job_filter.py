"""Which jobs are listed and watched: by the times of the jobs, and without a look at all that are remembered where few can fit."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, cast

import msgspec
import pytest

from tests.server.world import World, all_seen, until, virtual
from tests.virtual_time import wall
from virtrpc.v1 import job_pb2, types_pb2
from virtrpc_drivers import operations as op
from virtrpc_server.errors import Refusal
from virtrpc_server.heartbeats import Heartbeats
from virtrpc_server.job import JobService
from virtrpc_server.job_filter import job_filter, job_ids
from virtrpc_server.lookup import Lookup
from virtrpc_server.messages.common import timestamp
from virtrpc_server.messages.jobs import job_message
from virtrpc_server.paging import MAX_LOOKED_AT, Pager
from virtrpc_server.records import Job
from virtrpc_server.watching import Watches

BUSY = (types_pb2.JOB_STATE_QUEUED, types_pb2.JOB_STATE_RUNNING)


def wanted(**fields: Any) -> job_pb2.JobFilter:
    """A filter; times in wall seconds."""
    given: dict[str, Any] = {name: timestamp(value) if isinstance(value, float) else value for name, value in fields.items()}
    return job_pb2.JobFilter(**given)


class Asked:
    """A world's JobService, asked for lists."""

    def __init__(self, world: World) -> None:
        self._world = world
        lookup = Lookup(world.hosts, world.domains)
        seen, nobody = all_seen(world.jobs), cast("Any", None)
        self.watches = Watches(world.jobs, lookup, seen, Heartbeats())
        self._service = JobService(world.jobs, lookup, seen, nobody, nobody, Pager(), self.watches)

    async def ids(self, fields: job_pb2.JobFilter, page_size: int = 2) -> list[str]:
        """The jobs that fit, oldest first, page by page."""
        found, token = list[str](), ""
        while True:
            request = job_pb2.ListJobsRequest(filter=fields, page_size=page_size, page_token=token)
            page = await self._service.ListJobs(request, cast("Any", None))
            found += [job.job_id for job in page.jobs]
            token = page.next_page_token
            if not token:
                return found[::-1]

    async def get(self, job_id: str, *, samples: bool) -> types_pb2.Job:
        """One job."""
        return (await self._service.GetJob(job_pb2.GetJobRequest(job_id=job_id, include_samples=samples), cast("Any", None))).job


async def apart(world: World, count: int) -> list[Job]:
    """Jobs that were accepted ten seconds apart, over."""
    jobs = []
    for number in range(count):
        jobs.append(await world.run((op.Resume if number % 2 else op.Suspend)(uuid=world.guest().uuid)))
        await asyncio.sleep(10)
    return jobs


@virtual
async def test_jobs_of_a_time() -> None:
    """The bounds are half-open, and exact to what the job itself says: that very job is in after its own time, and not before it."""
    async with World() as world:
        asked, jobs = Asked(world), await apart(world, 5)
        ids = [job.id for job in jobs]
        save = world.accept(op.ManagedSave(uuid=world.guest(2).uuid))
        await world.running(save)
        messages = [job_message(job, world.hosts) for job in jobs]
        for number, message in enumerate(messages):
            assert await asked.ids(job_pb2.JobFilter(created_after=message.create_time)) == [*ids[number:], save.job.id]
            assert await asked.ids(job_pb2.JobFilter(created_before=message.create_time)) == ids[:number]
            assert await asked.ids(job_pb2.JobFilter(ended_after=message.end_time)) == ids[number:]
            assert await asked.ids(job_pb2.JobFilter(ended_before=message.end_time)) == ids[:number]
        between = job_pb2.JobFilter(created_after=messages[1].create_time, created_before=messages[3].create_time)
        assert await asked.ids(between) == ids[1:3]
        assert await asked.ids(wanted(created_after=wall() + 1)) == []
        await world.end(save)


@virtual
async def test_times_that_no_job_can_have_are_refused() -> None:
    """An end that is not after its beginning, and what is no time, is INVALID_ARGUMENT with its field."""
    async with World() as world:
        lookup = Lookup(world.hosts, world.domains)
        bad = wanted(ended_after=1e9)
        bad.ended_after.nanos = -1
        cases = [(wanted(created_after=2e9, created_before=2e9), "created_before"), (bad, "ended_after")]
        for fields, named in cases:
            with pytest.raises(Refusal, match="INVALID_ARGUMENT") as caught:
                job_filter(fields, lookup, all_seen(world.jobs))
            assert caught.value.problem.metadata["field"] == f"filter.{named}"


@virtual
async def test_a_clock_that_was_set_back_hides_no_job() -> None:
    """Jobs keep their order of acceptance, and each is found by the time that it was given."""
    async with World() as world:
        asked, back = Asked(world), 0.0
        world.jobs.clock = lambda: wall() - back
        (early,) = await apart(world, 1)
        back = 3600.0
        (late,) = await apart(world, 1)
        assert (late.created < early.created, late.id > early.id) == (True, True)
        assert await asked.ids(wanted(created_after=late.created)) == [early.id, late.id]
        assert await asked.ids(wanted(created_after=late.created, created_before=early.created)) == [late.id]


@virtual
async def test_few_are_found_among_very_many() -> None:
    """Those of one domain, and those that have not ended, are on the first page although more than it may look at came after them."""
    async with World("sim://a/?domains=3&running=3&save_seconds=100") as world:
        asked = Asked(world)
        mine = await world.run(op.Suspend(uuid=world.guest(1).uuid))
        save = world.accept(op.ManagedSave(uuid=world.guest(2).uuid))
        await world.running(save)
        await forged(world, MAX_LOOKED_AT + 10)
        for fields, ids in [
            (wanted(domain=types_pb2.DomainRef(uuid=world.guest(1).uuid.upper())), [mine.id]),
            (wanted(domain=types_pb2.DomainRef(name="guest-1", host="a")), [mine.id]),
            (wanted(states=BUSY), [save.job.id]),
            (wanted(states=[types_pb2.JOB_STATE_RUNNING], kinds=[types_pb2.JOB_KIND_SUSPEND_DOMAIN]), []),
        ]:
            assert await asked.ids(fields) == ids
            assert len(job_ids(fields, world.jobs)) == 1
        await world.jobs.cancel(save.job.id)
        await world.end(save)
        assert job_ids(wanted(states=BUSY), world.jobs) == []


async def forged(world: World, count: int) -> None:
    """Many jobs of another domain, over: as the last one of its own, told again under other ids."""
    last = await world.run(op.Suspend(uuid=world.guest(3).uuid))
    for number in range(count):
        world.jobs.publish(msgspec.structs.replace(last, id=f"{last.id}-{number:06}"))


@virtual
async def test_a_watch_of_a_time() -> None:
    """What is accepted from a moment ahead of now is told when it comes, what ended before is not; nothing leaves because time passes."""
    async with World() as world:
        asked = Asked(world)
        await apart(world, 2)
        seen: dict[str, set[str]] = {}
        filters = {
            "ahead": wanted(created_after=wall() + 15),
            "behind": wanted(created_before=wall()),
            "ended": wanted(ended_after=wall()),
        }
        tasks = [asyncio.ensure_future(follow(asked, fields, seen.setdefault(name, set()))) for name, fields in filters.items()]
        await until(lambda: len(seen["behind"]) == 2)
        first, second, third = await apart(world, 3)
        await until(lambda: len(seen["ended"]) == 3)
        assert seen["ended"] == {first.id, second.id, third.id}
        assert seen["ahead"] == {third.id}
        assert len(seen["behind"]) == 2
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def follow(asked: Asked, fields: job_pb2.JobFilter, held: set[str]) -> None:
    """Keep what a watch shows."""
    async for body in asked.watches.jobs(job_pb2.WatchJobsRequest(filter=fields)):
        changes: Iterable[job_pb2.JobChange] = job_pb2.WatchJobsResponse.FromString(body).changes
        for change in changes:
            if change.HasField("current"):
                held.add(change.current.job_id)
            else:
                held.discard(change.removed.job_id)


@virtual
async def test_samples_are_told_where_they_are_asked_for() -> None:
    """GetJob has them with include_samples, of a job that is over as well; without it, and in lists, there are none."""
    async with World("sim://a/?domains=1&running=1&save_seconds=20&progress_seconds=0.5") as world:
        asked = Asked(world)
        job = await world.run(op.ManagedSave(uuid=world.guest().uuid))
        with_samples = await asked.get(job.id, samples=True)
        assert len(with_samples.samples) > 15
        assert with_samples.samples[-1].progress == with_samples.progress
        del with_samples.samples[:]
        assert await asked.get(job.id, samples=False) == with_samples
