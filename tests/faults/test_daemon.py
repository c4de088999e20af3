"""A libvirtd that is stopped, killed or restarted in the middle of a save: the host comes back by itself, and the job is concluded by proof."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator

import libvirt
import pytest

from tests.beds.daemon import Libvirtd
from tests.e2e import server as harness
from tests.e2e.behaviour import job_in, last, save_held_midway
from tests.e2e.server import Guest, QemuHost, connected, ended, eventually
from virtrpc import AsyncClient, HostUnreachable
from virtrpc.v1 import types_pb2 as t

NEVER = 86_400.0

pytestmark = [pytest.mark.hypervisor, pytest.mark.faults]


@pytest.fixture(scope="module")
def host(daemon: Libvirtd) -> Iterator[QemuHost]:
    """A server that hears of changes by event or not at all: its audit is a day away."""
    with harness.qemu_host(daemon, table={"audit_seconds": NEVER}) as host:
        yield host
        host.server.assert_no_fault_of_its_own()


async def freshness(client: AsyncClient, host: QemuHost) -> t.Freshness.ValueType:
    """The host's."""
    return (await client.get_host(host=host.name)).state


async def until_stale(client: AsyncClient, host: QemuHost, guest: Guest) -> None:
    """Return once the host is STALE; its domains stay listed, STALE as well, and lists name the host."""

    async def is_stale() -> bool:
        return await freshness(client, host) == t.FRESHNESS_STALE

    await eventually(is_stale, "the host to be STALE")
    domain = await client.get_domain(guest.uuid)
    assert domain.state_observation.freshness == t.FRESHNESS_STALE
    told = await client.get_host(host=host.name)
    assert (told.reachable, told.unreachable.reason) == (False, "HOST_UNREACHABLE")


async def until_live(client: AsyncClient, host: QemuHost) -> None:
    """Return once the host is LIVE again."""

    async def is_live() -> bool:
        return await freshness(client, host) == t.FRESHNESS_LIVE

    await eventually(is_live, f"the host to be LIVE again, see {host.server.log_file}")


async def events_work(client: AsyncClient, host: QemuHost, guest: Guest) -> None:
    """What is done behind the server's back is told, by event."""
    with connected(host.daemon) as direct:
        domain = direct.lookupByUUIDString(guest.uuid)

        async def told(state: t.DomainState.ValueType) -> bool:
            return (await client.get_domain(guest.uuid)).state == state

        domain.suspend()
        await eventually(lambda: told(t.DOMAIN_STATE_PAUSED), "the suspend to be told")
        domain.resume()
        await eventually(lambda: told(t.DOMAIN_STATE_RUNNING), "the resume to be told")


def connect_anew(host: QemuHost, guest: Guest) -> None:
    """Our own connection broke with the daemon."""
    host.direct = guest.direct = libvirt.open(host.daemon.uri)


async def test_stopped_during_a_save(client: AsyncClient, host: QemuHost) -> None:
    """A daemon that answers nobody is given up as unreachable; once it goes on, the same save is followed to its success."""
    with host.guest() as guest:
        async with save_held_midway(client, guest.name) as save:
            with host.daemon.stopped():
                await until_stale(client, host, guest)
                assert (await client.get_job(job_id=save.job_id)).state == t.JOB_STATE_RUNNING
            await until_live(client, host)

            async def followed() -> bool:
                return (await job_in(client, save.job_id, t.JOB_STATE_RUNNING)).abortable

            await eventually(followed, "the save to be followed again")
        assert (await last(client, save.job_id)).state == t.JOB_STATE_SUCCEEDED
        assert (await client.get_domain(guest.uuid)).has_managed_save
        await ended(client.start_domain(guest.uuid))
        await events_work(client, host, guest)


async def test_killed_during_a_save(client: AsyncClient, host: QemuHost) -> None:
    """The new daemon calls the save off: without proof of success the job ends INTERRUPTED, and the guest is free for the next job."""
    with host.guest() as guest:
        async with save_held_midway(client, guest.name) as save:
            await asyncio.to_thread(host.daemon.kill)
            await until_stale(client, host, guest)
            with pytest.raises(HostUnreachable):
                await client.suspend_domain(guest.uuid)
        await asyncio.to_thread(host.daemon.start)
        connect_anew(host, guest)
        await until_live(client, host)
        job = await last(client, save.job_id)
        assert (job.state, job.error.reason) == (t.JOB_STATE_INTERRUPTED, "INTERRUPTED")
        assert "the domain is running" in job.evidence
        assert guest.state == libvirt.VIR_DOMAIN_RUNNING
        assert (await client.get_domain(guest.uuid)).has_managed_save == bool(guest.domain.hasManagedSaveImage())
        await events_work(client, host, guest)
        await ended(client.managed_save_domain(guest.uuid))


async def test_restarted_during_a_save(client: AsyncClient, host: QemuHost) -> None:
    """A daemon that is told to end hangs up at once and ends when the save has: the next one finds the guest off with its image, SUCCEEDED."""
    with host.guest() as guest:
        async with save_held_midway(client, guest.name) as save:
            pid = host.daemon.pid
            os.kill(pid, signal.SIGTERM)
            await until_stale(client, host, guest)
        await asyncio.to_thread(host.daemon.restart)
        connect_anew(host, guest)
        await until_live(client, host)
        job = await last(client, save.job_id)
        assert (job.state, guest.state) == (t.JOB_STATE_SUCCEEDED, libvirt.VIR_DOMAIN_SHUTOFF)
        assert guest.domain.hasManagedSaveImage()
        await ended(client.start_domain(guest.uuid))
        await events_work(client, host, guest)
