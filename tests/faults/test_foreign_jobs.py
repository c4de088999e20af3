"""virsh at work on the same domain: our jobs wait for it and say so, and no cancel of ours ever ends what virsh has begun."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager

import libvirt
import pytest

from tests.beds.processes import alive
from tests.e2e.behaviour import DETACHED, MIB, held_writer_of, job_in, last
from tests.e2e.server import Guest, QemuHost, ended, eventually
from tests.faults.bed import PATIENT, succeeds, virsh
from virtrpc import AsyncClient
from virtrpc.v1 import job_pb2 as j
from virtrpc.v1 import types_pb2 as t

pytestmark = [pytest.mark.hypervisor, pytest.mark.faults]

ROUNDS = 8
LESS = 96 * MIB


@asynccontextmanager
async def virsh_midway(host: QemuHost, guest: Guest, *words: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A virsh that writes a guest's memory to a file, and does not end before the context does."""
    file = f"{host.daemon.path}/{guest.name}.written"
    async with virsh(host.daemon, *words, guest.name, file) as process:
        with held_writer_of(file):
            yield process
            assert process.returncode is None
        await succeeds(process)


@contextmanager
def paused_driver(host: QemuHost) -> Iterator[None]:
    """What the server sends goes out when the context ends: its driver process is stopped."""
    pid = host.server.driver_pid(host.name)
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        assert alive(pid)
        os.kill(pid, signal.SIGCONT)


async def blocked(client: AsyncClient, job_id: str) -> t.Job:
    """The job once a foreign one is in its way."""
    seen: list[t.Job] = []

    async def there() -> bool:
        seen[:] = [await job_in(client, job_id, t.JOB_STATE_QUEUED, t.JOB_STATE_RUNNING)]
        return seen[0].waiting_for == t.JOB_WAITING_FOR_BLOCKED_BY_OTHER

    await eventually(there, "the job to be BLOCKED_BY_OTHER")
    return seen[0]


async def test_a_change_waits_for_a_dump(client: AsyncClient, host: QemuHost) -> None:
    """Changes of two guests wait for virsh and quote libvirt; one is cancelled, which touches no dump; the other runs when the dump is over."""
    with host.guest() as one, host.guest() as two:
        async with virsh_midway(host, one, "dump", "--live"), virsh_midway(host, two, "dump", "--live"):
            changes = [await client.set_memory(guest.name, memory_bytes=LESS, scope=t.CHANGE_SCOPE_LIVE, options=PATIENT) for guest in (one, two)]
            for change in changes:
                (holder,) = (await blocked(client, change.job_id)).holders
                assert "cannot acquire state change lock" in holder.foreign_text
            assert (await changes[0].cancel()).outcome in (j.CANCEL_OUTCOME_WITHDRAWN, j.CANCEL_OUTCOME_NOT_ABORTABLE)
        assert (await last(client, changes[1].job_id)).state == t.JOB_STATE_SUCCEEDED
        assert (await last(client, changes[0].job_id)).state == t.JOB_STATE_CANCELLED
        assert one.domain.isActive()
        await ended(client.suspend_domain(one.name))


async def test_a_save_waits_for_a_save(client: AsyncClient, host: QemuHost) -> None:
    """Our save finds virsh's in progress: it waits at once, and is judged when that is over: the guest is off by then."""
    with host.guest() as guest:
        async with virsh_midway(host, guest, "save"):
            save = await client.managed_save_domain(guest.name, options=PATIENT)
            (holder,) = (await blocked(client, save.job_id)).holders
            assert "another's save" in holder.foreign_text
        job = await last(client, save.job_id)
        assert (job.state, job.error.reason) == (t.JOB_STATE_FAILED, "WRONG_STATE")
        assert not guest.domain.hasManagedSaveImage()


@pytest.mark.parametrize("words", [("save",), ("dump", "--live")], ids=lambda words: words[0])
async def test_virsh_begins_between_our_check_and_our_call(client: AsyncClient, host: QemuHost, words: tuple[str, ...]) -> None:
    """Our save is RUNNING and cancelled, and not at libvirt yet, when virsh begins: virsh's ends well, and ours never begins."""
    with host.guest() as guest:
        async with AsyncExitStack() as foreign:
            with paused_driver(host):
                save = await client.managed_save_domain(guest.name, options=DETACHED)
                await job_in(client, save.job_id, t.JOB_STATE_RUNNING)
                await save.cancel()
                await foreign.enter_async_context(virsh_midway(host, guest, *words))
            assert (await last(client, save.job_id)).state == t.JOB_STATE_CANCELLED
        assert not guest.domain.hasManagedSaveImage()
        assert bool(guest.domain.isActive()) is (words[0] == "dump")


async def test_virsh_and_we_begin_together(client: AsyncClient, host: QemuHost) -> None:
    """Whoever comes first, however narrowly: cancelling our save never ends virsh's."""
    file = f"{host.daemon.path}/together"
    with host.guest() as guest:
        for _ in range(ROUNDS):
            async with virsh(host.daemon, "save", guest.name, file) as process:
                save = await client.managed_save_domain(guest.name, options=DETACHED)
                await save.cancel()
                job = await last(client, save.job_id)
                if job.state == t.JOB_STATE_SUCCEEDED:
                    # Its last phase, in which nothing can be aborted: virsh came too late.
                    await process.wait()
                    guest.domain.create()
                else:
                    await succeeds(process)
                    host.daemon.virsh("restore", file)
            assert guest.state == libvirt.VIR_DOMAIN_RUNNING
            host.wait_known(guest)
