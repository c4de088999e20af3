"""Migration of real guests between two private libvirtds: what moved, and how, is read back at both ends, past virtrpc."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import libvirt
import libvirt_qemu
import pytest

from tests.e2e.server import GUARD, Guest, QemuHost, ended, eventually
from virtrpc import AsyncClient, AsyncJobHandle, Cancelled, InvalidArgument, NotFound, WrongState
from virtrpc.v1 import types_pb2 as t

pytestmark = pytest.mark.hypervisor

MIB = 1 << 20
DATA = "tcp://127.0.0.1"
"""Where the guests' memory goes: the daemons' host names mean nothing on this machine."""


@pytest.fixture
async def client(first: QemuHost) -> AsyncIterator[AsyncClient]:
    """A client of the server with both hosts."""
    async with first.server.client() as client:
        yield client


@pytest.fixture
def guest(first: QemuHost, second: QemuHost) -> Iterator[Guest]:
    """A small guest at the first host; whatever became of it is removed from both."""
    with first.guest(memory_mib=128, ready=False) as guest:
        yield guest
        at(second, guest).remove()


def at(host: QemuHost, guest: Guest) -> Guest:
    """The same guest as this host's libvirt sees it."""
    return replace(guest, direct=host.direct)


def names(host: QemuHost) -> set[str]:
    """The domains that a host's libvirt lists."""
    return {domain.name() for domain in host.direct.listAllDomains()}


async def test_migrate_domain(client: AsyncClient, first: QemuHost, second: QemuHost) -> None:
    """A running guest is moved live, peer to peer, with progress, to a configured host: it runs on there and is known there."""
    with first.guest(memory_mib=192, fill_mib=96) as guest:
        guest.wait_for("FILLED")
        settings = t.MigrationSettings(host="second", migrate_uri=DATA, bandwidth_bytes_per_second=32 * MIB)
        handle = await client.migrate_domain(f"first/{guest.name}", settings=settings)
        async with asyncio.timeout(GUARD):
            seen = [job async for job in handle]
        moved = at(second, guest)
        try:
            assert seen[-1].state == t.JOB_STATE_SUCCEEDED, seen[-1].error
            progress = [job.progress for job in seen if job.progress.HasField("processed_bytes")]
            assert len({reading.processed_bytes for reading in progress}) >= 3
            assert [reading.percent for reading in progress] == sorted(reading.percent for reading in progress)
            assert t.JOB_PHASE_MIGRATION_COPY in {job.phase for job in seen}
            assert progress[-1].memory_iteration >= 1
            assert any(job.abortable for job in seen)
            assert moved.domain.state() == [libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_MIGRATED]
            assert guest.domain.state() == [libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_MIGRATED]
            result = seen[-1].migrate_domain_result
            assert (result.host, result.uuid, result.name) == ("second", guest.uuid, guest.name)
            for ref in (guest.uuid, guest.name):
                told = await client.get_domain(ref)
                assert (told.host, told.state, told.state_reason) == ("second", t.DOMAIN_STATE_RUNNING, "migrated")
            assert (await client.get_domain(f"first/{guest.name}")).state == t.DOMAIN_STATE_SHUTOFF
        finally:
            moved.remove()


async def test_migrate_domain_by_uri(client: AsyncClient, second: QemuHost, guest: Guest) -> None:
    """A destination can be named by URI, as one of our own too; the guest is renamed, left paused, stored there and forgotten here."""
    settings = t.MigrationSettings(
        uri=second.daemon.tcp_uri, migrate_uri=DATA, destination_name="renamed", paused=True, persist_destination=True, undefine_source=True
    )
    job = await ended(client.migrate_domain(guest.name, settings=settings))
    moved = at(second, guest).domain
    assert (moved.name(), moved.isPersistent(), moved.state()[0]) == ("renamed", 1, libvirt.VIR_DOMAIN_PAUSED)
    result = job.migrate_domain_result
    assert (result.host, result.uri, result.name) == ("second", second.daemon.tcp_uri, "renamed")
    with pytest.raises(libvirt.libvirtError):
        _ = guest.domain
    await eventually(lambda: _is_only_at(client, guest, "second"), "the guest to be known at the destination alone")


async def _is_only_at(client: AsyncClient, guest: Guest, host: str) -> bool:
    return [domain.host async for domain in client.list_domains(filter=t.DomainFilter(uuids=[guest.uuid]))] == [host]


async def test_migrate_domain_managed_by_the_driver(client: AsyncClient, second: QemuHost, guest: Guest) -> None:
    """Without peer to peer the driver process leads the move itself; not live, the guest is paused meanwhile and runs afterwards."""
    settings = t.MigrationSettings(host="second", migrate_uri=DATA, peer_to_peer=False, live=False)
    await ended(client.migrate_domain(guest.name, settings=settings))
    assert at(second, guest).state == libvirt.VIR_DOMAIN_RUNNING
    assert guest.state == libvirt.VIR_DOMAIN_SHUTOFF


async def test_migrate_domain_offline(client: AsyncClient, second: QemuHost, guest: Guest) -> None:
    """The definition alone of a domain that is off can be moved; without saying so that is refused."""
    guest.domain.destroy()
    await eventually(lambda: _is_off(client, guest), "the server to know")
    with pytest.raises(WrongState):
        await ended(client.migrate_domain(guest.name, settings=t.MigrationSettings(host="second")))
    settings = t.MigrationSettings(host="second", offline=True, persist_destination=True, undefine_source=True)
    await ended(client.migrate_domain(guest.name, settings=settings))
    moved = at(second, guest).domain
    assert (moved.isActive(), moved.isPersistent()) == (0, 1)
    with pytest.raises(libvirt.libvirtError):
        _ = guest.domain


async def _is_off(client: AsyncClient, guest: Guest) -> bool:
    return (await client.get_domain(guest.uuid)).state == t.DOMAIN_STATE_SHUTOFF


async def test_migrate_domain_cancelled(client: AsyncClient, first: QemuHost, second: QemuHost) -> None:
    """A move that never ends is held to its bandwidth, and cancelled: the guest runs on here, and nothing is left there."""
    with first.guest(memory_mib=256, churn_mib=128) as guest:
        guest.wait_for("FILLED")
        settings = t.MigrationSettings(host="second", migrate_uri=DATA, bandwidth_bytes_per_second=16 * MIB - 1)
        handle = await client.migrate_domain(f"first/{guest.name}", settings=settings)
        async for job in handle:
            if job.abortable and job.progress.processed_bytes:
                break
        asked = json.loads(libvirt_qemu.qemuMonitorCommand(guest.domain, '{"execute": "query-migrate-parameters"}', 0))["return"]
        assert asked["max-bandwidth"] == 16 * MIB
        theirs = guest.domain.jobStats()
        assert theirs["operation"] == libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT
        assert job.progress.total_bytes <= theirs["data_total"]
        assert guest.name in names(second)
        await _cancelled(handle)
        assert guest.state == libvirt.VIR_DOMAIN_RUNNING
        assert guest.domain.jobInfo()[0] == libvirt.VIR_DOMAIN_JOB_NONE
        await eventually(lambda: guest.name not in names(second), "the destination to be cleared up")
        await eventually(lambda: _is_only_at(client, guest, "first"), "the guest to be known here alone")


async def _cancelled(handle: AsyncJobHandle) -> None:
    await handle.cancel()
    async with asyncio.timeout(GUARD):
        with pytest.raises(Cancelled) as caught:
            await handle.wait()
    assert caught.value.job is not None
    assert caught.value.job.state == t.JOB_STATE_CANCELLED


@pytest.mark.parametrize(
    "uri",
    [
        "qemu+ext://127.0.0.1/system?command={script}",
        "qemu+ext://127.0.0.1/system",
        "qemu+ssh://127.0.0.1/system",
        "qemu+ssh://127.0.0.1/system?netcat={script}",
        "qemu+unix:///system",
        "qemu:///system",
        "{tcp}?command={script}",
        "{tcp}#x",
        "qemu+tcp://someone:secret@127.0.0.1/system",
        "qemu+tcp:///system",
        "qemu+tcp://127.0.0.1\\n/system",
        "{tcp}%3Fcommand={script}",
        "QEMU+EXT://127.0.0.1/system",
        "qemu+libssh://127.0.0.1/system?keyfile={script}",
        "http://127.0.0.1/",
        "not a uri",
        "",
    ],
)
async def test_hostile_migration_uri(client: AsyncClient, second: QemuHost, guest_that_stays: Guest, tmp_path: Path, uri: str) -> None:
    """A destination that could run a program, or is not on the allow-list, is refused before a job is made, and nothing is run."""
    script = tmp_path / "script"
    script.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    script.chmod(0o755)
    place = uri.format(script=script, tcp=second.daemon.tcp_uri).replace("\\n", "\n")
    before = len(await client.list_jobs().all())
    with pytest.raises(InvalidArgument) as caught:
        await ended(client.migrate_domain(guest_that_stays.name, settings=t.MigrationSettings(uri=place)))
    assert caught.value.reason == "MIGRATION_TARGET_NOT_ALLOWED"
    assert "secret" not in caught.value.message + str(caught.value.metadata)
    assert len(await client.list_jobs().all()) == before
    assert not (tmp_path / "ran").exists()
    assert guest_that_stays.name not in names(second)


@pytest.mark.parametrize(
    "uri", ["exec:touch /tmp/x", "fd:0", "unix:/tmp/x", "tcp://127.0.0.1?x=y", "file:/tmp/x", "TCP://127.0.0.1", "tcp://u@127.0.0.1"]
)
async def test_hostile_data_uri(client: AsyncClient, guest_that_stays: Guest, uri: str) -> None:
    """A guest's memory, its disks and the address they wait at go where the allow-list says, and nowhere else."""
    for settings in (
        t.MigrationSettings(host="second", migrate_uri=uri),
        t.MigrationSettings(host="second", storage=t.MigrationStorage(uri=uri)),
        t.MigrationSettings(host="second", listen_address=uri),
    ):
        with pytest.raises(InvalidArgument) as caught:
            await ended(client.migrate_domain(guest_that_stays.name, settings=settings))
        assert caught.value.reason == "MIGRATION_TARGET_NOT_ALLOWED"


async def test_migration_to_nowhere(client: AsyncClient, guest_that_stays: Guest) -> None:
    """A host that is not configured, the same host, none at all, or settings that exclude each other are refused."""
    with pytest.raises(NotFound):
        await ended(client.migrate_domain(guest_that_stays.name, settings=t.MigrationSettings(host="third")))
    for settings in (
        t.MigrationSettings(host="first"),
        t.MigrationSettings(),
        t.MigrationSettings(host="second", live=True, offline=True, persist_destination=True),
        t.MigrationSettings(host="second", offline=True),
        t.MigrationSettings(host="second", bandwidth_bytes_per_second=-1),
    ):
        with pytest.raises(InvalidArgument):
            await ended(client.migrate_domain(guest_that_stays.name, settings=settings))


@pytest.fixture(scope="module")
def guest_that_stays(pair: tuple[QemuHost, QemuHost]) -> Iterator[Guest]:
    """A guest, off, that no test moves."""
    with pair[0].guest(start=False) as guest:
        yield guest
