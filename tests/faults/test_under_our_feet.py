"""What virsh does under our feet is told, by event at once or by the next audit; jobs that waited meanwhile end cleanly."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from xml.etree import ElementTree

import libvirt
import pytest

from tests.e2e.behaviour import job_in, last, stopped, stuck_change
from tests.e2e.server import Guest, QemuHost, eventually
from tests.faults.bed import PATIENT
from virtrpc import AsyncClient, AsyncJobHandle, DomainMirror, NotFound
from virtrpc.v1 import types_pb2 as t

pytestmark = [pytest.mark.hypervisor, pytest.mark.faults]


@asynccontextmanager
async def mirror(client: AsyncClient) -> AsyncIterator[DomainMirror]:
    """What a watch of all domains has told, kept up to date."""
    held = DomainMirror()

    async def follow() -> None:
        async for batch in client.watch_domains():
            held.apply(batch)

    watching = asyncio.create_task(follow())
    try:
        await eventually(lambda: held.caught_up, "the watch to catch up")
        yield held
        assert not watching.done()
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


async def told(client: AsyncClient, watched: DomainMirror, host: QemuHost, uuid: str, holds: Callable[[t.Domain], bool], what: str) -> None:
    """Return once both the cache and the watch show this of a domain."""

    async def both() -> bool:
        seen = watched.domains.get((host.name, uuid))
        try:
            return seen is not None and holds(seen) and holds(await client.get_domain(f"{host.name}/{uuid}"))
        except NotFound:
            return False

    await eventually(both, what)


async def told_gone(client: AsyncClient, watched: DomainMirror, host: QemuHost, uuid: str) -> None:
    """Return once neither the cache nor the watch has the domain."""

    async def gone() -> bool:
        return (host.name, uuid) not in watched.domains and [domain async for domain in client.list_domains() if domain.uuid == uuid] == []

    await eventually(gone, f"{uuid} to be told gone")


async def test_a_definition_comes_changes_and_goes(client: AsyncClient, host: QemuHost) -> None:
    """Define, define anew, rename and undefine are told one after another."""
    async with mirror(client) as watched:
        guest = host.define()
        await told(client, watched, host, guest.uuid, lambda seen: seen.name == guest.name, "the new domain")
        xml = guest.domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
        host.daemon.define(xml.replace("<vcpu placement='static'>1<", "<vcpu placement='static'>3<"))
        await told(client, watched, host, guest.uuid, lambda seen: seen.max_vcpus == 3, "the new definition")
        host.daemon.virsh("domrename", guest.name, f"{guest.name}-renamed")
        await told(client, watched, host, guest.uuid, lambda seen: seen.name == f"{guest.name}-renamed", "the new name")
        with pytest.raises(NotFound):
            await client.get_domain(f"{host.name}/{guest.name}")
        host.daemon.virsh("undefine", f"{guest.name}-renamed")
        await told_gone(client, watched, host, guest.uuid)


async def test_an_undefined_guest_runs_on(client: AsyncClient, host: QemuHost) -> None:
    """Undefined while it runs it is transient, and gone when it ends."""
    async with mirror(client) as watched:
        with host.guest(ready=False) as guest:
            host.daemon.virsh("undefine", guest.name)
            await told(client, watched, host, guest.uuid, lambda seen: seen.active and not seen.persistent, "the guest to be transient")
            host.daemon.virsh("destroy", guest.name)
            await told_gone(client, watched, host, guest.uuid)


async def test_snapshots(client: AsyncClient, host: QemuHost) -> None:
    """A snapshot of virsh's is listed, and the guest that was paused for it is told to run on."""
    async with mirror(client) as watched:
        with host.guest(disk_mib=16) as guest:
            host.daemon.virsh("snapshot-create-as", guest.name, "theirs")
            assert [snapshot.name async for snapshot in client.list_snapshots(guest.name)] == ["theirs"]
            await told(client, watched, host, guest.uuid, lambda seen: seen.state == t.DOMAIN_STATE_RUNNING, "the guest to run on")
            host.daemon.virsh("snapshot-delete", guest.name, "theirs")
            assert [snapshot.name async for snapshot in client.list_snapshots(guest.name)] == []


async def test_autostart_is_found_by_the_audit(client: AsyncClient, host: QemuHost) -> None:
    """It raises no event: the next audit finds it, there and back."""
    async with mirror(client) as watched:
        with host.guest(start=False) as guest:
            host.daemon.virsh("autostart", guest.name)
            await told(client, watched, host, guest.uuid, lambda seen: seen.autostart, "the audit to find it")
            host.daemon.virsh("autostart", guest.name, "--disable")
            await told(client, watched, host, guest.uuid, lambda seen: not seen.autostart, "the audit to find that it is gone")


@asynccontextmanager
async def queued_starts(client: AsyncClient, host: QemuHost, *guests: Guest) -> AsyncIterator[list[AsyncJobHandle]]:
    """Jobs of these domains that are accepted and wait for a place at the daemon, all of which are taken, until the context ends."""
    budget = (await client.get_host(host=host.name)).budget
    with ExitStack() as stack:
        wedged = [stack.enter_context(host.guest(ready=False)) for _ in range(budget.places)]
        with ExitStack() as stops:
            for guest in wedged:
                stops.enter_context(stopped(host.daemon.qemu_pid(guest.name)))
            stuck = [await stuck_change(client, guest) for guest in wedged]
            starts = [await client.start_domain(guest.uuid, options=PATIENT) for guest in guests]
            for start in starts:
                assert (await job_in(client, start.job_id, t.JOB_STATE_QUEUED)).waiting_for == t.JOB_WAITING_FOR_DAEMON_BUDGET
            yield starts
        for change in stuck:
            assert (await last(client, change.job_id)).state == t.JOB_STATE_SUCCEEDED


async def test_jobs_that_wait_meanwhile(client: AsyncClient, host: QemuHost) -> None:
    """A start finds its domain undefined, replaced by another of the same name, renamed, or defined anew: it never starts the wrong one."""
    with ExitStack() as stack:
        guests = [stack.enter_context(host.guest(start=False)) for _ in range(4)]
        gone, replaced, renamed, redefined = guests
        async with mirror(client) as watched:
            async with queued_starts(client, host, *guests) as starts:
                xml = replaced.domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
                for guest in (gone, replaced):
                    host.daemon.virsh("undefine", guest.name)
                host.daemon.define(_without_uuid(xml))
                host.daemon.virsh("domrename", renamed.name, f"{renamed.name}-renamed")
                xml = redefined.domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
                host.daemon.define(xml.replace("<vcpu placement='static'>1<", "<vcpu placement='static'>3<"))
            jobs = [await last(client, start.job_id) for start in starts]
            assert [(job.state, job.error.reason) for job in jobs[:2]] == [(t.JOB_STATE_FAILED, "DOMAIN_NOT_FOUND")] * 2
            assert [job.state for job in jobs[2:]] == [t.JOB_STATE_SUCCEEDED] * 2
            for guest in (gone, replaced):
                await told_gone(client, watched, host, guest.uuid)
            other = host.direct.lookupByName(replaced.name)
            await told(client, watched, host, other.UUIDString(), lambda seen: seen.state == t.DOMAIN_STATE_SHUTOFF, "the one that took its place")
            other.undefine()
            await told(client, watched, host, renamed.uuid, lambda seen: seen.active and seen.name.endswith("-renamed"), "the renamed one to run")
            await told(client, watched, host, redefined.uuid, lambda seen: seen.active and seen.max_vcpus == 3, "the redefined one to run")


def _without_uuid(xml: str) -> str:
    root = ElementTree.fromstring(xml)
    for element in root.findall("uuid"):
        root.remove(element)
    return ElementTree.tostring(root, encoding="unicode")
