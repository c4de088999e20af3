"""A driver process that is killed, or crashes, with calls out: what queries say meanwhile, what becomes of the job, what others notice."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Iterator

import libvirt
import pytest

from tests.beds.daemon import Libvirtd
from tests.e2e.behaviour import (
    DETACHED,
    Answers,
    abort_has_arrived,
    ask_everything,
    embed_host,
    job_in,
    last,
    sampled,
    save_held_midway,
    stopped,
    stuck_change,
)
from tests.e2e.beside import calm_beside
from tests.e2e.server import Guest, QemuHost, Server, connected, eventually, running
from virtrpc import AsyncClient
from virtrpc.v1 import job_pb2 as j
from virtrpc.v1 import types_pb2 as t

pytestmark = pytest.mark.hypervisor

CALM = "sim:///?save_seconds=2"
both_signals = pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV], ids=lambda number: number.name)


@pytest.fixture(scope="module")
def bed(daemon: Libvirtd) -> Iterator[QemuHost]:
    """A server with a host on the daemon, whose driver process dies again and again, and a simulated host beside it."""
    with Server({"kvm": daemon.uri, "calm": CALM}, path_roots=[str(daemon.path)]) as server:
        server.wait_live()
        with connected(daemon) as direct:
            yield QemuHost(server, daemon, direct)


@pytest.fixture(scope="module")
def shared_guest(bed: QemuHost) -> Iterator[Guest]:
    """A guest with memory enough to be caught in the middle of a save."""
    with bed.guest(disk_mib=16, memory_mib=256, fill_mib=128) as guest:
        guest.wait_for("FILLED")
        yield guest


@pytest.fixture
def guest(bed: QemuHost, shared_guest: Guest) -> Guest:
    """The same, running."""
    return running(shared_guest, bed)


@pytest.fixture
async def client(bed: QemuHost) -> AsyncIterator[AsyncClient]:
    """A client of the bed's server."""
    async with bed.server.client() as client:
        yield client


async def lose_driver(client: AsyncClient, server: Server, host: str, number: signal.Signals, domain: str, job_id: str) -> list[Answers]:
    """Kill a host's driver process, and ask everything all the time until the host is LIVE again: the answers, none of which failed."""
    before = (await client.get_host(host=host)).driver_process
    os.kill(before.pid, number)
    answers: list[Answers] = []

    async def back() -> bool:
        answers.append(await ask_everything(client, domain, job_id))
        now = await client.get_host(host=host)
        return now.state == t.FRESHNESS_LIVE and now.driver_process.pid not in (0, before.pid)

    await eventually(back, f"host {host} to be back, see {server.log_file}")
    after = (await client.get_host(host=host)).driver_process
    assert (after.restarts, after.last_exit) == (before.restarts + 1, f"was ended by {number.name}")
    assert after.start_time.ToNanoseconds() > before.start_time.ToNanoseconds()
    assert number.name in server.log
    return answers


def assert_stale_meanwhile(answers: list[Answers]) -> None:
    """Nothing that was known became unknown, and between the loss and the return all of it was STALE."""
    assert any({observation.freshness for observation in _observations(answer)} == {t.FRESHNESS_STALE} for answer in answers)
    for answer in answers:
        assert all(observation.freshness in (t.FRESHNESS_LIVE, t.FRESHNESS_STALE) for observation in _observations(answer))
        assert answer.domain.state != t.DOMAIN_STATE_UNSPECIFIED
        assert len(answer.domains) == len(answer.stats) == 1
        assert answer.xml.xml


def _observations(answer: Answers) -> list[t.Observation]:
    return [answer.domain.state_observation, answer.domain.configuration_observation, answer.xml.observation, *answer.observations]


@both_signals
async def test_a_save_that_goes_on_is_adopted(bed: QemuHost, client: AsyncClient, guest: Guest, number: signal.Signals) -> None:
    """The process dies in the middle of a save: queries go on, STALE; the new process follows the same job, with progress, to its success."""
    await sampled(client, guest.name)
    async with calm_beside(client, "kvm"):
        async with save_held_midway(client, guest.name) as handle:
            behind = await client.suspend_domain(guest.name, options=DETACHED)
            await job_in(client, behind.job_id, t.JOB_STATE_QUEUED)
            assert_stale_meanwhile(await lose_driver(client, bed.server, "kvm", number, guest.name, handle.job_id))
            seen = (await client.get_job(job_id=handle.job_id)).progress.observed_time.ToNanoseconds()

            async def followed() -> bool:
                job = await client.get_job(job_id=handle.job_id)
                assert job.state == t.JOB_STATE_RUNNING
                return job.abortable and job.progress.observed_time.ToNanoseconds() > seen

            await eventually(followed, "the new process to report the save's progress")
            assert (await client.get_job(job_id=behind.job_id)).state == t.JOB_STATE_QUEUED
        assert (await last(client, handle.job_id)).state == t.JOB_STATE_SUCCEEDED
    assert guest.domain.hasManagedSaveImage()
    # What had queued behind it waited through all this, and was judged then.
    assert (await last(client, behind.job_id)).error.reason == "WRONG_STATE"


async def test_an_adopted_save_can_be_cancelled(bed: QemuHost, client: AsyncClient, guest: Guest) -> None:
    """After the loss CancelJob aborts the save that the daemon went on with, and the guest runs on."""
    async with save_held_midway(client, guest.name) as handle:
        await lose_driver(client, bed.server, "kvm", signal.SIGKILL, guest.name, handle.job_id)
        assert (await handle.cancel()).outcome == j.CANCEL_OUTCOME_ABORTING
        await abort_has_arrived(guest)
    assert (await last(client, handle.job_id)).state == t.JOB_STATE_CANCELLED
    assert [guest.state, guest.domain.hasManagedSaveImage()] == [libvirt.VIR_DOMAIN_RUNNING, 0]


async def test_a_save_that_ended_meanwhile_is_concluded(bed: QemuHost, client: AsyncClient, guest: Guest) -> None:
    """The save completed while nobody listened: the new process finds the guest off with its image, and the job SUCCEEDED."""
    async with save_held_midway(client, guest.name) as handle:
        os.kill(bed.server.driver_pid("kvm"), signal.SIGSTOP)  # it hears nothing of the end, and dies of what follows
    await eventually(lambda: not guest.domain.isActive(), "the save to end")
    assert (await client.get_job(job_id=handle.job_id)).state == t.JOB_STATE_RUNNING
    await lose_driver(client, bed.server, "kvm", signal.SIGKILL, guest.name, handle.job_id)
    assert (await last(client, handle.job_id)).state == t.JOB_STATE_SUCCEEDED
    assert guest.domain.hasManagedSaveImage()
    assert (await client.get_domain(guest.name)).has_managed_save


async def test_a_save_that_failed_meanwhile_is_interrupted(bed: QemuHost, client: AsyncClient, guest: Guest) -> None:
    """The save was aborted while nobody listened: without proof of success the job ends INTERRUPTED with what was seen, and the guest runs."""
    async with save_held_midway(client, guest.name) as handle:
        os.kill(bed.server.driver_pid("kvm"), signal.SIGSTOP)
        guest.domain.abortJob()
    await eventually(lambda: guest.state == libvirt.VIR_DOMAIN_RUNNING, "the guest to run again")
    await lose_driver(client, bed.server, "kvm", signal.SIGKILL, guest.name, handle.job_id)
    job = await last(client, handle.job_id)
    assert job.state == t.JOB_STATE_INTERRUPTED
    assert "the domain is running" in job.evidence
    assert job.error.reason == "INTERRUPTED"
    await (await client.suspend_domain(guest.name)).wait()


@both_signals
async def test_a_change_that_hangs_is_of_unknown_outcome(bed: QemuHost, client: AsyncClient, guest: Guest, number: signal.Signals) -> None:
    """The process dies with a call out to a stopped guest: OUTCOME_UNKNOWN, it may still apply; the domain stays taken until the guest wakes."""
    await sampled(client, guest.name)
    with stopped(bed.daemon.qemu_pid(guest.name)):
        handle = await stuck_change(client, guest)
        async with calm_beside(client, "kvm"):
            assert_stale_meanwhile(await lose_driver(client, bed.server, "kvm", number, guest.name, handle.job_id))
            job = await last(client, handle.job_id)
        assert job.state == t.JOB_STATE_OUTCOME_UNKNOWN
        assert job.may_still_apply
        behind = await client.suspend_domain(guest.name, options=DETACHED)
        (holder,) = (await job_in(client, behind.job_id, t.JOB_STATE_QUEUED)).holders
        assert (holder.job_id, holder.ghost) == (handle.job_id, True)
    assert (await last(client, behind.job_id)).state == t.JOB_STATE_SUCCEEDED
    assert guest.state == libvirt.VIR_DOMAIN_PAUSED


async def test_a_guest_that_was_asked_is_waited_for_further(bed: QemuHost, client: AsyncClient) -> None:
    """The process dies while a guest takes its time to shut down: the next one waits on, the domain is free, and CancelJob ends the wait."""
    # Its kernel does not hear the power button yet.
    with bed.guest(disk_mib=16, ready=False) as guest:
        first, second = [await client.shutdown_domain(guest.name, mode=j.SHUTDOWN_MODE_ACPI, options=DETACHED) for _ in range(2)]

        async def waits() -> bool:
            jobs = [await client.get_job(job_id=handle.job_id) for handle in (first, second)]
            return all(job.phase == t.JOB_PHASE_WAITING_GUEST for job in jobs)

        await eventually(waits, "the guest to have been asked")
        guest.domain.suspend()  # nor does it come to hear it
        await lose_driver(client, bed.server, "kvm", signal.SIGKILL, guest.name, first.job_id)
        await (await client.set_metadata(guest.name, title="meanwhile")).wait()
        assert await waits()
        assert (await first.cancel()).outcome == j.CANCEL_OUTCOME_ABORTING
        assert (await last(client, first.job_id)).state == t.JOB_STATE_CANCELLED
        guest.domain.destroy()
        assert (await last(client, second.job_id)).state == t.JOB_STATE_SUCCEEDED


async def test_on_embed_the_guests_run_on() -> None:
    """With `qemu:///embed` the driver process carries the QEMU driver: its guests outlive it, the save in progress does not, and is INTERRUPTED."""
    with embed_host() as host:
        async with host.server.client() as client, host.guest(client) as idle, host.guest(client, fill_mib=64) as busy:
            await sampled(client, idle, busy)
            pids = host.root.qemu_pids()
            for number in (signal.SIGKILL, signal.SIGSEGV):
                async with save_held_midway(client, busy) as handle:
                    assert_stale_meanwhile(await lose_driver(client, host.server, "emb", number, busy, handle.job_id))
                    job = await last(client, handle.job_id)
                assert job.state == t.JOB_STATE_INTERRUPTED
                assert "the domain is running (save_canceled)" in job.evidence
                assert host.root.qemu_pids() == pids
                # The partial image is told as libvirt tells it; the next save overwrites it.
                assert (await client.get_domain(busy)).has_managed_save
            # Adopted for good: both can be changed, saved and started again.
            for guest in (idle, busy):
                assert (await client.get_domain(guest)).state == t.DOMAIN_STATE_RUNNING
                await (await client.managed_save_domain(guest)).wait()
                await (await client.start_domain(guest)).wait()
                assert (await client.get_domain(guest)).state_reason == "restored"
            assert (await client.get_host(host="calm")).driver_process.restarts == 0
