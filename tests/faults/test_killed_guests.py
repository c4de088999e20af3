"""A QEMU that dies (SIGKILL) in the middle of a job: the job fails and says why, the domain is told as it is, and is free for the next job."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace

import libvirt
import pytest

from tests.beds.daemon import Libvirtd
from tests.e2e.behaviour import DETACHED, MIB, job_in, last, save_held_midway
from tests.e2e.server import Guest, HostTable, QemuHost, Server, connected, ended, eventually
from tests.faults.bed import PATIENT
from virtrpc import AsyncClient, AsyncJobHandle
from virtrpc.v1 import types_pb2 as t

pytestmark = [pytest.mark.hypervisor, pytest.mark.faults]

SLOWLY = t.MigrationSettings(host="second", migrate_uri="tcp://127.0.0.1", bandwidth_bytes_per_second=4 * MIB)


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[QemuHost, QemuHost]]:
    """One server with two hosts, `kvm` and `second`, that guests can be moved between."""
    with Libvirtd("first") as daemon, Libvirtd("second") as other:
        hosts: dict[str, HostTable] = {
            name: {"uri": bed.uri, "migration_uri": bed.tcp_uri, "path_roots": [str(bed.path)]} for name, bed in (("kvm", daemon), ("second", other))
        }
        with Server(hosts) as server, connected(daemon) as here, connected(other) as there:
            server.wait_live()
            yield QemuHost(server, daemon, here), QemuHost(server, other, there, "second")


@pytest.fixture
def host(pair: tuple[QemuHost, QemuHost]) -> QemuHost:
    """The host that guests are moved from."""
    return pair[0]


@pytest.fixture
def second(pair: tuple[QemuHost, QemuHost]) -> QemuHost:
    """The host that guests are moved to."""
    return pair[1]


async def assert_failed_and_free(client: AsyncClient, host: QemuHost, guest: Guest, job: t.Job) -> None:
    """The job is FAILED and says why; the domain is off, is told to be, and can be started."""
    assert (job.state, job.error.reason, job.may_still_apply) == (t.JOB_STATE_FAILED, "OPERATION_FAILED", False)
    print("MESSAGE", job.error.message)
    assert job.error.message
    assert guest.state == libvirt.VIR_DOMAIN_SHUTOFF
    told = await client.get_domain(f"{host.name}/{guest.uuid}")
    assert (told.state, told.has_managed_save) == (t.DOMAIN_STATE_SHUTOFF, bool(guest.domain.hasManagedSaveImage()))
    await ended(client.start_domain(f"{host.name}/{guest.uuid}"))
    assert guest.state == libvirt.VIR_DOMAIN_RUNNING


async def test_during_a_save(client: AsyncClient, host: QemuHost) -> None:
    """Killed while its memory is being written: what was written is no image, and what queued behind the save is judged by what is left."""
    with host.guest() as guest:
        async with save_held_midway(client, guest.name) as save:
            behind = await client.suspend_domain(guest.name, options=PATIENT)
            await job_in(client, behind.job_id, t.JOB_STATE_QUEUED)
            os.kill(host.daemon.qemu_pid(guest.name), signal.SIGKILL)
        job = await last(client, save.job_id)
        assert (await last(client, behind.job_id)).error.reason == "WRONG_STATE"
        await assert_failed_and_free(client, host, guest, job)


@asynccontextmanager
async def migration_under_way(client: AsyncClient, guest: Guest) -> AsyncIterator[AsyncJobHandle]:
    """A move whose memory is being copied, slowly enough not to end by itself."""
    handle = await client.migrate_domain(f"kvm/{guest.uuid}", settings=SLOWLY, options=DETACHED)

    async def copies() -> bool:
        return bool((await job_in(client, handle.job_id, t.JOB_STATE_RUNNING)).progress.processed_bytes)

    await eventually(copies, "the migration to copy memory")
    yield handle


@contextmanager
def movable(host: QemuHost, second: QemuHost) -> Iterator[Guest]:
    """A guest with memory to copy; whatever became of it is removed from both hosts."""
    with host.guest(memory_mib=192, fill_mib=96) as guest:
        guest.wait_for("FILLED")
        yield guest
        replace(guest, direct=second.direct).remove()


async def test_at_the_source_of_a_migration(client: AsyncClient, host: QemuHost, second: QemuHost) -> None:
    """Killed at the source: the guest is lost, and told to be; at the destination nothing is left of it."""
    with movable(host, second) as guest:
        async with migration_under_way(client, guest) as move:
            os.kill(host.daemon.qemu_pid(guest.name), signal.SIGKILL)
            job = await last(client, move.job_id)
        await eventually(lambda: second.daemon.qemu_pids() == [], "the destination to be cleared up")
        await eventually(lambda: is_only_at(client, guest, "kvm"), "the guest to be known at the source alone")
        await assert_failed_and_free(client, host, guest, job)


async def test_at_the_destination_of_a_migration(client: AsyncClient, host: QemuHost, second: QemuHost) -> None:
    """Killed at the destination: the guest runs on at the source, and its next job runs."""
    with movable(host, second) as guest:
        async with migration_under_way(client, guest) as move:
            os.kill(second.daemon.qemu_pid(guest.name), signal.SIGKILL)
            job = await last(client, move.job_id)
        assert (job.state, job.error.reason, job.may_still_apply) == (t.JOB_STATE_FAILED, "OPERATION_FAILED", False)
        print("MESSAGE", job.error.message)
        assert job.error.message
        assert guest.state == libvirt.VIR_DOMAIN_RUNNING
        await eventually(lambda: is_only_at(client, guest, "kvm"), "the guest to be known at the source alone")
        assert (await client.get_domain(guest.uuid)).state == t.DOMAIN_STATE_RUNNING
        await ended(client.suspend_domain(guest.uuid))


async def is_only_at(client: AsyncClient, guest: Guest, host: str) -> bool:
    """Whether this host alone is told to have the domain."""
    return [domain.host async for domain in client.list_domains(filter=t.DomainFilter(uuids=[guest.uuid]))] == [host]
