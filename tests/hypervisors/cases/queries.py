"""Cases: what is answered from the cache."""

from __future__ import annotations

from xml.etree import ElementTree

from tests.e2e.server import eventually
from tests.hypervisors.case import case
from tests.hypervisors.stage import Stage, all_of
from virtrpc.v1 import query_pb2 as q
from virtrpc.v1 import types_pb2 as t


@case("QueryService/GetDomain")
async def get_domain(s: Stage) -> None:
    """A domain is found by name and by uuid, LIVE, with its state and sizes; its full view has the devices that its XML has."""
    ref = await s.running()
    await s.until(lambda domain: domain.state_observation.freshness == t.FRESHNESS_LIVE, "its state to be LIVE")
    domain = await s.client.get_domain(f"{s.host}/{s.name}")
    assert (f"{domain.host}/{domain.uuid}", domain.state, domain.active) == (ref, t.DOMAIN_STATE_RUNNING, True)
    assert domain.memory_bytes > 0
    full, xml = await s.client.get_domain(ref, view=t.DOMAIN_VIEW_FULL), (await s.client.get_domain_xml(ref)).xml
    told = {"disk": len(full.disks), "interface": len(full.interfaces), "graphics": len(full.graphics)}
    assert told == {tag: len(ElementTree.fromstring(xml).findall(f"devices/{tag}")) for tag in told}


@case("QueryService/ListDomains")
async def list_domains(s: Stage) -> None:
    """The listing has the domain."""
    await s.running()
    assert s.name in [domain.name async for domain in s.client.list_domains()]


@case("QueryService/GetDomainXml")
async def get_domain_xml(s: Stage) -> None:
    """The XML is the domain's own."""
    ref = await s.running()
    assert f"<name>{s.name}</name>" in (await s.client.get_domain_xml(ref)).xml


@case("QueryService/ListVcpus", lambda s: all_of(s.client.list_vcpus(s.ref)))
async def list_vcpus(s: Stage) -> None:
    """The virtual CPUs of a running domain are told, from number 0."""
    ref = await s.running()

    async def told() -> bool:
        return bool(await all_of(s.client.list_vcpus(ref)))

    await eventually(told, "the virtual CPUs to be read")
    assert (await all_of(s.client.list_vcpus(ref)))[0].number == 0


@case("QueryService/GetBlockStats", lambda s: s.client.get_block_stats(s.ref))
async def get_block_stats(s: Stage) -> None:
    """Statistics of disks are sampled."""
    ref = await s.running()

    async def sampled() -> bool:
        return (await s.client.get_block_stats(ref)).stats.observation.freshness == t.FRESHNESS_LIVE

    await eventually(sampled, "block statistics to be sampled")


@case("QueryService/GetInterfaceStats", lambda s: s.client.get_interface_stats(s.ref))
async def get_interface_stats(s: Stage) -> None:
    """Statistics of interfaces are sampled."""
    ref = await s.running()

    async def sampled() -> bool:
        return (await s.client.get_interface_stats(ref)).stats.observation.freshness == t.FRESHNESS_LIVE

    await eventually(sampled, "interface statistics to be sampled")


@case("QueryService/GetMemoryStats", lambda s: s.client.get_memory_stats(s.ref))
async def get_memory_stats(s: Stage) -> None:
    """Statistics of memory are sampled."""
    ref = await s.running()

    async def sampled() -> bool:
        return (await s.client.get_memory_stats(ref)).stats.observation.freshness == t.FRESHNESS_LIVE

    await eventually(sampled, "memory statistics to be sampled")


@case("QueryService/ListDomainStats")
async def list_domain_stats(s: Stage) -> None:
    """The domain is in the list of statistics, with the state that it has."""
    await s.running()
    found = {stats.domain.name: stats.state async for stats in s.client.list_domain_stats()}
    assert found[s.name] == t.DOMAIN_STATE_RUNNING


@case("QueryService/WatchDomains")
async def watch_domains(s: Stage) -> None:
    """A watcher is told the present state, and then of a change, whether the hypervisor announces it or is polled."""
    ref = await s.running()
    uuid = ref.partition("/")[2]
    caught_up = False
    async for batch in s.client.watch_domains(filter=t.DomainFilter(uuids=[uuid])):
        if batch.caught_up and not caught_up:
            caught_up = True
            await s.done(s.client.destroy_domain(ref))
        if any(change.current.state == t.DOMAIN_STATE_SHUTOFF for change in batch.changes):
            return
    raise AssertionError("the watch ended")


@case("QueryService/ListHosts")
async def list_hosts(s: Stage) -> None:
    """The host is listed, LIVE."""
    assert (s.host, t.FRESHNESS_LIVE) in [(host.name, host.state) async for host in s.client.list_hosts()]


@case("QueryService/GetHost")
async def get_host(s: Stage) -> None:
    """The host says what it is, which RPCs it has, and whether its state is pushed or polled."""
    host = await s.client.get_host(host=s.host)
    assert host.hypervisor
    assert host.state_updates in (q.STATE_UPDATES_PUSHED, q.STATE_UPDATES_POLLED)
    assert {row.method.rpartition("/")[2] for row in host.verbs if row.supported} >= {"StartDomain", "DestroyDomain"}
