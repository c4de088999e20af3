"""What users of a libvirt service do first, as RPCs against libvirt's own mock: lifecycle, watched changes, properties, snapshots, errors.

The scenarios are those of the nearest peer's test list (libvirt-dbus: connections, domains, snapshots). Each test has a mock of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.e2e.server import ended, eventually
from tests.test_tier1_elsewhere import serving
from virtrpc import AlreadyExists, AsyncClient, InvalidArgument, NotFound, Unsupported, WrongState
from virtrpc.v1 import job_pb2 as j
from virtrpc.v1 import query_pb2 as q
from virtrpc.v1 import types_pb2 as t

TEST = "mock/test"
UUID = "6695eb01-f6a4-8304-79aa-97f2502e193f"
"""Of the one domain that the mock begins with."""
NEW = "<domain type='test'><name>new</name><memory unit='MiB'>64</memory><vcpu>1</vcpu><os><type>hvm</type></os></domain>"
SNAPSHOT = "<domainsnapshot><name>my_snapshot</name><description>as it was</description></domainsnapshot>"


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[AsyncClient]:
    """A client of a server whose one host is a fresh mock."""
    async with serving(tmp_path, mock="test:///default") as client:
        yield client


class Watcher:
    """Everything that a watcher of the mock is told, in order."""

    def __init__(self, client: AsyncClient) -> None:
        self.states: list[tuple[str, t.DomainState.ValueType, str]] = []
        self.removed: list[str] = []
        self._client = client
        self._changed = asyncio.Condition()
        self._task = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        async for batch in self._client.watch_domains():
            async with self._changed:
                for change in batch.changes:
                    if change.HasField("removed"):
                        self.removed.append(change.removed.domain.name)
                    else:
                        self.states.append((change.current.name, change.current.state, change.current.state_reason))
                self._changed.notify_all()

    async def told(self, name: str, state: t.DomainState.ValueType, reason: str) -> None:
        """Wait until a domain was told in this state, for this reason."""
        async with self._changed:
            await self._changed.wait_for(lambda: (name, state, reason) in self.states)

    async def told_gone(self, name: str) -> None:
        """Wait until a domain was told to be gone."""
        async with self._changed:
            await self._changed.wait_for(lambda: name in self.removed)

    async def close(self) -> None:
        """Leave."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


@pytest.fixture
async def watcher(client: AsyncClient) -> AsyncIterator[Watcher]:
    """A watcher that has been told the present state."""
    watcher = Watcher(client)
    await watcher.told("test", t.DOMAIN_STATE_RUNNING, "unknown")
    yield watcher
    await watcher.close()


# Connections


async def test_the_one_domain_is_listed(client: AsyncClient) -> None:
    """A fresh mock has one domain, and the listing has that one."""
    assert [(domain.name, domain.uuid) async for domain in client.list_domains()] == [("test", UUID)]


async def test_a_domain_is_found_by_id_name_and_uuid(client: AsyncClient) -> None:
    """The three look-ups find the same domain."""
    by_name = await client.get_domain(t.DomainRef(host="mock", name="test"))
    by_uuid = await client.get_domain(t.DomainRef(uuid=UUID.upper()))
    by_id = await client.get_domain_by_id(host_domain_id=q.HostDomainId(host="mock", id=by_name.id))
    assert {found.uuid for found in (by_name, by_uuid, by_id)} == {UUID}


async def test_a_transient_domain_starts_at_once(client: AsyncClient, watcher: Watcher) -> None:
    """Creating a domain starts it, and a watcher is told that it was booted."""
    job = await ended(client.create_domain(host="mock", xml=NEW))
    assert job.domain_result.domain.persistent is False
    await watcher.told("new", t.DOMAIN_STATE_RUNNING, "booted")


async def test_a_definition_adds_a_domain(client: AsyncClient, watcher: Watcher) -> None:
    """Defining a domain adds one that is off, and a watcher is told of it."""
    job = await ended(client.define_domain(host="mock", xml=NEW))
    assert job.define_domain_result.created is True
    await watcher.told("new", t.DOMAIN_STATE_SHUTOFF, "unknown")
    assert (await client.get_domain("mock/new")).persistent is True


async def test_a_connection_says_what_it_is(client: AsyncClient) -> None:
    """Host name, versions, hardware, capabilities and SMBIOS data, as far as the mock has them."""
    host = await client.get_host(host="mock", include_capabilities_xml=True, include_sysinfo_xml=True)
    assert (host.hypervisor, host.uri, host.state_updates) == ("TEST", "test:///default", q.STATE_UPDATES_PUSHED)
    assert host.hostname
    assert [part.isdigit() for part in host.libvirt_version.split(".")] == [True] * 3
    assert host.node.cpus > 0
    assert "<capabilities>" in host.capabilities_xml


# Domains


async def test_the_properties_of_a_domain(client: AsyncClient) -> None:
    """Every property of a running domain is told, each with its type, and the XML is its own."""
    domain = await client.get_domain(TEST)
    assert (domain.active, domain.persistent, domain.autostart, domain.updated, domain.os_type) == (True, True, False, False, "hvm")
    assert domain.id > 0
    assert f"<uuid>{UUID}</uuid>" in (await client.get_domain_xml(TEST)).xml


async def test_a_whole_life(client: AsyncClient) -> None:
    """Reboot, shutdown, start, destroy and undefine, one after the other; then there is no such domain."""
    for verb in (client.reboot_domain, client.shutdown_domain, client.start_domain, client.destroy_domain, client.undefine_domain):
        await ended(verb(TEST))
    with pytest.raises(NotFound):
        await client.get_domain(TEST)


async def test_a_suspended_domain_is_told_paused(client: AsyncClient, watcher: Watcher) -> None:
    """Suspending pauses a domain for its user, and a watcher is told."""
    await ended(client.suspend_domain(TEST))
    assert (await client.get_domain(TEST)).state == t.DOMAIN_STATE_PAUSED
    await watcher.told("test", t.DOMAIN_STATE_PAUSED, "user")


async def test_a_resumed_domain_is_told_running(client: AsyncClient, watcher: Watcher) -> None:
    """Resuming lets it run on, and a watcher is told that it was unpaused."""
    await ended(client.suspend_domain(TEST))
    await ended(client.resume_domain(TEST))
    assert (await client.get_domain(TEST)).state == t.DOMAIN_STATE_RUNNING
    await watcher.told("test", t.DOMAIN_STATE_RUNNING, "unpaused")


async def test_a_shut_down_domain_is_told_off(client: AsyncClient, watcher: Watcher) -> None:
    """Shutting down ends with the domain off, and a watcher is told that it was shut down."""
    await ended(client.shutdown_domain(TEST))
    assert (await client.get_domain(TEST)).state == t.DOMAIN_STATE_SHUTOFF
    await watcher.told("test", t.DOMAIN_STATE_SHUTOFF, "shutdown")


async def test_an_undefined_domain_is_told_gone(client: AsyncClient, watcher: Watcher) -> None:
    """Undefining a domain that is off removes it, and a watcher is told."""
    await ended(client.shutdown_domain(TEST))
    await ended(client.undefine_domain(TEST))
    await watcher.told_gone("test")


async def test_a_saved_domain_has_an_image_until_it_is_removed(client: AsyncClient, watcher: Watcher) -> None:
    """A managed save stops the domain and leaves an image; removing that is seen too; a watcher is told that it was saved."""
    await ended(client.managed_save_domain(TEST))
    saved = await client.get_domain(TEST)
    assert (saved.state, saved.has_managed_save) == (t.DOMAIN_STATE_SHUTOFF, True)
    await ended(client.remove_managed_save(TEST))
    assert (await client.get_domain(TEST)).has_managed_save is False
    await watcher.told("test", t.DOMAIN_STATE_SHUTOFF, "saved")


async def test_the_processors_of_a_domain_and_where_they_may_run(client: AsyncClient) -> None:
    """Each virtual CPU is told with the host's CPUs that it may run on."""

    async def told() -> list[q.Vcpu]:
        return [vcpu async for vcpu in client.list_vcpus(TEST)]

    await eventually(told, "the virtual CPUs to be read")
    assert [(vcpu.number, vcpu.affinity) for vcpu in await told()] == [(0, "0-7"), (1, "0-7")]


async def test_a_domain_takes_a_snapshot(client: AsyncClient) -> None:
    """A snapshot by XML is the current one, is found by name, and is listed."""
    job = await ended(client.create_snapshot(TEST, xml=SNAPSHOT))
    assert job.create_snapshot_result.snapshot.name == "my_snapshot"
    assert (await client.get_current_snapshot(TEST)).name == "my_snapshot"
    assert (await client.get_snapshot(TEST, name="my_snapshot")).description == "as it was"
    assert [snapshot.name async for snapshot in client.list_snapshots(TEST)] == ["my_snapshot"]


# Snapshots


@pytest.fixture
async def snapshot(client: AsyncClient) -> str:
    """The name of a snapshot of the mock's domain."""
    await ended(client.create_snapshot(TEST, xml=SNAPSHOT))
    return "my_snapshot"


async def test_a_snapshot_is_deleted(client: AsyncClient, snapshot: str) -> None:
    """A deleted snapshot is neither found nor current."""
    await ended(client.delete_snapshot(TEST, name=snapshot))
    with pytest.raises(NotFound):
        await client.get_snapshot(TEST, name=snapshot)
    with pytest.raises(NotFound):
        await client.get_current_snapshot(TEST)


async def test_a_snapshot_knows_its_family(client: AsyncClient, snapshot: str) -> None:
    """The first has no parent; one that is taken after it is its child, and then the current one."""
    await ended(client.create_snapshot(TEST, definition=j.SnapshotDefinition(name="child")))
    first, child = await client.get_snapshot(TEST, name=snapshot), await client.get_snapshot(TEST, name="child")
    assert (first.HasField("parent"), first.children, first.current) == (False, 1, False)
    assert (child.parent, child.children, child.current) == (snapshot, 0, True)
    assert [found.name async for found in client.list_snapshots(TEST, parent=snapshot)] == ["child"]


async def test_a_snapshot_has_its_xml(client: AsyncClient, snapshot: str) -> None:
    """The XML of a snapshot names it and its state."""
    xml = (await client.get_snapshot_xml(TEST, name=snapshot)).xml
    assert f"<name>{snapshot}</name>" in xml
    assert "<state>running</state>" in xml


async def test_a_domain_goes_back_to_a_snapshot(client: AsyncClient, watcher: Watcher, snapshot: str) -> None:
    """A domain that was shut down runs again after a revert, and a watcher is told where from."""
    await ended(client.shutdown_domain(TEST))
    await ended(client.revert_to_snapshot(TEST, name=snapshot))
    assert (await client.get_domain(TEST)).state == t.DOMAIN_STATE_RUNNING
    await watcher.told("test", t.DOMAIN_STATE_RUNNING, "from_snapshot")


# Errors


async def test_what_is_not_there_is_not_found(client: AsyncClient) -> None:
    """Domains, snapshots and jobs that nobody has."""
    for call in (
        client.get_domain("mock/nobody"),
        ended(client.suspend_domain("mock/nobody")),
        client.get_snapshot(TEST, name="nobody"),
        client.get_job(job_id="nobody"),
    ):
        with pytest.raises(NotFound):
            await call


async def test_what_makes_no_sense_now_is_refused(client: AsyncClient) -> None:
    """Starting what runs, resuming what is not paused, and saving what is off, with the state in the refusal."""
    for verb in (client.start_domain, client.resume_domain):
        with pytest.raises(WrongState, match="running"):
            await ended(verb(TEST))
    await ended(client.shutdown_domain(TEST))
    with pytest.raises(WrongState, match="shutoff"):
        await ended(client.managed_save_domain(TEST))


async def test_what_the_mock_lacks_is_unsupported(client: AsyncClient) -> None:
    """A verb that libvirt's driver lacks is refused before there is a job."""
    with pytest.raises(Unsupported):
        await ended(client.detach_device(TEST, xml="<disk/>"))
    assert [job async for job in client.list_jobs()] == []


async def test_bad_definitions_change_nothing(client: AsyncClient) -> None:
    """What is no XML, and a name that another domain has, are refused; the listing stays as it was."""
    with pytest.raises(InvalidArgument):
        await ended(client.define_domain(host="mock", xml="<domain type='test'><name>x"))
    with pytest.raises(AlreadyExists):
        await ended(client.define_domain(host="mock", xml=NEW.replace("new", "test")))
    assert [domain.name async for domain in client.list_domains()] == ["test"]
