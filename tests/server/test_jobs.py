"""The life of jobs on a simulated hypervisor, on virtual time: order, clocks, cancel, disconnect, destroy, foreign jobs, loss."""

from __future__ import annotations

import asyncio
import gc
import itertools
import weakref

import pytest
from msgspec.structs import replace

from tests.server.world import World, until, virtual
from virtrpc_drivers import operations as op
from virtrpc_drivers.errors import Reason
from virtrpc_drivers.sim.faults import Rule
from virtrpc_drivers.values import Phase
from virtrpc_server.errors import Refusal
from virtrpc_server.history import Retention
from virtrpc_server.records import CancelOutcome, CancelReason, Job, JobState, OnDisconnect, WaitingFor
from virtrpc_server.store import MemoryStore

GIB = 1 << 30


@virtual
async def test_jobs_of_one_domain_run_in_order_of_arrival() -> None:
    """Save, set-memory and suspend sent together run one after another, and the suspend fails as a job since the guest is off by then."""
    async with World() as world:
        uuid = world.guest().uuid
        listeners = [
            world.accept(kind) for kind in (op.ManagedSave(uuid=uuid), op.SetMemory(uuid=uuid, memory_bytes=GIB // 2), op.Suspend(uuid=uuid))
        ]
        save, memory, suspend = [await world.end(listener) for listener in listeners]
        assert (save.state, memory.state, suspend.state) == (JobState.SUCCEEDED, JobState.SUCCEEDED, JobState.FAILED)
        assert save.ended is not None
        assert memory.started is not None
        assert save.ended <= memory.started
        assert suspend.problem is not None
        assert suspend.problem.reason == "WRONG_STATE"
        assert suspend.problem.metadata["state"] == "shutoff"


@virtual
async def test_jobs_of_two_domains_run_side_by_side() -> None:
    """While one guest is saved, another one's job begins and ends."""
    async with World() as world:
        save = world.accept(op.ManagedSave(uuid=world.guest(1).uuid))
        await world.running(save)
        other = await world.run(op.Suspend(uuid=world.guest(2).uuid))
        assert other.state is JobState.SUCCEEDED
        assert save.job.state is JobState.RUNNING
        assert (await world.end(save)).state is JobState.SUCCEEDED


@virtual
async def test_the_domain_has_been_read_when_the_end_is_told() -> None:
    """Whoever sees the end of a job finds its effect in the cache."""
    async with World() as world:
        job = await world.run(op.Suspend(uuid=world.guest().uuid))
        state = world.guest().state
        assert job.domain is not None
        assert state is not None
        assert job.domain.state == state
        assert state.value.state.value == "paused"


@virtual
async def test_progress_never_runs_backwards() -> None:
    """A save's per cent only grows, and its bytes are told."""
    async with World() as world:
        listener = world.accept(op.ManagedSave(uuid=world.guest().uuid))
        await listener.stored()
        seen = [job.progress async for job in listener.updates() if job.progress is not None]
        percents = [progress.percent for progress in seen if progress.percent is not None]
        assert len(percents) > 3
        assert percents == sorted(percents)
        assert seen[-1].total_bytes


@virtual
async def test_a_wait_that_times_out_names_the_holder() -> None:
    """wait_timeout passed: ABORTED with the holder's job, kind and age; nothing was sent, and the queue goes on."""
    async with World("sim://a/?domains=2&running=2&save_seconds=100") as world:
        uuid = world.guest().uuid
        save = world.accept(op.ManagedSave(uuid=uuid))
        await world.running(save)
        late = await world.run(op.Suspend(uuid=uuid), wait_limit=5.0)
        assert late.state is JobState.FAILED
        assert late.problem is not None
        assert late.problem.reason == "WAIT_TIMEOUT"
        assert late.problem.metadata["holder_job_id"] == save.job.id
        assert late.problem.metadata["holder_kind"] == "ManagedSave"
        assert late.holders[0].job_id == save.job.id
        assert (await world.end(save)).state is JobState.SUCCEEDED


@virtual
async def test_a_wait_limit_of_zero_is_refused_at_once() -> None:
    """With wait_timeout 0 a busy domain's verb is refused BUSY with its holder, and no job is made."""
    async with World() as world:
        uuid = world.guest().uuid
        save = world.accept(op.ManagedSave(uuid=uuid))
        with pytest.raises(Refusal, match="BUSY") as refusal:
            world.accept(op.SetMemory(uuid=uuid, memory_bytes=GIB // 2), wait_limit=0.0)
        assert refusal.value.problem.metadata["holder_job_id"] == save.job.id
        await world.end(save)
        assert world.jobs.ids()[::-1] == [save.job.id]


@virtual
async def test_cancel_while_queued_withdraws() -> None:
    """A queued job that is cancelled ends CANCELLED, was never sent, and those behind it move up."""
    async with World() as world:
        uuid = world.guest().uuid
        save, second, third = (
            world.accept(kind) for kind in (op.ManagedSave(uuid=uuid), op.Suspend(uuid=uuid), op.SetMemory(uuid=uuid, memory_bytes=GIB // 2))
        )
        await world.running(save)
        await until(lambda: third.job.queue_position == 2)
        job, outcome = await world.jobs.cancel(second.job.id)
        assert outcome is CancelOutcome.WITHDRAWN
        assert job.cancel_reason is CancelReason.REQUESTED
        ended = await world.end(second)
        assert ended.state is JobState.CANCELLED
        assert ended.started is None
        await until(lambda: third.job.queue_position == 1)
        assert (await world.end(save)).state is JobState.SUCCEEDED
        assert (await world.end(third)).state is JobState.SUCCEEDED


@virtual
async def test_what_is_stopped_while_it_is_judged_anew_ends_at_once() -> None:
    """Whoever is asked about files takes his time: the job is withdrawn or preempted meanwhile, never begins, and the domain is free."""
    for state in (JobState.CANCELLED, JobState.PREEMPTED):
        async with World() as world:

            async def slowly(_job: Job, operation: op.AnyOperation) -> None:
                await asyncio.sleep(60 if isinstance(operation, op.Suspend) else 0)

            world.jobs.judged_anew = slowly
            uuid = world.guest().uuid
            judged = world.accept(op.Suspend(uuid=uuid))
            await asyncio.sleep(1)
            began = asyncio.get_running_loop().time()
            if state is JobState.CANCELLED:
                assert (await world.jobs.cancel(judged.job.id))[1] is CancelOutcome.WITHDRAWN
            else:
                await world.end(world.accept(op.Destroy(uuid=uuid)))
            ended = await world.end(judged)
            assert (ended.state, ended.attempts) == (state, 0)
            await world.end(world.accept(op.SetMemory(uuid=uuid, memory_bytes=GIB // 2)))
            assert asyncio.get_running_loop().time() - began < 5


@virtual
async def test_cancel_while_running_aborts_once_and_is_sticky() -> None:
    """A running save is aborted, the guest runs on, and a second cancel changes nothing."""
    async with World() as world:
        uuid = world.guest().uuid
        save = world.accept(op.ManagedSave(uuid=uuid))
        await until(lambda: save.job.progress is not None and save.job.progress.percent)
        _, outcome = await world.jobs.cancel(save.job.id)
        _, again = await world.jobs.cancel(save.job.id)
        assert outcome is again is CancelOutcome.ABORTING
        ended = await world.end(save)
        assert ended.state is JobState.CANCELLED
        assert world.guest().active
        _, late = await world.jobs.cancel(save.job.id)
        assert late is CancelOutcome.ALREADY_FINISHED


@virtual
async def test_a_cancelled_job_says_what_it_does_until_its_end() -> None:
    """ABORTING once the abort was sent, whatever the call reports meanwhile, then REFRESHING while the domain is read, then its end."""
    async with World() as world:
        uuid = world.guest().uuid
        save = world.accept(op.ManagedSave(uuid=uuid))
        await until(lambda: save.job.progress is not None and save.job.progress.percent)
        world.sim.faults.add(Rule(verb="ManagedSave", step=2, seconds=3.0))
        world.sim.faults.add(Rule(verb="read", seconds=1.0))
        await world.jobs.cancel(save.job.id)
        told = [(job.state, job.phase) async for job in save.updates()]
        assert [pair for pair, _ in itertools.groupby(told)][-3:] == [
            (JobState.RUNNING, Phase.ABORTING),
            (JobState.RUNNING, Phase.REFRESHING),
            (JobState.CANCELLED, None),
        ]


@virtual
async def test_a_cancel_never_touches_a_foreign_job() -> None:
    """Where libvirt aborts by domain, our cancel is not sent while somebody else's job is the one that would be hit."""
    async with World("sim://a/?domains=1&running=1&abort=domain&lock_seconds=20") as world:
        uuid = world.guest().uuid
        foreign = world.sim.foreign_job(uuid, seconds=10.0)
        save = world.accept(op.ManagedSave(uuid=uuid))
        await world.running(save)
        await world.jobs.cancel(save.job.id)
        ended = await world.end(save)
        assert ended.state in (JobState.CANCELLED, JobState.SUCCEEDED)
        await until(lambda: world.sim.visible_job(uuid) is None)
        assert not foreign.aborted


@virtual
async def test_a_foreign_job_sends_ours_back_to_waiting() -> None:
    """libvirt's lock is held by somebody else: BLOCKED_BY_OTHER with its text, and sent again inside the limit."""
    async with World("sim://a/?domains=1&running=1&lock_seconds=1") as world:
        uuid = world.guest().uuid
        world.sim.foreign_job(uuid, seconds=4.0)
        suspend = world.accept(op.Suspend(uuid=uuid))
        await until(lambda: suspend.job.waiting_for is WaitingFor.BLOCKED_BY_OTHER)
        assert suspend.job.holders[0].text
        assert suspend.job.state is JobState.QUEUED
        assert (await world.end(suspend)).state is JobState.SUCCEEDED


@virtual
async def test_a_foreign_job_that_stays_is_a_wait_in_vain() -> None:
    """A foreign holder beyond wait_timeout: WAIT_TIMEOUT with libvirt's text, never INTERNAL."""
    async with World("sim://a/?domains=1&running=1&lock_seconds=1") as world:
        uuid = world.guest().uuid
        world.sim.foreign_job(uuid)
        ended = await world.run(op.Suspend(uuid=uuid), wait_limit=5.0)
        assert ended.problem is not None
        assert ended.problem.reason == "WAIT_TIMEOUT"
        assert ended.problem.metadata["waiting_for"] == "blocked_by_other"
        assert ended.problem.metadata["holder_foreign_text"]


MEMORY = "<domainsnapshot><name>s</name><memory snapshot='external' file='/images/m'/></domainsnapshot>"
INSIDE = "<domainsnapshot><name>s</name></domainsnapshot>"


@pytest.mark.parametrize(
    ("operation", "abortable"),
    [
        pytest.param(op.CreateSnapshot(uuid="", name="s", xml=MEMORY), True, id="memory to a file"),
        pytest.param(op.CreateSnapshot(uuid="", name="s", xml=INSIDE), False, id="inside the image"),
        pytest.param(op.CreateSnapshot(uuid="", name="s", xml=INSIDE, disk_only=True), False, id="disks alone"),
        pytest.param(op.DumpCore(uuid="", path="/images/core"), True, id="a core dump"),
        pytest.param(op.DumpCore(uuid="", path="/images/core", memory_only=True), False, id="of memory alone"),
    ],
)
def test_what_cannot_be_aborted_says_so(operation: op.AnyOperation, abortable: bool) -> None:
    """From the first moment of its call, where others of its kind can be: a cancel is not answered with an abort that nobody will send."""

    async def is_told() -> None:
        async with World("sim://a/?domains=1&running=1&snapshot_seconds=100&save_seconds=100") as world:
            listener = world.accept(replace(operation, uuid=world.guest().uuid))
            await world.running(listener)
            assert (listener.job.abortable, bool(listener.job.abort_reason)) == (abortable, not abortable)
            _, outcome = await world.jobs.cancel(listener.job.id)
            assert outcome is (CancelOutcome.ABORTING if abortable else CancelOutcome.NOT_ABORTABLE)

    virtual(is_told)()


@virtual
async def test_run_timeout_cancels_and_fails() -> None:
    """A save that outlives run_timeout is aborted and ends FAILED with RUN_TIMEOUT."""
    async with World("sim://a/?domains=1&running=1&save_seconds=100") as world:
        ended = await world.run(op.ManagedSave(uuid=world.guest().uuid), run_limit=3.0)
        assert ended.state is JobState.FAILED
        assert ended.problem is not None
        assert ended.problem.reason == "RUN_TIMEOUT"
        assert ended.problem.message.startswith("it had not finished after 3 s: ")
        assert ended.cancel_reason is CancelReason.RUN_TIMEOUT


@virtual
async def test_destroy_goes_past_the_running_job_and_preempts_the_queue() -> None:
    """Destroy is sent while a save runs; queued jobs end PREEMPTED naming it, and so does the save, whose guest is gone."""
    async with World("sim://a/?domains=1&running=1&save_seconds=100") as world:
        uuid = world.guest().uuid
        save, queued = world.accept(op.ManagedSave(uuid=uuid)), world.accept(op.Suspend(uuid=uuid))
        await world.running(save)
        destroy = world.accept(op.Destroy(uuid=uuid))
        assert (await world.end(destroy)).state is JobState.SUCCEEDED
        for listener in (save, queued):
            ended = await world.end(listener)
            assert ended.state is JobState.PREEMPTED
            assert ended.problem is not None
            assert ended.problem.metadata["job_id"] == destroy.job.id
        assert not world.guest().active


@virtual
async def test_nothing_begins_while_a_destroy_is_out() -> None:
    """A start that arrives during a destroy waits for its end, and then starts the guest."""
    async with World("sim://a/?domains=1&running=1&kill_seconds=12") as world:
        uuid = world.guest().uuid
        world.sim.stop_guest(uuid)
        destroy = world.accept(op.Destroy(uuid=uuid))
        await world.running(destroy)
        start = world.accept(op.Start(uuid=uuid))
        assert start.job.state is JobState.QUEUED
        ended = await world.end(destroy)
        assert ended.state is JobState.SUCCEEDED
        started = await world.end(start)
        assert started.state is JobState.SUCCEEDED
        assert started.started is not None
        assert ended.ended is not None
        assert started.started >= ended.ended


@virtual
async def test_a_destroy_that_errs_after_the_kill_is_judged_by_a_read() -> None:
    """libvirt reports an error although the guest is gone: the destroy SUCCEEDED."""
    async with World() as world:
        uuid = world.guest().uuid
        world.sim.faults.add(Rule(verb="Destroy", uuid=uuid, step=-1, reason=Reason.WRONG_STATE))
        ended = await world.run(op.Destroy(uuid=uuid))
        assert ended.state is JobState.SUCCEEDED
        assert not world.guest().active


@virtual
async def test_a_shutdown_waits_for_the_guest_without_the_condition() -> None:
    """While a shut-down guest takes its time, other changes of the domain run; the job ends when the guest is off."""
    async with World("sim://a/?domains=1&running=1&shutdown_seconds=60") as world:
        uuid = world.guest().uuid
        shutdown = world.accept(op.Shutdown(uuid=uuid), run_limit=300.0)
        await until(lambda: shutdown.job.phase is Phase.WAITING_GUEST)
        memory = await world.run(op.SetMemory(uuid=uuid, memory_bytes=GIB // 2), wait_limit=0.0)
        assert memory.state is JobState.SUCCEEDED
        assert shutdown.job.state is JobState.RUNNING
        assert (await world.end(shutdown)).state is JobState.SUCCEEDED
        assert not world.guest().active


@virtual
async def test_a_caller_that_leaves_withdraws_a_queued_job() -> None:
    """By default a queued job whose only caller leaves ends CANCELLED, and a running one goes on."""
    async with World() as world:
        uuid = world.guest().uuid
        save, queued = world.accept(op.ManagedSave(uuid=uuid)), world.accept(op.Suspend(uuid=uuid))
        await world.running(save)
        for listener in (save, queued):
            with listener:
                pass
        assert (await world.end(queued)).state is JobState.CANCELLED
        assert (await world.end(save)).state is JobState.SUCCEEDED


@virtual
async def test_detached_jobs_outlive_their_callers_in_the_queue() -> None:
    """With DETACH a queued job goes on when its caller leaves."""
    async with World() as world:
        uuid = world.guest().uuid
        save = world.accept(op.ManagedSave(uuid=uuid))
        queued = world.accept(op.SetMemory(uuid=uuid, memory_bytes=GIB // 2), on_disconnect=OnDisconnect.DETACH)
        with queued:
            pass
        await world.end(save)
        assert (await world.end(queued)).state is JobState.SUCCEEDED


@virtual
async def test_who_detached_has_a_say_also_after_leaving() -> None:
    """A later caller of the same request that leaves withdraws nothing that the first one wanted to go on."""
    async with World() as world:
        uuid = world.guest(1).uuid
        save = world.accept(op.ManagedSave(uuid=uuid))
        more = {"request_id": "one", "owner": "me", "fingerprint": "x"}
        first = world.accept(op.Start(uuid=uuid), on_disconnect=OnDisconnect.DETACH, **more)
        with first:
            await first.stored()
        with world.accept(op.Start(uuid=uuid), **more):
            pass
        assert (await world.end(save)).state is JobState.SUCCEEDED
        assert (await world.end(first)).state is JobState.SUCCEEDED


@virtual
async def test_cancel_on_disconnect_stops_a_running_job_when_the_last_such_caller_left() -> None:
    """With CANCEL a running job is aborted, but only once every caller that asked for that has left."""
    async with World("sim://a/?domains=1&running=1&save_seconds=100") as world:
        more = {"on_disconnect": OnDisconnect.CANCEL, "request_id": "one", "owner": "me", "fingerprint": "x"}
        operation = op.ManagedSave(uuid=world.guest().uuid)
        first, second = world.accept(operation, **more), world.accept(operation, **more)
        assert first.job.id == second.job.id
        await world.running(first)
        await until(lambda: first.job.progress)
        with first:
            pass
        assert first.job.cancel_reason is None
        with second:
            pass
        ended = await world.end(first)
        assert ended.state is JobState.CANCELLED
        assert ended.cancel_reason is CancelReason.CALLER_LEFT


@virtual
async def test_a_drain_is_no_disconnect() -> None:
    """While the server drains, callers that are sent away cancel nothing; queued jobs end INTERRUPTED, running ones are waited for."""
    async with World() as world:
        uuid = world.guest().uuid
        save = world.accept(op.ManagedSave(uuid=uuid), on_disconnect=OnDisconnect.CANCEL)
        queued = world.accept(op.Suspend(uuid=uuid))
        await world.running(save)
        draining = asyncio.create_task(world.jobs.drain(60.0))
        await until(lambda: world.jobs.draining)
        with save:
            pass
        await draining
        assert save.job.state is JobState.SUCCEEDED
        assert save.job.cancel_reason is None
        assert queued.job.state is JobState.INTERRUPTED
        with pytest.raises(Refusal, match="DRAINING"):
            world.accept(op.Suspend(uuid=world.guest(2).uuid))


@virtual
async def test_request_id_makes_a_verb_idempotent() -> None:
    """The same id and request attach to the first call's job, also after its end; another request under it is refused."""
    async with World() as world:
        operation = op.Suspend(uuid=world.guest().uuid)
        more = {"request_id": "r", "owner": "me", "fingerprint": "f"}
        first = await world.run(operation, **more)
        again = await world.run(operation, **more)
        assert again.id == first.id
        with pytest.raises(Refusal, match="REQUEST_ID_REUSED"):
            world.accept(operation, **{**more, "fingerprint": "g"})
        other = world.accept(op.Resume(uuid=world.guest().uuid), **{**more, "owner": "you", "fingerprint": "g"})
        assert other.job.id != first.id
        await world.end(other)


@virtual
async def test_a_call_that_does_not_return_becomes_a_ghost() -> None:
    """A wedged call is given up after its cancel: OUTCOME_UNKNOWN, may_still_apply; the domain stays taken until the call returns."""
    async with World("sim://a/?domains=1&running=1&lock_seconds=1000") as world:
        uuid = world.guest().uuid
        rule = world.sim.faults.add(Rule(verb="Suspend", uuid=uuid, wedge=True))
        suspend = world.accept(op.Suspend(uuid=uuid))
        await world.running(suspend)
        _, outcome = await world.jobs.cancel(suspend.job.id)
        assert outcome is CancelOutcome.NOT_ABORTABLE
        ended = await world.end(suspend)
        assert ended.state is JobState.OUTCOME_UNKNOWN
        assert ended.may_still_apply
        behind = await world.run(op.SetMemory(uuid=uuid, memory_bytes=GIB // 2), wait_limit=1.0)
        assert behind.problem is not None
        assert behind.problem.metadata["holder_job_id"] == ended.id
        waiting = world.accept(op.SetMemory(uuid=uuid, memory_bytes=GIB // 2))
        world.sim.faults.remove(rule)
        assert (await world.end(waiting)).state is JobState.SUCCEEDED


@virtual
async def test_destroy_is_the_way_out_of_a_ghost() -> None:
    """A domain kept by a ghost can still be destroyed, and is free afterwards."""
    async with World("sim://a/?domains=1&running=1") as world:
        uuid = world.guest().uuid
        world.sim.faults.add(Rule(verb="Suspend", uuid=uuid, wedge=True, times=1))
        ended = await world.run(op.Suspend(uuid=uuid), run_limit=1.0)
        assert ended.state is JobState.OUTCOME_UNKNOWN
        assert (await world.run(op.Destroy(uuid=uuid))).state is JobState.SUCCEEDED
        assert (await world.run(op.Start(uuid=uuid))).state is JobState.SUCCEEDED


@virtual
async def test_a_lost_driver_process_with_a_job_that_goes_on_is_adopted() -> None:
    """The process dies during a save that the hypervisor goes on with: the same job follows it to its end."""
    async with World("sim://a/?domains=1&running=1&save_seconds=10&remembers=0") as world:
        save = world.accept(op.ManagedSave(uuid=world.guest().uuid))
        await until(lambda: save.job.progress is not None and save.job.progress.percent)
        world.drivers["a"].lose()
        await until(lambda: not world.hosts["a"].connected)
        assert world.guest().active
        ended = await world.end(save)
        assert ended.state is JobState.SUCCEEDED
        state = world.guest().state
        assert state is not None
        assert state.value.has_managed_save


@virtual
async def test_a_lost_driver_process_without_proof_is_interrupted() -> None:
    """The process dies and nothing proves that the call succeeded: INTERRUPTED with the evidence, never a guessed success."""
    async with World("sim://a/?domains=1&running=1&remembers=0&reconnect_seconds=20") as world:
        uuid = world.guest().uuid
        world.sim.faults.add(Rule(verb="Suspend", uuid=uuid, seconds=5.0, reason=Reason.FAILED, times=1))
        suspend = world.accept(op.Suspend(uuid=uuid))
        await world.running(suspend)
        world.drivers["a"].lose()
        ended = await world.end(suspend)
        assert ended.state is JobState.INTERRUPTED
        assert ended.evidence
        assert (await world.run(op.Suspend(uuid=uuid))).state is JobState.SUCCEEDED


@virtual
async def test_another_host_notices_nothing_of_a_lost_one() -> None:
    """One host is lost for good: the other's jobs run, its domains are LIVE, and the lost one's stay in the cache."""
    async with World("sim://a/?domains=2&running=2", "sim://b/?domains=2&running=2") as world:
        known = len(world.domains)
        world.drivers["a"].lose(stay_down=True)
        await until(lambda: not world.hosts["a"].connected)
        assert (await world.run(op.Suspend(uuid=world.guest(1, "b").uuid), "b")).state is JobState.SUCCEEDED
        assert world.hosts["b"].freshness.value == "live"
        assert world.hosts["a"].freshness.value == "stale"
        assert len(world.domains) == known
        with pytest.raises(Refusal, match="HOST_UNREACHABLE"):
            world.accept(op.Suspend(uuid=world.guest(1, "a").uuid))


@virtual
async def test_a_domain_that_goes_away_while_its_job_waits() -> None:
    """The domain is undefined meanwhile: the queued job ends FAILED with DOMAIN_NOT_FOUND, and nothing is brought back."""
    async with World() as world:
        guest = world.guest(3)
        undefine, queued = world.accept(op.Undefine(uuid=guest.uuid)), world.accept(op.SetMemory(uuid=guest.uuid, memory_bytes=GIB // 2))
        assert (await world.end(undefine)).state is JobState.SUCCEEDED
        ended = await world.end(queued)
        assert ended.problem is not None
        assert ended.problem.reason == "DOMAIN_NOT_FOUND"
        assert world.domains.get(guest.key) is None


@virtual
async def test_the_budget_of_a_daemon_queues_and_names_what_fills_it() -> None:
    """With stuck calls in every place of the daemon's budget another domain's job waits for it and is told who fills it."""
    async with World("sim://a/?domains=6&running=6&workers=5") as world:
        stuck = []
        for number in (1, 2, 3):
            uuid = world.guest(number).uuid
            world.sim.faults.add(Rule(verb="Suspend", uuid=uuid, wedge=True))
            stuck.append(world.accept(op.Suspend(uuid=uuid)))
        for listener in stuck:
            await world.running(listener)
        waiting = world.accept(op.Suspend(uuid=world.guest(4).uuid), wait_limit=100.0)
        await until(lambda: waiting.job.waiting_for is WaitingFor.DAEMON_BUDGET)
        assert {holder.job_id for holder in waiting.job.holders} == {listener.job.id for listener in stuck}
        world.sim.faults.clear()
        assert (await world.end(waiting)).state is JobState.SUCCEEDED


@virtual
async def test_saves_beyond_the_hosts_limit_queue() -> None:
    """More saves than the host's limit wait for HOST_LIMIT, in order."""
    async with World("sim://a/?domains=3&running=3&save_seconds=5", saves=1) as world:
        first, second = (world.accept(op.ManagedSave(uuid=world.guest(number).uuid)) for number in (1, 2))
        await until(lambda: second.job.waiting_for is WaitingFor.HOST_LIMIT)
        assert second.job.holders[0].job_id == first.job.id
        assert (await world.end(second)).state is JobState.SUCCEEDED


@virtual
async def test_a_migration_links_both_hosts() -> None:
    """After a migration between two of our hosts the domain is active at the destination, and the job says where it went."""
    async with World("sim://a/?domains=1&running=1", "sim://b/?domains=0&running=0") as world:
        uuid = world.guest().uuid
        ended = await world.run(op.Migrate(uuid=uuid, destination_uri="sim://b/", persist_destination=True), destination_host="b")
        assert ended.state is JobState.SUCCEEDED
        moved = world.domains.get(("b", uuid))
        assert moved is not None
        assert moved.active


@virtual
async def test_defining_the_same_name_twice_at_once_excludes() -> None:
    """Two definitions under one name do not run together: the second is judged after the first, and refused by the hypervisor."""
    async with World() as world:
        xml = "<domain type='test'><name>new</name><uuid>{}</uuid><memory unit='MiB'>64</memory><os><type>hvm</type></os></domain>"
        uuids = ("aaaaaaaa-0000-4000-8000-000000000001", "aaaaaaaa-0000-4000-8000-000000000002")
        listeners = [world.accept(op.Define(uuid=uuid, name="new", xml=xml.format(uuid))) for uuid in uuids]
        first, second = [await world.end(listener) for listener in listeners]
        assert first.state is JobState.SUCCEEDED
        assert first.created_domain
        assert second.problem is not None
        assert second.problem.reason == "ALREADY_EXISTS"
        assert [entry.uuid for entry in world.domains.by_name("new")] == [uuids[0]]


@virtual
async def test_a_finished_job_keeps_no_xml() -> None:
    """Neither that of its operation nor that of its domain, whatever became of it: thousands of finished jobs are kept."""
    async with World() as world:
        xml = "<domain type='test'><name>new</name><uuid>{}</uuid><description>{}</description><memory unit='MiB'>64</memory></domain>"
        uuid = "aaaaaaaa-0000-4000-8000-000000000001"
        text = xml.format(uuid, "x" * 500_000)
        defined = await world.run(op.Define(uuid=uuid, name="new", xml=text))
        started = await world.run(op.Start(uuid=uuid))
        assert {defined.state, started.state} == {JobState.SUCCEEDED}
        world.sim.faults.add(Rule(verb="Define", reason=Reason.XML_INVALID))
        refused = await world.run(op.Define(uuid=uuid, name="new", xml=text))
        assert refused.state is JobState.FAILED
        kept = [*(world.jobs.known(job.id) for job in (defined, started, refused)), *await world.jobs.store.load()]
        assert all(len(repr(job)) < 10_000 for job in kept)
        assert defined.domain is not None
        assert defined.domain.name == "new"
        (entry,) = world.domains.by_name("new")
        assert entry.config is not None
        assert len(entry.config.value.xml) > len(text) // 2


@virtual
async def test_a_run_that_is_over_is_freed_without_a_collection() -> None:
    """Collections are rare in a server that is busy, and its operation's XML may be long; also where the call failed."""
    async with World() as world:
        uuid = world.guest().uuid
        world.sim.faults.add(Rule(verb="Resume", uuid=uuid, reason=Reason.XML_INVALID))
        gc.disable()
        try:
            for operation in (op.Suspend(uuid=uuid), op.Resume(uuid=uuid)):
                with world.accept(operation) as listener:
                    run = weakref.ref(listener._followed)
                    await world.end(listener)
                del listener
                await asyncio.sleep(1)
                assert run() is None
        finally:
            gc.enable()


@virtual
async def test_a_slow_follower_sees_the_end_of_a_forgotten_job() -> None:
    """However many jobs ended while it was busy with one update: its own job's end is its last, though the list has forgotten the job."""
    async with World(retention=Retention(jobs=2)) as world:
        listener = world.accept(op.ManagedSave(uuid=world.guest(1).uuid))
        await world.running(listener)
        updates = listener.updates()
        seen = [await anext(updates)]
        await until(lambda: listener.job.finished)
        for _ in range(3):
            await world.run(op.SetMemory(uuid=world.guest(2).uuid, memory_bytes=GIB // 2))
        assert world.jobs.get(listener.job.id) is None
        seen += [job async for job in updates]
        assert (seen[-1].state, len(seen)) == (JobState.SUCCEEDED, 2)


class SlowStore(MemoryStore):
    """Takes a second to write, and remembers what it had written when."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[Job] = []

    async def put(self, job: Job) -> None:
        """Write, slowly."""
        await asyncio.sleep(1)
        await super().put(job)
        self.written.append(job)


@virtual
async def test_told_means_stored() -> None:
    """No watcher sees a state that the store has not finished writing."""
    store = SlowStore()
    async with World(store=store) as world:
        listener = world.accept(op.ManagedSave(uuid=world.guest().uuid))
        await listener.stored()
        async for job in listener.updates():
            assert any(written.state is job.state for written in store.written)
        assert world.jobs.known(listener.job.id).state is JobState.SUCCEEDED


@virtual
async def test_who_cancels_and_leaves_leaves_nothing_untold() -> None:
    """CancelJob's caller goes while the wish is being stored: it is stored and told all the same, and so is what comes after it."""
    store = SlowStore()
    async with World("sim://a/?domains=2&running=1&save_seconds=500", store=store) as world:
        save = world.accept(op.ManagedSave(uuid=world.guest(1).uuid))
        await save.stored()
        await until(lambda: world.jobs.known(save.job.id).progress)
        world.sim.faults.add(Rule(verb="cancel", wedge=True))
        cancelling = asyncio.ensure_future(world.jobs.cancel(save.job.id))
        await asyncio.sleep(0.5)
        cancelling.cancel()
        await until(lambda: world.jobs.known(save.job.id).cancel_reason, guard=5)
        told = world.jobs.known(save.job.id).revision
        await until(lambda: world.jobs.known(save.job.id).revision > told, guard=5)


@virtual
async def test_a_store_that_fails_refuses_the_job() -> None:
    """A job that cannot be stored is not accepted: nothing was sent, and the condition is free again."""

    class Full(MemoryStore):
        full = True

        async def put(self, job: Job) -> None:
            if self.full:
                raise OSError("no space left")
            await super().put(job)

    store = Full()
    async with World(store=store) as world:
        uuid = world.guest().uuid
        listener = world.accept(op.Suspend(uuid=uuid))
        with pytest.raises(OSError, match="no space"):
            await listener.stored()
        assert world.guest().active
        store.full = False
        assert (await world.run(op.Suspend(uuid=uuid))).state is JobState.SUCCEEDED


@virtual
async def test_what_the_hypervisor_lacks_is_refused_before_a_job_is_made() -> None:
    """A verb outside the capability table is UNSUPPORTED_BY_HYPERVISOR, and no job stands in the list."""
    async with World("sim://a/?domains=1&running=1&shape=esx") as world:
        with pytest.raises(Refusal, match="UNSUPPORTED_BY_HYPERVISOR"):
            world.accept(op.ManagedSave(uuid=world.guest().uuid))
        assert world.jobs.ids() == []


@virtual
async def test_a_verb_in_the_wrong_state_is_refused_with_the_state() -> None:
    """Nothing runs on the domain and its state is LIVE: the refusal comes at acceptance and says the state."""
    async with World() as world:
        with pytest.raises(Refusal, match="WRONG_STATE") as refusal:
            world.accept(op.Suspend(uuid=world.guest(4).uuid))
        assert refusal.value.problem.metadata["state"] == "shutoff"


@virtual
async def test_memory_above_the_maximum_is_refused() -> None:
    """More memory than the domain may have is INVALID_ARGUMENT with the field."""
    async with World() as world:
        with pytest.raises(Refusal, match="INVALID_ARGUMENT"):
            world.accept(op.SetMemory(uuid=world.guest().uuid, memory_bytes=1 << 50))


@virtual
async def test_secrets_are_not_in_the_job() -> None:
    """A password goes to the hypervisor and nowhere else."""
    store = MemoryStore()
    async with World(store=store) as world:
        await world.run(op.SetUserPassword(uuid=world.guest().uuid, user="root", password="hush"))
        assert "hush" not in repr(await store.load())


@virtual
async def test_a_crowd_that_follows_a_job_is_told_more_rarely_and_of_its_end_at_once() -> None:
    """A few see every report; a thousand together would be told ten thousand times a second."""
    async with World("sim://a/?domains=1&running=1&save_seconds=10&progress_seconds=0.1") as world:
        listener = world.accept(op.ManagedSave(uuid=world.guest().uuid))
        await world.running(listener)

        async def follow() -> tuple[int, float]:
            told = [job async for job in world.jobs.watch(listener.job.id)]
            assert told[-1].finished
            return len(told), asyncio.get_running_loop().time()

        crowd = [asyncio.ensure_future(follow()) for _ in range(1000)]
        await asyncio.sleep(5.0)
        few = asyncio.ensure_future(follow())
        ends = [at for _, at in await asyncio.gather(*crowd, few)]
        assert max(ends) == min(ends)
        assert max(count for count, _ in (each.result() for each in crowd)) < 20


@virtual
async def test_a_few_followers_see_every_report() -> None:
    """Where they are few, none waits for another."""
    async with World("sim://a/?domains=1&running=1&save_seconds=5&progress_seconds=0.1") as world:
        listener = world.accept(op.ManagedSave(uuid=world.guest().uuid))
        await world.running(listener)

        async def follow() -> int:
            return len([job async for job in world.jobs.watch(listener.job.id)])

        assert min(await asyncio.gather(*(follow() for _ in range(10)))) >= 50
