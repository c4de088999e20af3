"""What is kept of a long job's progress: as a value, and in jobs on simulated hosts in virtual time."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.server.world import World, until, virtual
from tests.virtual_time import wall
from virtrpc_drivers import operations as op
from virtrpc_drivers.migration import Reading
from virtrpc_drivers.values import Phase
from virtrpc_server.listening import Listener
from virtrpc_server.messages.jobs import job_message, sample_messages
from virtrpc_server.progress import Progress
from virtrpc_server.records import Job, JobState
from virtrpc_server.samples import FIRST_PACE, MOST, NO_SAMPLES, Sample, Samples
from virtrpc_server.store import MemoryStore

MIB = 1 << 20
HOSTS = ("sim://a/?domains=1&running=1&memory_mib=64&progress_seconds=0.1", "sim://b/?domains=0&running=0")


def at(moment: float) -> Sample:
    """A reading of that moment."""
    return Sample(Phase.MIGRATION_COPY, Progress(observed=moment, processed_bytes=round(moment)), Reading(memory_iteration=3))


def moments(samples: Samples) -> list[float]:
    """When the samples were made."""
    return [sample.progress.observed or 0.0 for sample in samples.all()]


@settings(deadline=None)  # a busy machine is no failure
@given(st.lists(st.floats(0.01, 30.0), min_size=1, max_size=600))
def test_samples_of_any_life(gaps: list[float]) -> None:
    """The first reading and the last are kept, never more than 64, and none but the last is nearer to the one before than the pace."""
    samples, now = NO_SAMPLES, 1e9
    for gap in gaps:
        samples, now = samples.after(at(now)), now + gap
        kept = moments(samples)
        assert (kept[0], kept[-1]) == (1e9, now - gap)
        assert len(kept) <= MOST
        assert all(later - earlier >= samples.pace for earlier, later in pairwise(kept[:-1]))
    assert samples.pace / FIRST_PACE in {2.0**doubled for doubled in range(20)}


@settings(deadline=None)  # a busy machine is no failure
@given(st.floats(0.1, 1.0), st.integers(70, 1500))
def test_samples_are_spread_over_the_whole_life(pace: float, seconds: int) -> None:
    """A job that is read every second or more often has 32 at least, and no gap is longer than two of the paces."""
    samples = NO_SAMPLES
    for number in range(int(seconds / pace)):
        samples = samples.after(at(1e9 + number * pace))
    kept = moments(samples)
    assert MOST // 2 <= len(kept) <= MOST
    assert max(later - earlier for earlier, later in pairwise(kept)) <= 2 * samples.pace + pace


@settings(deadline=None)  # a busy machine is no failure
@given(st.lists(st.floats(-7200.0, 7200.0), max_size=300))
def test_a_clock_that_is_set_back(gaps: list[float]) -> None:
    """Whatever the clock does, the last reading is kept and there are never more than 64."""
    samples, now = NO_SAMPLES, 1e9
    for gap in gaps:
        now += gap
        samples = samples.after(at(now))
        assert moments(samples)[-1] == now
        assert len(samples.kept) <= MOST


def test_samples_at_rest() -> None:
    """A finished job's samples take a fraction of the memory and say the same."""
    samples = NO_SAMPLES
    for second in range(1000):
        samples = samples.after(at(1e9 + second))
    rest = samples.at_rest()
    assert (rest.kept, rest.all()) == ((), samples.kept)
    assert len(rest.packed) < 2000
    assert NO_SAMPLES.at_rest() is NO_SAMPLES


def crawl(world: World, **more: Any) -> Listener:
    """Begin to move a guest that writes twice as fast as its memory is sent."""
    uuid = world.guest().uuid
    world.sim.domain(uuid).dirty_rate = 32 * MIB
    moving = op.Migrate(uuid=uuid, destination_uri="sim://b/", bandwidth_bytes_per_second=16 * MIB)
    return world.accept(moving, destination_host="b", **more)


@virtual
async def test_a_migration_that_failed_shows_how_it_went() -> None:
    """Its samples are there after its end, over its whole life, with the guest's rate of writing and the passes; its updates carry none."""
    async with World(*HOSTS) as world:
        listener = crawl(world, run_limit=300.0)
        await listener.stored()
        updates = [job async for job in listener.updates()]
        job = updates[-1]
        assert (job.state, job.problem and job.problem.reason) == (JobState.FAILED, "RUN_TIMEOUT")
        assert job.started is not None
        assert job.progress is not None
        samples = list(sample_messages(job))
        assert MOST // 2 <= len(samples) <= MOST
        times = moments(job.samples)
        assert (times[0] - job.started < 2.0, times[-1]) == (True, job.progress.observed)
        passes = [sample.progress.memory_iteration for sample in samples]
        assert (passes == sorted(passes), passes[-1] > 10) == (True, True)
        assert samples[-1].migration.dirty_rate_bytes_per_second == 32 * MIB
        assert not any(job_message(update, world.hosts).samples for update in updates)


@virtual
async def test_samples_are_stored_while_a_job_runs() -> None:
    """After a kill there are those up to the last one: each new one is stored, though nobody waits for it."""
    store = MemoryStore()
    async with World(*HOSTS, store=store) as world:
        listener = crawl(world)
        await until(lambda: len(listener.job.samples.kept) == 20, guard=100)
        await until(lambda: listener.job.samples.pace > FIRST_PACE, guard=100)
        (stored,) = await store.load()
        assert len(stored.samples.kept) >= MOST // 2
        assert wall() - moments(stored.samples)[-1] < 3.0


class Hesitant(MemoryStore):
    """Takes as long as it is told; remembers how many writes were under way at once, and fails where it is to."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds, self.full, self.writes, self.most = 0.0, False, 0, 0
        self.revisions: list[int] = []

    async def put(self, job: Job) -> None:
        """Write, or fail."""
        self.writes += 1
        self.most = max(self.most, self.writes)
        await asyncio.sleep(self.seconds)
        self.writes -= 1
        if self.full:
            raise OSError("no space left")
        self.revisions.append(job.revision)
        await super().put(job)


@virtual
async def test_a_slow_store_gets_one_form_at_a_time() -> None:
    """No two forms of a job overtake each other, samples do not pile up, and what must be stored waits for one write at most."""
    store = Hesitant()
    async with World(*HOSTS, store=store) as world:
        listener = crawl(world)
        await world.running(listener)
        store.seconds = 5.0
        await until(lambda: len(listener.job.samples.kept) == 40, guard=100)
        began = wall()
        await world.jobs.cancel(listener.job.id)
        assert wall() - began <= 2 * store.seconds
        assert (await world.end(listener)).state is JobState.CANCELLED
        assert (store.most, store.revisions) == (1, sorted(store.revisions))
        assert len(store.revisions) < 20


@virtual
async def test_a_full_store_loses_samples_and_nothing_else() -> None:
    """A sample that cannot be stored is not tried again, and the job goes on; once there is room the next one has them all."""
    store = Hesitant()
    async with World(*HOSTS, store=store) as world:
        listener = crawl(world)
        await world.running(listener)
        store.full = True
        await until(lambda: len(listener.job.samples.kept) == 10)
        (stored,) = await store.load()
        assert len(stored.samples.kept) < 2
        store.full = False
        await until(lambda: len(listener.job.samples.kept) == 12)
        (stored,) = await store.load()
        assert len(stored.samples.kept) >= 11
