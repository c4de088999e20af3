"""The real server with hypervisors that need no guests: libvirt's own mock, and the simulated one in a driver process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.e2e.server import Server, ended
from virtrpc import AsyncClient, Cancelled, Unsupported, WrongState
from virtrpc.v1 import job_pb2 as j
from virtrpc.v1 import query_pb2 as q
from virtrpc.v1 import types_pb2 as t

CPU = "<cpu><mhz>2000</mhz><model>mock</model><active>2</active><nodes>1</nodes><sockets>1</sockets><cores>2</cores><threads>1</threads></cpu>"
DOMAIN = "<domain type='test'><name>many-{number:03}</name><memory>8192</memory><os><type>hvm</type></os></domain>"
MANY = 250


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with libvirt's mock, the mock with many domains, and a simulated hypervisor."""
    node: Path = tmp_path_factory.mktemp("mock") / "node.xml"
    domains = "".join(DOMAIN.format(number=number) for number in range(MANY))
    node.write_text(f"<node>{CPU}<memory>8388608</memory>{domains}</node>")
    hosts = {"mock": "test:///default", "many": f"test://{node}", "sim": "sim:///?domains=20&running=2&save_seconds=30&progress_seconds=0.05"}
    with Server(hosts) as server:
        server.wait_live()
        yield server


@pytest.fixture
async def client(server: Server) -> AsyncIterator[AsyncClient]:
    """Its client."""
    async with server.client() as client:
        yield client


async def test_the_mock_takes_verbs(client: AsyncClient) -> None:
    """What the mock has is done by the same verbs, and seen by the same queries."""
    for verb, state in (
        (client.suspend_domain, t.DOMAIN_STATE_PAUSED),
        (client.resume_domain, t.DOMAIN_STATE_RUNNING),
        (client.managed_save_domain, t.DOMAIN_STATE_SHUTOFF),
        (client.start_domain, t.DOMAIN_STATE_RUNNING),
    ):
        job = await ended(verb("mock/test"))
        assert job.domain_result.domain.state == (await client.get_domain("mock/test")).state == state
    with pytest.raises(WrongState):
        await ended(client.start_domain("mock/test"))


async def test_the_mock_keeps_snapshots(client: AsyncClient) -> None:
    """Snapshots are made, listed as a tree, gone back to and deleted."""
    for name in ("one", "two"):
        await ended(client.create_snapshot("mock/test", definition=j.SnapshotDefinition(name=name)))
    assert [(snapshot.name, snapshot.parent) async for snapshot in client.list_snapshots("mock/test")] == [("one", ""), ("two", "one")]
    await ended(client.revert_to_snapshot("mock/test", name="one"))
    assert (await client.get_current_snapshot("mock/test")).name == "one"
    await ended(client.delete_snapshot("mock/test", name="one", children=True))
    assert await client.list_snapshots("mock/test").all() == []


async def test_what_the_mock_lacks_is_refused_before_a_job_is_made(client: AsyncClient) -> None:
    """A verb that a hypervisor lacks is UNSUPPORTED_BY_HYPERVISOR, is not supported by GetHost's table, and leaves no job."""
    verbs = {verb.method: verb.supported for verb in (await client.get_host(host="mock")).verbs}
    before = len(await client.list_jobs().all())
    for method, verb in (
        ("DetachDevice", client.detach_device("mock/test", xml="<disk><target dev='vda'/></disk>")),
        ("MigrateDomain", client.migrate_domain("mock/test", settings=t.MigrationSettings(uri="qemu+tcp://127.0.0.1/system"))),
    ):
        assert not verbs[f"virtrpc.v1.JobService/{method}"]
        with pytest.raises(Unsupported) as caught:
            await verb
        assert caught.value.reason == "UNSUPPORTED_BY_HYPERVISOR"
    assert len(await client.list_jobs().all()) == before


async def test_many_domains_come_in_pages(client: AsyncClient) -> None:
    """A page holds 100 unless asked otherwise, in order of host and name, and statistics come in the same pages."""
    pages = [page async for page in client.list_domains(filter=t.DomainFilter(hosts=["many"])).pages()]
    assert [len(page.domains) for page in pages] == [100, 100, 50]
    assert [domain.name for page in pages for domain in page.domains] == [f"many-{number:03}" for number in range(MANY)]
    stats = client.list_domain_stats(filter=t.DomainFilter(hosts=["many"], name_glob="many-0*"), groups=[q.STATS_GROUP_CPU], page_size=30)
    assert [len(page.stats) async for page in stats.pages()] == [30, 30, 30, 10]


async def test_a_simulated_hypervisor_in_a_driver_process(client: AsyncClient, server: Server) -> None:
    """The simulated hypervisor runs in a process of its own, and its saves report progress and can be cancelled."""
    host = await client.get_host(host="sim")
    assert (host.driver_process.driver, host.domains, host.active_domains) == ("sim", 20, 2)
    assert host.driver_process.pid not in (0, server.pid)
    guest = (await client.list_domains(filter=t.DomainFilter(hosts=["sim"], active=True)).all())[0]
    save = await client.managed_save_domain(guest)
    async for job in save:
        if job.progress.processed_bytes:
            break
    assert (await save.cancel()).outcome == j.CANCEL_OUTCOME_ABORTING
    with pytest.raises(Cancelled):
        await save.wait()
    assert (await client.get_domain(guest)).state == t.DOMAIN_STATE_RUNNING
