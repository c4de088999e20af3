"""A destination whose daemon dies in the middle of a migration."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import libvirt
import pytest

from tests.beds.daemon import Libvirtd
from tests.e2e.server import GUARD, HostTable, QemuHost, Server, connected, ended
from virtrpc import AsyncClient, FailedPrecondition
from virtrpc.v1 import types_pb2 as t

pytestmark = [pytest.mark.hypervisor, pytest.mark.faults]

MIB = 1 << 20
DATA = "tcp://127.0.0.1"


@pytest.fixture
async def pair(daemon: Libvirtd) -> AsyncIterator[tuple[QemuHost, Libvirtd, AsyncClient]]:
    """The host that guests are moved from, the daemon that they are moved to, and a client of the server with both."""
    with Libvirtd("second") as other:
        hosts: dict[str, HostTable] = {name: {"uri": bed.uri, "migration_uri": bed.tcp_uri} for name, bed in (("first", daemon), ("second", other))}
        with Server(hosts) as server, connected(daemon) as direct:
            server.wait_live()
            async with server.client() as client:
                yield QemuHost(server, daemon, direct, "first"), other, client


async def test_a_daemon_that_is_killed(pair: tuple[QemuHost, Libvirtd, AsyncClient]) -> None:
    """The job fails with libvirt's words, the guest runs on at the source, a plan says what is wrong; with the daemon back it can be moved."""
    first, second, client = pair
    with first.guest(memory_mib=128, fill_mib=40) as guest:
        guest.wait_for("FILLED")
        settings = t.MigrationSettings(host="second", migrate_uri=DATA, bandwidth_bytes_per_second=4 * MIB)
        handle = await client.migrate_domain(f"first/{guest.uuid}", settings=settings)
        async with asyncio.timeout(GUARD):
            async for job in handle:
                if job.phase == t.JOB_PHASE_MIGRATION_COPY and job.progress.processed_bytes:
                    break
            second.kill()
            with pytest.raises(FailedPrecondition) as caught:
                await handle.wait()
        assert caught.value.message
        assert guest.state == libvirt.VIR_DOMAIN_RUNNING
        assert (await client.get_domain(f"first/{guest.uuid}")).state == t.DOMAIN_STATE_RUNNING
        plan = await client.plan_migration(f"first/{guest.uuid}", settings=settings)
        assert {found.host for found in plan.obstacles if found.fatal} == {"second"}
        second.start()
        first.server.wait_live("second")
        await ended(client.migrate_domain(f"first/{guest.uuid}", settings=t.MigrationSettings(host="second", migrate_uri=DATA)))
        with connected(second) as there:
            assert there.lookupByUUIDString(guest.uuid).state()[0] == libvirt.VIR_DOMAIN_RUNNING
