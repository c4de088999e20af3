"""What becomes of jobs when the server is killed and started again: adopted, concluded, begun, or ended with the evidence."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tests.server.lives import Disk, Lives
from tests.server.test_messages import job as message_job
from tests.server.world import World, until, virtual
from tests.virtual_time import wall
from virtrpc_drivers import operations as op
from virtrpc_drivers.errors import Reason
from virtrpc_drivers.sim.control import Stranger
from virtrpc_drivers.sim.faults import Rule
from virtrpc_server import tracing
from virtrpc_server.beginning import READING_SECONDS
from virtrpc_server.errors import NotYet, Refusal
from virtrpc_server.history import REQUEST_ID_SECONDS, History, Retention
from virtrpc_server.records import CancelOutcome, CancelReason, Job, JobState, OnDisconnect, Problem, WaitingFor

P = ParamSpec("P")
T = TypeVar("T")
GIB = 1 << 30
FORGETFUL = "sim://a/?domains=4&running=2&remembers=0"


@virtual
async def test_a_job_that_still_runs_is_adopted() -> None:
    """Under its id: its progress goes on, it can be cancelled, and the guest runs on."""
    async with Lives() as lives:
        save = await lives.running(op.ManagedSave(uuid=lives.guest().uuid))
        await lives.restart()
        await until(lambda: lives.jobs.known(save.id).progress)
        adopted = lives.jobs.known(save.id)
        assert (adopted.state, adopted.revision > save.revision) == (JobState.RUNNING, True)
        _, outcome = await lives.jobs.cancel(save.id)
        assert outcome is CancelOutcome.ABORTING
        assert (await lives.ended(save.id)).state is JobState.CANCELLED
        assert lives.guest().active


@virtual
async def test_an_adopted_job_comes_to_its_own_end() -> None:
    """It succeeds as if nothing had happened, once, and the domain is read again before that is told."""
    async with Lives() as lives:
        save = await lives.running(op.ManagedSave(uuid=lives.guest().uuid))
        await lives.restart()
        assert (await lives.ended(save.id)).state is JobState.SUCCEEDED
        assert not lives.guest().active
        assert len(lives.sim.jobs) == 1


@virtual
async def test_an_adopted_job_goes_on_in_its_trace() -> None:
    """The next life's span of the job, and the question what became of its call, are below the RPC that an earlier life has answered."""
    exporter = InMemorySpanExporter()
    tracing.configure(exporter)
    try:
        async with Lives() as lives:
            with tracing.start_trace("rpc", {}, {}) as rpc:
                save = await lives.running(op.ManagedSave(uuid=lives.guest().uuid))
            await lives.restart()
            assert (await lives.ended(save.id)).state is JobState.SUCCEEDED
        tracing.flush()
    finally:
        tracing.shutdown()
    spans = {span.name: span for span in exporter.get_finished_spans()}
    job, resumed = spans["job ManagedSave"], spans["resume ManagedSave"]
    assert {span.context.trace_id for span in (job, resumed) if span.context is not None} == {rpc.get_span_context().trace_id}
    assert job.parent is not None
    assert job.parent.span_id == rpc.get_span_context().span_id
    assert resumed.parent is not None
    assert job.context is not None
    assert resumed.parent.span_id == job.context.span_id
    assert (job.attributes or {})["virtrpc.job.state"] == "succeeded"


@virtual
async def test_a_job_that_ended_meanwhile_is_concluded() -> None:
    """By what the hypervisor remembers, or by proof."""
    for uri in ("sim://a/?domains=4&running=2", FORGETFUL):
        async with Lives(uri) as lives:
            save = await lives.running(op.ManagedSave(uuid=lives.guest().uuid))
            await lives.killed()
            await until(lambda lives=lives: all(call.done for call in lives.sim.jobs.values()))  # type: ignore[misc]
            await lives.started()
            assert (await lives.ended(save.id)).state is JobState.SUCCEEDED


@virtual
async def test_what_nothing_proves_is_interrupted_with_the_evidence() -> None:
    """A reset that ended while nobody looked: a success is never guessed."""
    async with Lives(FORGETFUL) as lives:
        lives.sim.faults.add(Rule(verb="Reset", seconds=1))
        reset = await lives.running(op.Reset(uuid=lives.guest().uuid))
        await lives.killed()
        await until(lambda: all(call.done for call in lives.sim.jobs.values()))
        await lives.started()
        ended = await lives.ended(reset.id)
        assert ended.state is JobState.INTERRUPTED
        assert "nothing proves" in ended.evidence


@virtual
async def test_a_queued_job_goes_on_waiting_if_it_was_detached() -> None:
    """It keeps its place behind what runs, and is begun once."""
    async with Lives() as lives:
        save = await lives.running(op.ManagedSave(uuid=lives.guest().uuid))
        start = lives.accept(op.Start(uuid=save.uuid), on_disconnect=OnDisconnect.DETACH)
        await start.stored()
        await lives.restart()
        queued = lives.jobs.known(start.job.id)
        assert queued.state is JobState.QUEUED
        await until(lambda: [holder.job_id for holder in lives.jobs.known(queued.id).holders] == [save.id])
        assert lives.jobs.known(queued.id).waiting_for is WaitingFor.CONDITION
        assert (await lives.ended(queued.id)).state is JobState.SUCCEEDED
        assert (await lives.ended(save.id)).state is JobState.SUCCEEDED
        assert lives.guest().active


@virtual
async def test_a_later_callers_wish_to_detach_counts() -> None:
    """Who attached to a queued job with DETACH finds it going on in the next life."""
    async with Lives() as lives:
        save = await lives.running(op.ManagedSave(uuid=lives.guest().uuid))
        start = op.Start(uuid=save.uuid)
        first = lives.accept(start, request_id="r")
        with lives.accept(start, request_id="r", on_disconnect=OnDisconnect.DETACH) as second:
            await second.stored()
        await lives.restart()
        assert (await lives.ended(first.job.id)).state is JobState.SUCCEEDED


@virtual
async def test_a_queued_job_that_was_not_detached_is_interrupted() -> None:
    """Nothing was sent, and the job says so."""
    async with Lives() as lives:
        save = await lives.running(op.ManagedSave(uuid=lives.guest().uuid))
        start = lives.accept(op.Start(uuid=save.uuid))
        await start.stored()
        await lives.restart()
        ended = await lives.ended(start.job.id)
        assert (ended.state, "nothing was sent" in ended.evidence) == (JobState.INTERRUPTED, True)
        assert [call.partition(".")[0] for call in lives.sim.jobs] == [save.id]


@virtual
async def test_the_time_that_the_server_was_away_is_time_waited() -> None:
    """A detached job whose wait limit has passed is not begun."""
    async with Lives() as lives:
        save = await lives.running(op.ManagedSave(uuid=lives.guest().uuid))
        start = lives.accept(op.Start(uuid=save.uuid), on_disconnect=OnDisconnect.DETACH, wait_limit=1.0)
        await start.stored()
        await lives.killed()
        await asyncio.sleep(2)
        await lives.started()
        assert (await lives.ended(start.job.id)).state is JobState.INTERRUPTED


@virtual
async def test_a_queued_job_with_a_secret_is_interrupted() -> None:
    """The secret is nowhere, so it cannot be begun."""
    async with Lives() as lives:
        save = await lives.running(op.ManagedSave(uuid=lives.guest().uuid))
        xml = "<graphics type='vnc' passwd='sesame'/>"
        secret = lives.accept(op.UpdateDevice(uuid=save.uuid, xml=xml), on_disconnect=OnDisconnect.DETACH)
        await secret.stored()
        assert "sesame" not in repr(await lives.disk.load())
        await lives.restart()
        ended = await lives.ended(secret.job.id)
        assert (ended.state, "secret" in ended.evidence) == (JobState.INTERRUPTED, True)


@virtual
async def test_a_secret_is_never_proven() -> None:
    """Its call was out, and what the next life can ask after lacks the secret: that it holds does not say that the secret was set."""
    async with Lives() as lives:
        lives.sim.faults.add(Rule(verb="SetUserPassword", seconds=2))
        change = await lives.running(op.SetUserPassword(uuid=lives.guest().uuid, user="root", password="sesame"))
        assert "sesame" not in repr(await lives.disk.load())
        await lives.restart()
        ended = await lives.ended(change.id)
        assert (ended.state, "secret" in ended.evidence) == (JobState.INTERRUPTED, True)


@virtual
async def test_a_cancel_is_kept() -> None:
    """What was to stop when the server was killed is stopped by the next."""
    async with Lives("sim://a/?domains=4&running=2&save_seconds=100") as lives:
        lives.sim.faults.add(Rule(verb="cancel", seconds=5, times=1))
        save = await lives.running(op.ManagedSave(uuid=lives.guest().uuid))
        await lives.jobs.cancel(save.id)
        await lives.restart()
        assert (await lives.ended(save.id)).state is JobState.CANCELLED
        assert lives.guest().active


@virtual
async def test_a_cancel_that_worked_while_nobody_looked() -> None:
    """That an abort was sent is not on the disk: that the job was to stop is, and its call is over without success."""
    async with Lives(FORGETFUL + "&save_seconds=100") as lives:
        save = await lives.running(op.ManagedSave(uuid=lives.guest().uuid))
        await lives.jobs.cancel(save.id)
        wanted = {job.id: job for job in await lives.disk.load()}[save.id]
        await lives.ended(save.id)
        # As if neither the abort nor the end had reached the disk.
        await lives.killed()
        await lives.disk.put(wanted)
        await lives.started()
        ended = await lives.ended(save.id)
        assert (ended.state, ended.cancel_reason) == (JobState.CANCELLED, CancelReason.REQUESTED)
        assert "nothing proves" in ended.evidence
        assert lives.guest().active


@virtual
async def test_a_cancel_of_what_cannot_be_judged_any_more() -> None:
    """What was to be aborted may have succeeded before: where its guest is off or gone by then, no end claims that it did not."""
    for actions in (["stop"], ["stop", "undefine"]):
        async with Lives(FORGETFUL + "&block_seconds=5") as lives:
            lives.sim.faults.add(Rule(verb="cancel", seconds=50))
            xml = "<disk><source file='/images/copy'/></disk>"
            copy = await lives.running(op.CopyBlock(uuid=lives.guest().uuid, disk="vda", xml=xml, finish="pivot"))
            await until(lambda lives=lives, copy=copy: lives.jobs.known(copy.id).phase == "background")  # type: ignore[misc]
            await lives.jobs.cancel(copy.id)
            await lives.killed()
            await asyncio.sleep(10)
            for action in actions:
                await lives.life.drivers["a"].simulate(Stranger(action=action, uuid=copy.uuid))
            await lives.started()
            ended = await lives.ended(copy.id)
            assert (ended.state, ended.cancel_reason, "nothing proves" in ended.evidence) == (JobState.INTERRUPTED, CancelReason.REQUESTED, True)


@virtual
async def test_a_destroy_preempts_what_was_queued_before_it() -> None:
    """A start that waited when the guest was destroyed must not start it in the next life."""
    async with Lives("sim://a/?domains=4&running=2&kill_seconds=3") as lives:
        lives.sim.faults.add(Rule(verb="Destroy", seconds=3))
        save = await lives.running(op.ManagedSave(uuid=lives.guest().uuid))
        start = lives.accept(op.Start(uuid=save.uuid), on_disconnect=OnDisconnect.DETACH)
        await start.stored()
        stored = {job.id: job for job in await lives.disk.load()}
        destroy = await lives.running(op.Destroy(uuid=save.uuid))
        await until(lambda: start.job.finished)
        # As if the end of the start had not reached the disk.
        await lives.killed()
        await lives.disk.put(stored[start.job.id])
        await lives.started()
        assert (await lives.ended(start.job.id)).state is JobState.PREEMPTED
        assert (await lives.ended(destroy.id)).state is JobState.SUCCEEDED
        assert not lives.guest().active


@virtual
async def test_a_ghost_haunts_the_next_life() -> None:
    """Its domain stays taken, and who waits is told whose call it is, until the hypervisor says that it is free."""
    async with Lives() as lives:
        held = lives.sim.faults.add(Rule(verb="ManagedSave", uuid=lives.guest().uuid, wedge=True))
        lives.sim.faults.add(Rule(verb="cancel", wedge=True))
        save = await lives.running(op.ManagedSave(uuid=lives.guest().uuid))
        await lives.jobs.cancel(save.id)
        assert (await lives.ended(save.id)).state is JobState.OUTCOME_UNKNOWN
        await lives.restart()
        ghost = lives.jobs.known(save.id)
        assert (ghost.state, ghost.may_still_apply) == (JobState.OUTCOME_UNKNOWN, True)
        waiting = lives.accept(op.SetMemory(uuid=save.uuid, memory_bytes=GIB // 2), wait_limit=300.0)
        await until(lambda: waiting.job.holders)
        assert [(holder.job_id, holder.ghost) for holder in waiting.job.holders] == [(save.id, True)]
        lives.sim.faults.remove(held)
        await lives.ended(waiting.job.id)
        await until(lambda: not any(job.haunts for job in lives.disk._jobs.values()))
        await lives.restart()
        assert lives.jobs.conditions.peek(("a", save.uuid)) is None


@virtual
async def test_a_host_that_stays_away_leaves_the_outcome_unknown() -> None:
    """Nothing is guessed: the call may still apply, and the domain stays taken until the host is back."""
    async with Lives() as lives:
        lives.sim.faults.add(Rule(verb="ManagedSave", wedge=True))
        save = await lives.running(op.ManagedSave(uuid=lives.guest().uuid))
        down = lives.sim.faults.add(Rule(verb="connect", reason=Reason.HOST_UNREACHABLE))
        await lives.restart(wait=False)
        ended = await lives.ended(save.id)
        assert (ended.state, ended.may_still_apply) == (JobState.OUTCOME_UNKNOWN, True)
        lives.sim.faults.remove(down)


@virtual
async def test_run_timeout_goes_on_while_the_server_is_away() -> None:
    """A job that ran out of it meanwhile is cancelled by the next life, and ends FAILED."""
    async with Lives("sim://a/?domains=4&running=2&save_seconds=100") as lives:
        save = await lives.running(op.ManagedSave(uuid=lives.guest().uuid), run_limit=10.0)
        await lives.killed()
        await asyncio.sleep(15)
        await lives.started()
        ended = await lives.ended(save.id)
        assert ended.problem is not None
        assert (ended.state, ended.problem.reason) == (JobState.FAILED, "RUN_TIMEOUT")
        assert ended.ended is not None
        assert ended.ended < save.created + 20  # 10 s and no more, of which it had 15
        assert lives.guest().active


@virtual
async def test_a_drain_leaves_detached_jobs_to_the_next_life() -> None:
    """What is queued with DETACH stays so and is begun by the next server; the rest ends INTERRUPTED; what runs is waited for, and not cancelled."""
    async with Lives() as lives:
        save = await lives.running(op.ManagedSave(uuid=lives.guest().uuid))
        kept = lives.accept(op.Start(uuid=save.uuid), on_disconnect=OnDisconnect.DETACH)
        withdrawn = lives.accept(op.Start(uuid=save.uuid))
        await asyncio.gather(kept.stored(), withdrawn.stored())
        await lives.jobs.drain(60)
        assert (await lives.ended(save.id)).state is JobState.SUCCEEDED
        assert (await lives.ended(withdrawn.job.id)).state is JobState.INTERRUPTED
        assert lives.jobs.known(kept.job.id).state is JobState.QUEUED
        assert len(lives.sim.jobs) == 1
        await lives.restart()
        assert (await lives.ended(kept.job.id)).state is JobState.SUCCEEDED
        assert lives.guest().active


@virtual
async def test_a_job_that_a_drain_left_queued_can_still_be_cancelled() -> None:
    """While the server waits for what runs."""
    async with Lives("sim://a/?domains=4&running=2&save_seconds=50") as lives:
        save = await lives.running(op.ManagedSave(uuid=lives.guest().uuid))
        kept = lives.accept(op.Start(uuid=save.uuid), on_disconnect=OnDisconnect.DETACH)
        await kept.stored()
        draining = asyncio.ensure_future(lives.jobs.drain(60))
        await asyncio.sleep(1)
        await lives.jobs.cancel(kept.job.id)
        assert (await lives.ended(kept.job.id)).state is JobState.CANCELLED
        await draining
        await lives.restart()
        assert (await lives.ended(kept.job.id)).state is JobState.CANCELLED


@virtual
async def test_a_drain_waits_for_the_store_to_take_what_was_just_accepted() -> None:
    """Its caller is told the job's id, and the next life begins it."""
    async with Lives() as lives:
        save = await lives.running(op.ManagedSave(uuid=lives.guest().uuid))
        lives.disk.add = _late(lives.disk.add, 0.1)  # type: ignore[method-assign]
        kept = lives.accept(op.Start(uuid=save.uuid), on_disconnect=OnDisconnect.DETACH)
        told = asyncio.ensure_future(kept.stored())
        await lives.jobs.drain(60)
        assert (await told).id == kept.job.id
        await lives.restart()
        assert (await lives.ended(kept.job.id)).state is JobState.SUCCEEDED


@virtual
async def test_what_is_read_during_a_drain_is_left_to_the_next_life() -> None:
    """A server that goes down before it has read its journal begins nothing."""
    async with Lives() as lives:
        await lives.running(op.ManagedSave(uuid=lives.guest().uuid))
        kept = lives.accept(op.Start(uuid=lives.guest().uuid), on_disconnect=OnDisconnect.DETACH, wait_limit=300)
        await kept.stored()
        load = lives.disk.load
        await lives.killed()
        lives.disk.load = _late(load, READING_SECONDS + 1)  # type: ignore[method-assign]
        await lives.started()
        await lives.jobs.drain(5)
        await asyncio.sleep(20)
        assert [job.attempts for job in await load()] == [1, 0]
        lives.disk.load = load  # type: ignore[method-assign]
        await lives.restart()
        assert (await lives.ended(kept.job.id)).state is JobState.SUCCEEDED


@virtual
async def test_what_runs_at_the_end_of_a_drain_is_adopted() -> None:
    """A job that takes longer than the drain waits goes on at its hypervisor, and in the next life."""
    async with Lives("sim://a/?domains=4&running=2&save_seconds=50") as lives:
        save = await lives.running(op.ManagedSave(uuid=lives.guest().uuid))
        await lives.jobs.drain(5)
        await lives.restart()
        assert (await lives.ended(save.id)).state is JobState.SUCCEEDED


@virtual
async def test_a_store_that_lives_no_longer_than_the_server_leaves_nothing_queued() -> None:
    """Without a journal a drain ends also the detached ones INTERRUPTED."""
    async with World() as world:
        await world.running(world.accept(op.ManagedSave(uuid=world.guest().uuid)))
        kept = world.accept(op.Start(uuid=world.guest().uuid), on_disconnect=OnDisconnect.DETACH)
        await kept.stored()
        await world.jobs.drain(60)
        assert kept.job.state is JobState.INTERRUPTED


@virtual
async def test_a_repeated_request_finds_its_job_in_the_next_life() -> None:
    """Whether it is over or not; another request with the same id is refused, and another identity's id is another."""
    async with Lives() as lives:
        uuid = lives.guest().uuid
        save = lives.accept(op.ManagedSave(uuid=uuid), owner="x", request_id="r", fingerprint="f")
        await save.stored()
        for _ in range(2):
            await lives.restart()
            again = lives.jobs.attach("x", "r", "f", OnDisconnect.WITHDRAW)
            assert again is not None
            assert again.job.id == save.job.id
            with pytest.raises(Refusal, match="REQUEST_ID_REUSED"):
                lives.jobs.attach("x", "r", "other", OnDisconnect.WITHDRAW)
            assert lives.jobs.attach("y", "r", "f", OnDisconnect.WITHDRAW) is None
            await lives.ended(save.job.id)


@virtual
async def test_new_jobs_come_after_old_ones() -> None:
    """Ids grow from one life to the next, whatever the clock does, and the list is in their order."""
    async with Lives() as lives:
        ids = []
        for _ in range(3):
            listener = lives.accept(op.SetMemory(uuid=lives.guest().uuid, memory_bytes=GIB // 2))
            ids.append((await listener.stored()).id)
            await lives.ended(ids[-1])
            await lives.restart()
        assert lives.jobs.ids()[::-1] == ids[::-1]


@virtual
async def test_a_host_that_is_configured_no_more() -> None:
    """Its finished jobs are history as before; what ran there ends OUTCOME_UNKNOWN, what waited INTERRUPTED."""
    async with Lives("sim://a/?domains=4&running=2", "sim://b/?domains=4&running=2") as lives:
        done = lives.accept(op.SetMemory(uuid=lives.guest(host="b").uuid, memory_bytes=GIB // 2), host="b")
        await done.stored()
        await lives.ended(done.job.id)
        save = lives.accept(op.ManagedSave(uuid=lives.guest(host="b").uuid), host="b")
        queued = lives.accept(op.Suspend(uuid=save.job.uuid), host="b", on_disconnect=OnDisconnect.DETACH)
        await queued.stored()
        await until(lambda: save.job.state is JobState.RUNNING)
        lives.names.remove("b")
        for _ in range(2):
            await lives.restart()
            states = [(await lives.ended(job.job.id)).state for job in (done, save, queued)]
            assert states == [JobState.SUCCEEDED, JobState.OUTCOME_UNKNOWN, JobState.INTERRUPTED]


@virtual
async def test_a_background_job_is_adopted_with_its_slot_alone() -> None:
    """A copy that goes on by itself keeps its disk, and others may use the domain meanwhile."""
    async with Lives("sim://a/?domains=4&running=2&block_seconds=50") as lives:
        uuid = lives.guest().uuid
        copy = await lives.running(op.CopyBlock(uuid=uuid, disk="vda", xml="<disk><source file='/images/copy'/></disk>", finish="pivot"))
        await until(lambda: lives.jobs.known(copy.id).phase == "background")
        await lives.restart()
        memory = lives.accept(op.SetMemory(uuid=uuid, memory_bytes=GIB // 2))
        await memory.stored()
        assert (await lives.ended(memory.job.id)).state is JobState.SUCCEEDED
        assert lives.jobs.known(copy.id).state is JobState.RUNNING
        assert (await lives.ended(copy.id)).state is JobState.SUCCEEDED


@virtual
async def test_a_guest_that_was_asked_is_waited_for_further() -> None:
    """The domain is free for others meanwhile, and the shutdown succeeds once the guest is off, whoever remembers the call."""
    for uri in ("sim://a/?domains=4&running=2&shutdown_seconds=20", "sim://a/?domains=4&running=2&shutdown_seconds=20&remembers=0"):
        async with Lives(uri) as lives:
            shutdown = await lives.running(op.Shutdown(uuid=lives.guest().uuid))
            await until(lambda lives=lives, shutdown=shutdown: lives.jobs.known(shutdown.id).phase == "waiting_guest")  # type: ignore[misc]
            await lives.restart()
            memory = lives.accept(op.SetMemory(uuid=shutdown.uuid, memory_bytes=GIB // 2))
            await memory.stored()
            assert (await lives.ended(memory.job.id)).state is JobState.SUCCEEDED
            assert lives.jobs.known(shutdown.id).phase == "waiting_guest"
            assert (await lives.ended(shutdown.id)).state is JobState.SUCCEEDED
            assert not lives.guest().active


@virtual
async def test_history_ends_by_number_and_by_age() -> None:
    """Jobs beyond the number are forgotten at once, old ones in time, also those of earlier lives, and on the disk."""
    async with Lives(retention=Retention(jobs=2, seconds=300)) as lives:

        async def one() -> str:
            listener = lives.accept(op.SetMemory(uuid=lives.guest().uuid, memory_bytes=GIB // 2))
            return (await lives.ended((await listener.stored()).id)).id

        ids = [await one() for _ in range(3)]
        await lives.restart()
        assert lives.jobs.ids()[::-1] == ids[:0:-1]
        await asyncio.sleep(400)
        assert not lives.jobs.ids()
        assert await lives.disk.load() == []


def test_a_request_is_remembered_for_an_hour() -> None:
    """However many jobs end meanwhile, and however little history is to be kept; then its job goes as any other."""
    now = 1000.0
    history = History(Retention(jobs=0, seconds=10), lambda: now)
    history.add(message_job(id="asked", ended=now, request_id="r"))
    history.add(message_job(id="other", ended=now, request_id=""))
    assert list(history.expired()) == []
    now += REQUEST_ID_SECONDS - 1
    assert list(history.expired()) == []
    now += 1
    assert list(history.expired()) == ["asked", "other"]


def test_a_job_that_ended_in_the_future_keeps_no_others() -> None:
    """Where the clock was set back by more than an hour, history is bounded as ever."""
    now = 1e9
    history = History(Retention(jobs=1), lambda: now)
    history.add(message_job(id="ahead", ended=now + 2 * REQUEST_ID_SECONDS, request_id="r"))
    history.add(message_job(id="after", ended=now, request_id=""))
    assert list(history.expired()) == ["ahead"]


@virtual
async def test_a_store_that_fails_late_is_tried_again() -> None:
    """Also where the server has begun to answer queries meanwhile; till then callers are told to try again soon."""
    async with Lives() as lives:
        save = await lives.running(op.ManagedSave(uuid=lives.guest().uuid))
        await lives.killed()
        load = lives.disk.load
        lives.disk.load = _late(_broken, READING_SECONDS + 5)  # type: ignore[method-assign]
        await lives.started()
        with pytest.raises(Refusal, match="JOURNAL_UNAVAILABLE") as caught:
            lives.jobs.ids()
        assert isinstance(caught.value.problem, NotYet)
        lives.disk.load = load  # type: ignore[method-assign]
        await until(lambda: lives.jobs.get(save.id))
        assert (await lives.ended(save.id)).state is JobState.SUCCEEDED


@virtual
async def test_a_store_that_cannot_be_read_refuses_and_heals() -> None:
    """Jobs are refused with the reason, and none is said to be unknown; once it can be read, everything is there."""
    async with Lives() as lives:
        save = await lives.running(op.ManagedSave(uuid=lives.guest().uuid))
        await lives.killed()
        lives.disk.load, load = _broken, lives.disk.load  # type: ignore[method-assign]
        await lives.started()
        for ask in (
            lambda: lives.jobs.known(save.id),
            lives.jobs.ids,
            lambda: lives.accept(op.Suspend(uuid=save.uuid)),
            lambda: lives.jobs.watch(save.id),
        ):
            with pytest.raises(Refusal, match="JOURNAL_UNAVAILABLE"):
                ask()
        assert lives.guest().active is not None
        lives.disk.load = load  # type: ignore[method-assign]
        await until(lambda: lives.jobs.get(save.id))
        assert (await lives.ended(save.id)).state is JobState.SUCCEEDED


async def _broken() -> list[Job]:
    raise Refusal(Problem("JOURNAL_UNAVAILABLE", "it is broken"))


class SlowOnce(Disk):
    """It takes half a minute over the first job that is to be sent."""

    def __init__(self) -> None:
        super().__init__()
        self._slow = [30.0]

    async def put(self, job: Job) -> None:
        if job.state is JobState.RUNNING and self._slow:
            await asyncio.sleep(self._slow.pop())
        await super().put(job)


@virtual
async def test_a_call_is_sent_soon_after_the_time_that_is_stored_for_it() -> None:
    """Whose storing took long is dated anew: else its job at the hypervisor would seem to have begun too late to be its own."""
    lives = Lives()
    lives.life.jobs.store = lives.disk = SlowOnce()
    async with lives:
        began = wall()
        save = await lives.running(op.ManagedSave(uuid=lives.guest().uuid))
        assert save.called is not None
        assert save.called >= began + 30


def _late(work: Callable[P, Awaitable[T]], seconds: float) -> Callable[P, Coroutine[Any, Any, T]]:
    async def after(*args: P.args, **kwargs: P.kwargs) -> T:
        await asyncio.sleep(seconds)
        return await work(*args, **kwargs)

    return after


@virtual
async def test_a_full_store_keeps_no_host_from_its_jobs() -> None:
    """The end of a job whose host is configured no more cannot be stored: the others are taken up all the same, and it is stored later."""
    async with Lives("sim://a/?domains=4&running=2", "sim://b/?domains=4&running=2") as lives:
        save = await lives.running(op.ManagedSave(uuid=lives.guest().uuid))
        gone = lives.accept(op.ManagedSave(uuid=lives.guest(host="b").uuid), host="b")
        await until(lambda: gone.job.state is JobState.RUNNING)
        lives.names.remove("b")
        await lives.killed()
        put, lives.disk.put = lives.disk.put, _full  # type: ignore[method-assign]
        await lives.started()
        assert (await lives.ended(gone.job.id)).state is JobState.OUTCOME_UNKNOWN
        assert lives.jobs.known(save.id).state is JobState.RUNNING
        lives.disk.put = put  # type: ignore[method-assign]
        assert (await lives.ended(save.id)).state is JobState.SUCCEEDED
        await until(lambda: lives.disk._jobs[gone.job.id].finished)


@virtual
async def test_a_fault_in_taking_up_jobs_leaves_the_queries() -> None:
    """What nobody expected is told as INTERNAL to who asks for jobs; domains are answered."""
    async with Lives() as lives:
        await lives.killed()
        lives.disk.load, load = _faulty, lives.disk.load  # type: ignore[method-assign]
        await lives.started()
        with pytest.raises(Refusal, match="INTERNAL"):
            lives.jobs.ids()
        assert lives.guest().active
        lives.disk.load = load  # type: ignore[method-assign]


async def _full(job: Job) -> None:
    raise Refusal(Problem("JOURNAL_UNAVAILABLE", f"no room for {job.id}"))


async def _faulty() -> list[Job]:
    raise RuntimeError("nobody expected this")
