"""What docs/tier1-on-qemu.md lists: tier-1 rows, and forms of them, that QEMU cannot serve, called where something else can."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from weakref import WeakValueDictionary

from virtrpc import AsyncClient
from virtrpc.v1 import types_pb2 as t
from virtrpc_drivers.protocol import DriverSettings
from virtrpc_drivers.proxy import ProcessDriver
from virtrpc_drivers.sim.driver import SimDriver
from virtrpc_drivers.sim.hypervisor import SimHypervisor
from virtrpc_drivers.sim.options import from_uri
from virtrpc_server.app import App
from virtrpc_server.settings import Settings
from virtrpc_server.settings.hosts import HostSettings

GUARD = 60.0
EXTERNAL = "<domainsnapshot><name>outside</name><memory snapshot='external' file='/var/lib/libvirt/outside.mem'/></domainsnapshot>"


@asynccontextmanager
async def serving(directory: Path, **uris: str) -> AsyncIterator[AsyncClient]:
    """A client of a real server with these hosts, all LIVE. Simulated ones live in its process, so that they reach each other."""
    network: WeakValueDictionary[str, SimHypervisor] = WeakValueDictionary()

    def driver(settings: DriverSettings) -> SimDriver | ProcessDriver:
        if not settings.uri.startswith("sim:"):
            return ProcessDriver(settings)
        return SimDriver(settings, SimHypervisor(from_uri(settings.uri), network=network))

    hosts = tuple(HostSettings(name=name, uri=uri) for name, uri in uris.items())
    app = App(Settings(hosts=hosts, socket=directory / "s"), make_driver=driver)
    await app.start()
    try:
        async with AsyncClient(str(directory / "s")) as client, asyncio.timeout(GUARD):
            for name in uris:
                while (await client.get_host(host=name)).state != t.FRESHNESS_LIVE:  # noqa: ASYNC110 # it is another task's, behind a channel
                    await asyncio.sleep(0.01)
            yield client
    finally:
        await app.stop()


async def test_a_changed_definition_is_told(tmp_path: Path) -> None:
    """virDomainIsUpdated: a running domain whose stored definition was replaced says so."""
    async with serving(tmp_path, a="sim://a/?domains=1&running=1") as client:
        assert (await client.get_domain("guest-1")).updated is False
        stored = (await client.get_domain_xml("guest-1", inactive=True)).xml
        job = await client.define_domain(host="a", xml=stored.replace("</name>", "</name><description>another</description>"))
        await job.wait()
        assert (await client.get_domain("guest-1")).updated is True


async def test_a_revert_to_an_external_snapshot(tmp_path: Path) -> None:
    """virDomainRevertToSnapshot: a domain goes back to a snapshot whose memory lies in a file of its own."""
    async with serving(tmp_path, a="sim://a/?domains=1&running=1&save_seconds=0.05") as client:
        await (await client.create_snapshot("guest-1", xml=EXTERNAL)).wait()
        assert (await client.get_snapshot("guest-1", name="outside")).external is True
        await (await client.destroy_domain("guest-1")).wait()
        await (await client.revert_to_snapshot("guest-1", name="outside")).wait()
        back = await client.get_domain("guest-1")
        assert (back.state, back.state_reason) == (t.DOMAIN_STATE_RUNNING, "from_snapshot")


async def test_io_errors_are_counted(tmp_path: Path) -> None:
    """virDomainBlockStats: the count of I/O errors is told where the hypervisor has one."""
    async with serving(tmp_path, a="test:///default") as client:
        while not (stats := (await client.get_block_stats("test")).stats).devices:  # noqa: ASYNC110 # the sampler is behind a channel
            await asyncio.sleep(0.01)
        assert stats.devices[0].HasField("errors")


async def test_a_snapshot_is_deleted_beside_a_save(tmp_path: Path) -> None:
    """virDomainSnapshotDelete: where the hypervisor needs no job for it, it does not wait for the one that runs."""
    async with serving(tmp_path, a="sim://a/?domains=1&running=1&shape=vz&save_seconds=60") as client:
        await (await client.create_snapshot("guest-1", xml="<domainsnapshot><name>old</name></domainsnapshot>", disk_only=True)).wait()
        save = await client.managed_save_domain("guest-1")
        await (await client.delete_snapshot("guest-1", name="old")).wait()
        assert (await client.get_job(job_id=save.job_id)).state == t.JOB_STATE_RUNNING
        save.close()


async def test_a_migration_is_one_job(tmp_path: Path) -> None:
    """virDomainMigrate's inner calls, Begin3Params, Perform3Params and Confirm3Params: one job does all that they do."""
    async with serving(tmp_path, a="sim://a/?domains=1&running=1&migrate_seconds=0.05", b="sim://b/?domains=0&running=0") as client:
        migratable = await client.get_domain_xml("guest-1", migratable=True)
        assert "guest-1" in migratable.xml
        settings = t.MigrationSettings(host="b", persist_destination=True, undefine_source=True)
        ended = await (await client.migrate_domain("guest-1", settings=settings)).wait()
        assert ended.migrate_domain_result.host == "b"
        assert [domain.host async for domain in client.list_domains()] == ["b"]
