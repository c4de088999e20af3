"""Both ends of a migration: who is told of what, what stands in the way beforehand, and what a destination that fails leaves behind."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import libvirt
import pytest

from tests.beds.domain import Disk
from tests.e2e.server import GUARD, Guest, QemuHost, ended, eventually
from tests.e2e.test_migration import DATA, at, names
from virtrpc import AlreadyExists, AsyncClient, AsyncJobHandle, FailedPrecondition, HostUnreachable, MigrationUnsafe
from virtrpc.v1 import types_pb2 as t

pytestmark = pytest.mark.hypervisor

MIB = 1 << 20
IMAGES = "/var/lib/libvirt/images"
"""Each daemon has a directory of its own there."""


@pytest.fixture
async def client(first: QemuHost) -> AsyncIterator[AsyncClient]:
    """A client of the server with both hosts."""
    async with first.server.client() as client:
        yield client


@pytest.fixture
def guest(first: QemuHost, second: QemuHost) -> Iterator[Guest]:
    """A guest with some memory to send; whatever became of it is removed from both hosts."""
    with first.guest(memory_mib=128, fill_mib=40) as guest:
        guest.wait_for("FILLED")
        yield guest
        at(second, guest).remove()


def settings(**more: Any) -> t.MigrationSettings:
    """A move to the second host."""
    return t.MigrationSettings(host="second", migrate_uri=DATA, **more)


async def copying(handle: AsyncJobHandle) -> t.Job:
    """The job once memory or disks are under way."""
    async with asyncio.timeout(GUARD):
        async for job in handle:
            if job.phase == t.JOB_PHASE_MIGRATION_COPY and job.progress.processed_bytes:
                return job
    raise AssertionError("the job ended before that")


async def failure(handle: AsyncJobHandle) -> FailedPrecondition:
    """What a move failed with."""
    async with asyncio.timeout(GUARD):
        with pytest.raises(FailedPrecondition) as caught:
            await handle.wait()
    return caught.value


async def assert_here(client: AsyncClient, guest: Guest, second: QemuHost) -> None:
    """The guest runs on at the source, is told to, and nothing is left of it at the destination."""
    assert guest.state == libvirt.VIR_DOMAIN_RUNNING
    assert (await client.get_domain(f"first/{guest.uuid}")).state == t.DOMAIN_STATE_RUNNING
    await eventually(lambda: guest.name not in names(second), "the destination to be cleared up")


async def test_both_ends_are_told(client: AsyncClient, guest: Guest) -> None:
    """A watcher sees the guest come at the destination while it runs at the source, then run there and be off here: never twice, never nowhere."""
    running: list[set[str]] = []
    seen: dict[str, t.DomainState.ValueType] = {}
    came = asyncio.Event()

    async def watch() -> None:
        async for batch in client.watch_domains(filter=t.DomainFilter(uuids=[guest.uuid])):
            for change in batch.changes:
                if change.HasField("current"):
                    seen[change.current.host] = change.current.state
                else:
                    seen.pop(change.removed.domain.host, None)
            running.append({host for host, state in seen.items() if state == t.DOMAIN_STATE_RUNNING})
            if "second" in seen:
                came.set()

    async with asyncio.timeout(GUARD), asyncio.TaskGroup() as group:
        watching = group.create_task(watch())
        handle = await client.migrate_domain(f"first/{guest.uuid}", settings=settings(bandwidth_bytes_per_second=8 * MIB))
        await came.wait()
        during = (await client.get_domain(guest.uuid)).host
        job = await handle.wait()
        await eventually(lambda: seen.get("second") == t.DOMAIN_STATE_RUNNING and seen.get("first") == t.DOMAIN_STATE_SHUTOFF, "the watcher to know")
        watching.cancel()
    assert during == "first"
    assert all(len(hosts) <= 1 for hosts in running)
    assert (job.domain.host, job.migrate_domain_result.host) == ("first", "second")
    assert (await client.get_domain(guest.uuid)).host == "second"
    back = await ended(client.migrate_domain(f"second/{guest.uuid}", settings=t.MigrationSettings(host="first", migrate_uri=DATA)))
    assert back.migrate_domain_result.host == "first"
    assert guest.state == libvirt.VIR_DOMAIN_RUNNING


async def test_both_ends_are_held(client: AsyncClient, guest: Guest, second: QemuHost) -> None:
    """While it moves, its name at the destination is reserved: a definition of that name waits there, and is refused when it has arrived."""
    handle = await client.migrate_domain(f"first/{guest.uuid}", settings=settings(bandwidth_bytes_per_second=8 * MIB, persist_destination=True))
    await copying(handle)
    xml = f"<domain type='qemu'><name>{guest.name}</name><memory>65536</memory><os><type arch='x86_64'>hvm</type></os></domain>"
    rival = await client.define_domain(host="second", xml=xml)
    queued = await client.get_job(job_id=rival.job_id)
    assert queued.state == t.JOB_STATE_QUEUED
    assert [holder.job_id for holder in queued.holders] == [handle.job_id]
    await handle.wait()
    with pytest.raises(AlreadyExists):
        await rival.wait()
    assert at(second, guest).state == libvirt.VIR_DOMAIN_RUNNING


async def test_a_destination_that_cannot_be_reached(client: AsyncClient, guest: Guest, second: QemuHost) -> None:
    """Where nobody listens the job fails with the host's own reason; the guest runs on."""
    nowhere = t.MigrationSettings(uri="qemu+tcp://127.0.0.1:9/system", migrate_uri=DATA)
    with pytest.raises(HostUnreachable) as caught:
        await ended(client.migrate_domain(f"first/{guest.uuid}", settings=nowhere))
    assert "Connection refused" in caught.value.message
    await assert_here(client, guest, second)
    plan = await client.plan_migration(f"first/{guest.uuid}", settings=nowhere)
    assert [(found.reason, found.fatal) for found in plan.obstacles] == [("HOST_UNREACHABLE", True)]


def image(host: QemuHost, name: str, mib: int) -> Disk:
    """An image in a host's own directory, as its daemon names it."""
    (host.daemon.path / "lib/images").mkdir(exist_ok=True)
    path = host.daemon.path / "lib/images" / name
    with path.open("wb") as file:
        file.truncate(mib * MIB)
    path.chmod(0o666)
    return Disk(Path(f"{IMAGES}/{name}"), format="raw")


async def test_storage_copy(client: AsyncClient, first: QemuHost, second: QemuHost) -> None:
    """Local disks stand in the way until they are copied along: then they count in the progress, and arrive byte for byte."""
    disk = image(first, "copied.img", 24)
    outside = first.daemon.path / "lib/images/copied.img"
    outside.write_bytes(os.urandom(24 * MIB))
    with first.guest(disks=[disk], ready=False) as guest:
        plan = await client.plan_migration(f"first/{guest.uuid}", settings=settings())
        assert [(found.host, found.reason) for found in plan.obstacles if found.fatal] == [("first", "MIGRATION_UNSAFE")]
        with pytest.raises(MigrationUnsafe):
            await ended(client.migrate_domain(f"first/{guest.uuid}", settings=settings()))
        image(second, "copied.img", 24)
        copied = settings(storage=t.MigrationStorage(disks=["vda"]), bandwidth_bytes_per_second=64 * MIB)
        assert (await client.plan_migration(f"first/{guest.uuid}", settings=copied)).feasible
        handle = await client.migrate_domain(f"first/{guest.uuid}", settings=copied)
        async with asyncio.timeout(GUARD):
            seen = [job async for job in handle]
        try:
            assert seen[-1].state == t.JOB_STATE_SUCCEEDED, seen[-1].error
            assert max(job.migration.disk_total_bytes for job in seen) == 24 * MIB
            assert (second.daemon.path / "lib/images/copied.img").read_bytes() == outside.read_bytes()
        finally:
            at(second, guest).remove()


async def test_a_destination_that_is_full(client: AsyncClient, first: QemuHost, second: QemuHost) -> None:
    """A disk for which there is no room ends the job with the words for it; the guest runs on at the source."""
    disk = image(first, "large.img", 24)
    (first.daemon.path / "lib/images/large.img").write_bytes(os.urandom(24 * MIB))
    image(second, "other.img", 1)
    second.daemon.inside("mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", IMAGES)
    try:
        second.daemon.inside("truncate", "-s", str(24 * MIB), f"{IMAGES}/large.img")
        with first.guest(disks=[disk], ready=False) as guest:
            error = await failure(await client.migrate_domain(f"first/{guest.uuid}", settings=settings(storage=t.MigrationStorage())))
            assert "No space left" in error.message
            await assert_here(client, guest, second)
    finally:
        second.daemon.inside("umount", IMAGES)


async def test_plan_migration(client: AsyncClient, first: QemuHost, second: QemuHost, guest: Guest) -> None:
    """A guest that can be moved has nothing fatal in its way; what is in the way of another is told with its place, and nothing is changed."""
    before = len(await client.list_jobs().all())
    plan = await client.plan_migration(f"first/{guest.uuid}", settings=settings())
    assert plan.feasible, plan.obstacles
    with second.guest(name=f"taken-{guest.name}", start=False) as rival:
        renamed = await client.plan_migration(f"first/{guest.uuid}", settings=settings(destination_name=rival.name))
        assert [(found.host, found.reason) for found in renamed.obstacles if found.fatal] == [("second", "ALREADY_EXISTS")]
    with first.guest(start=False) as off:
        plan = await client.plan_migration(f"first/{off.uuid}", settings=settings())
        assert [(found.host, found.reason) for found in plan.obstacles if found.fatal] == [("first", "WRONG_STATE")]
        assert (await client.plan_migration(f"first/{off.uuid}", settings=settings(offline=True, persist_destination=True))).feasible
    by_uri = t.MigrationSettings(uri=second.daemon.tcp_uri, migrate_uri=DATA)
    assert (await client.plan_migration(f"first/{guest.uuid}", settings=by_uri)).feasible
    for target, reason in (
        (t.MigrationSettings(uri="qemu+ext://there/system?command=x"), "MIGRATION_TARGET_NOT_ALLOWED"),
        (t.MigrationSettings(host="third"), "HOST_NOT_CONFIGURED"),
    ):
        refused = await client.plan_migration(f"first/{guest.uuid}", settings=target)
        assert [(found.reason, found.fatal) for found in refused.obstacles] == [(reason, True)]
    assert len(await client.list_jobs().all()) == before
    assert guest.name not in names(second)
