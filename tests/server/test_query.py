"""QueryService below the transport: every answer is there at once, out of the cache."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any, TypeVar, cast

import pytest

from tests import virtual_time
from tests.server.fake_driver import FakeDriver, listing, reading, stamp, uuid
from tests.server.world import all_seen
from virtrpc.v1 import devices_pb2, query_pb2, types_pb2
from virtrpc_drivers import support
from virtrpc_drivers.values import (
    BlockStats,
    CpuStats,
    DiskConfig,
    DiskPlace,
    GraphicsConfig,
    InterfaceConfig,
    InterfaceStats,
    MemoryStats,
    Missing,
    Slot,
    State,
    StatsReading,
    VcpuStats,
    VerbSupport,
)
from virtrpc_server.domains import Domains
from virtrpc_server.errors import Refusal
from virtrpc_server.heartbeats import Heartbeats
from virtrpc_server.hosts import Host, HostConfig, Hosts
from virtrpc_server.jobs import Jobs
from virtrpc_server.lookup import Lookup
from virtrpc_server.paging import Pager
from virtrpc_server.query import QueryService
from virtrpc_server.store import MemoryStore
from virtrpc_server.watching import Watches

T = TypeVar("T")
Ref = types_pb2.DomainRef
LIVE, STALE, UNKNOWN = types_pb2.FRESHNESS_LIVE, types_pb2.FRESHNESS_STALE, types_pb2.FRESHNESS_UNKNOWN


class Bed:
    """Hosts a and b, up and listed, and what a test reads into them."""

    def __init__(self, *names: str) -> None:
        self.domains = Domains()
        self.drivers = {name: FakeDriver() for name in names or ("a", "b")}
        self.hosts = Hosts([self._host(name, driver) for name, driver in self.drivers.items()])
        lookup = Lookup(self.hosts, self.domains)
        jobs = Jobs(self.hosts, self.domains, MemoryStore())
        watches = Watches(jobs, lookup, all_seen(jobs), Heartbeats())
        self.query = QueryService(self.hosts, self.domains, lookup, Pager(), watches)

    def _host(self, name: str, driver: FakeDriver) -> Host:
        config = HostConfig(name, f"fake+ssh://root:secret@{name}/system", audit_seconds=1e6)
        return Host(config, driver, self.domains, clock=virtual_time.wall)

    async def __aenter__(self) -> Bed:
        for host in self.hosts:
            await host.start(lambda _host, _report: None, lambda _host: None, lambda _spans: None)
        await asyncio.sleep(1.0)
        return self

    async def __aexit__(self, *_: object) -> None:
        for host in self.hosts:
            await host.close()

    def read(self, number: int, name: str = "", host: str = "a", **fields: Any) -> None:
        """A domain as a read that begins now sees it."""
        self.domains.read(host, reading(number, asyncio.get_running_loop().time(), name, **fields))

    def sampled(self, number: int, **groups: Any) -> None:
        """A sample that begins now, on host a."""
        self.domains.sampled("a", StatsReading(uuid=uuid(number), stamp=stamp(asyncio.get_running_loop().time()), **groups))

    def ask(self, method: str, request: Any) -> Any:
        """What a method answers; it must not wait for anything."""
        return at_once(getattr(self.query, method)(request, None))

    def refused(self, method: str, request: Any) -> str:
        """Why a method refuses."""
        with pytest.raises(Refusal) as caught:
            self.ask(method, request)
        return caught.value.problem.reason


def at_once(handler: Coroutine[Any, Any, T]) -> T:
    """The result of a handler that waits for nothing: it may let others have their turn, which is what a bare yield is."""
    try:
        while handler.send(None) is None:
            pass
    except StopIteration as end:
        return cast("T", end.value)
    handler.close()
    pytest.fail("a query waited")


def on_bed(test: Callable[[Bed], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Run a test on a bed of its own, on virtual time."""

    async def work() -> None:
        async with Bed() as bed:
            await test(bed)

    def run() -> None:
        virtual_time.run(work())

    run.__doc__, run.__name__ = test.__doc__, test.__name__
    return run


@on_bed
async def test_a_domain_is_told_with_its_groups_and_their_times(bed: Bed) -> None:
    """Identity, state and configuration, each with when it was read, in the contract's units."""
    bed.read(1, "web", reason="booted", memory_bytes=1 << 30, cpu_time_ns=1_500_000_000, has_managed_save=False, os_type="hvm", vcpus_live=2)
    domain = bed.ask("GetDomain", query_pb2.GetDomainRequest(domain=Ref(name="web"))).domain
    assert (domain.host, domain.uuid, domain.name, domain.id) == ("a", uuid(1), "web", 1)
    assert (domain.state, domain.state_reason, domain.active) == (types_pb2.DOMAIN_STATE_RUNNING, "booted", True)
    assert (domain.cpu_time.seconds, domain.cpu_time.nanos, domain.memory_bytes) == (1, 500_000_000, 1 << 30)
    assert (domain.os_type, domain.vcpus.live) == ("hvm", 2)
    assert not domain.vcpus.HasField("config")
    assert domain.state_observation.freshness == domain.configuration_observation.freshness == LIVE
    assert domain.state_observation.observed_time.seconds == int(virtual_time.wall())
    assert bed.ask("GetDomain", query_pb2.GetDomainRequest(host_domain_id=query_pb2.HostDomainId(id=1))).domain == domain


@on_bed
async def test_what_was_never_read_is_unset(bed: Bed) -> None:
    """UNKNOWN and no zeros."""
    bed.domains.listed("a", listing(1.0, [1]))
    domain = bed.ask("GetDomain", query_pb2.GetDomainRequest(domain=Ref(uuid=uuid(1)))).domain
    assert domain.state_observation == types_pb2.Observation(freshness=UNKNOWN)
    assert domain.state == types_pb2.DOMAIN_STATE_UNSPECIFIED
    assert not domain.HasField("active")


@on_bed
async def test_a_lost_host_keeps_its_domains_stale(bed: Bed) -> None:
    """The last values stand, lists name the host, and the other host is as it was."""
    bed.read(1, "web")
    bed.read(2, "db", host="b")
    bed.drivers["a"].down("no route")
    answer = bed.ask("ListDomains", query_pb2.ListDomainsRequest())
    assert [(domain.name, domain.state_observation.freshness) for domain in answer.domains] == [("web", STALE), ("db", LIVE)]
    assert [(host.host, host.freshness, host.reason, host.message) for host in answer.unreachable] == [("a", STALE, "HOST_UNREACHABLE", "no route")]
    only_b = bed.ask("ListDomains", query_pb2.ListDomainsRequest(filter=types_pb2.DomainFilter(hosts=["b"])))
    assert not only_b.unreachable


@on_bed
async def test_lists_come_in_pages_by_host_and_name(bed: Bed) -> None:
    """In order, each domain once, and filtered."""
    for number, name in enumerate(["c", "a", "b"]):
        bed.read(number, name)
        bed.read(number + 10, name, host="b", state=State.SHUTOFF)
    seen = []
    token = ""
    for turn in itertools.count():
        answer = bed.ask("ListDomains", query_pb2.ListDomainsRequest(page_size=2, page_token=token))
        seen += [f"{domain.host}/{domain.name}" for domain in answer.domains]
        token = answer.next_page_token
        if not token:
            assert turn == 2
            break
    assert seen == ["a/a", "a/b", "a/c", "b/a", "b/b", "b/c"]
    off = bed.ask("ListDomains", query_pb2.ListDomainsRequest(filter=types_pb2.DomainFilter(active=False, name_glob="[!b]")))
    assert not off.domains
    assert bed.refused("ListDomains", query_pb2.ListDomainsRequest(page_token="elsewhere")) == "PAGE_TOKEN_INVALID"
    assert bed.refused("ListDomains", query_pb2.ListDomainsRequest(page_size=-1)) == "INVALID_ARGUMENT"


@on_bed
async def test_a_renamed_domain_is_not_listed_twice(bed: Bed) -> None:
    """The list is in order of the names of now."""
    bed.read(1, "a")
    await asyncio.sleep(1.0)
    bed.read(1, "z")
    bed.read(2, "m")
    assert [domain.name for domain in bed.ask("ListDomains", query_pb2.ListDomainsRequest()).domains] == ["m", "z"]


@on_bed
async def test_the_forms_of_the_xml(bed: Bed) -> None:
    """Running and stored; a domain that is off has but the one."""
    bed.read(1, "on", xml="<live/>", inactive_xml="<stored/>", migratable_xml="<portable/>")
    bed.read(2, "off", state=State.SHUTOFF, xml="<stored/>")

    def xml(name: str, **form: bool) -> tuple[str, bool]:
        answer = bed.ask("GetDomainXml", query_pb2.GetDomainXmlRequest(domain=Ref(name=name), **form))
        assert answer.observation.freshness == LIVE
        assert answer.domain.name == name
        return answer.xml, answer.inactive

    assert xml("on") == ("<live/>", False)
    assert xml("on", inactive=True) == ("<stored/>", True)
    assert xml("on", migratable=True) == ("<portable/>", False)
    assert xml("off") == xml("off", inactive=True) == ("<stored/>", True)


@on_bed
async def test_forms_of_the_xml_that_there_are_not(bed: Bed) -> None:
    """A transient domain has no stored definition, some hypervisors no migratable form, and what was not read is not made up."""
    bed.read(1, "transient", persistent=False)
    bed.read(2, "partly")
    bed.domains.listed("a", listing(asyncio.get_running_loop().time(), [1, 2, 3], {1: "transient", 2: "partly", 3: "unread"}))

    def refused(name: str, **form: bool) -> str:
        return bed.refused("GetDomainXml", query_pb2.GetDomainXmlRequest(domain=Ref(name=name), **form))

    assert refused("transient", inactive=True) == "WRONG_STATE"
    assert refused("partly", migratable=True) == "UNSUPPORTED_BY_HYPERVISOR"
    assert refused("partly", inactive=True) == "HOST_UNREACHABLE"
    assert refused("unread") == "HOST_UNREACHABLE"
    assert refused("nope") == "DOMAIN_NOT_FOUND"


@on_bed
async def test_statistics_age_apart_from_state(bed: Bed) -> None:
    """LIVE for three sampling periods, then STALE with the time of the last sample; the domain's state is LIVE all the while."""
    bed.read(1)
    bed.sampled(1, memory=MemoryStats(actual_bytes=5, rss_bytes=0))
    request = query_pb2.GetMemoryStatsRequest(domain=Ref(uuid=uuid(1)))
    sampled = int(virtual_time.wall())
    stats = bed.ask("GetMemoryStats", request).stats
    assert (stats.observation.freshness, stats.balloon_bytes) == (LIVE, 5)
    assert stats.HasField("rss_bytes")
    assert not stats.HasField("usable_bytes")
    await asyncio.sleep(10.0)
    stats = bed.ask("GetMemoryStats", request).stats
    assert (stats.observation.freshness, stats.observation.observed_time.seconds, stats.balloon_bytes) == (STALE, sampled, 5)
    assert bed.ask("GetDomain", query_pb2.GetDomainRequest(domain=Ref(uuid=uuid(1)))).domain.state_observation.freshness == LIVE


@on_bed
async def test_a_number_that_no_field_can_hold_stays_unset(bed: Bed) -> None:
    """Some guests report nonsense: it spoils neither the other numbers nor the page."""
    huge = (1 << 64) - 2
    bed.read(1)
    bed.read(2)
    bed.sampled(
        1,
        cpu=CpuStats(time_ns=huge),
        memory=MemoryStats(rss_bytes=5, major_faults=huge, last_update=huge),
        block=(BlockStats(target="vda", read_bytes=huge, read_time_ns=huge, errors=1),),
        interfaces=(InterfaceStats(target="vnet0", rx_bytes=huge, tx_bytes=7),),
        vcpus=(VcpuStats(number=0, time_ns=huge, cpu=huge),),
    )
    row, _ = bed.ask("ListDomainStats", query_pb2.ListDomainStatsRequest()).stats
    (disk,), (nic,) = row.block.devices, row.interface.devices
    assert (row.memory.rss_bytes, disk.errors, nic.tx_bytes) == (5, 1, 7)
    unset = ((row.memory, "major_faults"), (row.memory, "guest_update_time"), (disk, "read_bytes"), (nic, "rx_bytes"))
    assert not any(message.HasField(field) for message, field in unset)
    (vcpu,) = bed.ask("ListVcpus", query_pb2.ListVcpusRequest(domain=Ref(uuid=uuid(1)))).vcpus
    assert not vcpu.HasField("host_cpu")


@on_bed
async def test_a_domain_that_is_off_has_no_statistics(bed: Bed) -> None:
    """What the guest that ended last had is not shown as this one's: UNKNOWN and empty, and the state says why."""
    bed.read(1)
    bed.sampled(1, cpu=CpuStats(time_ns=1), memory=MemoryStats(rss_bytes=1), block=(BlockStats(target="vda"),), vcpus=(VcpuStats(number=0),))
    await asyncio.sleep(0.1)
    bed.read(1, state=State.SHUTOFF)
    (row,) = bed.ask("ListDomainStats", query_pb2.ListDomainStatsRequest()).stats
    assert row.state == types_pb2.DOMAIN_STATE_SHUTOFF
    assert {group.observation.freshness for group in (row.cpu, row.memory, row.block, row.interface)} == {UNKNOWN}
    assert not row.memory.HasField("rss_bytes")
    assert not row.block.devices
    vcpus = bed.ask("ListVcpus", query_pb2.ListVcpusRequest(domain=Ref(uuid=uuid(1))))
    assert (list(vcpus.vcpus), vcpus.observation.freshness) == ([], UNKNOWN)


@on_bed
async def test_only_the_groups_that_are_asked_for(bed: Bed) -> None:
    """None named, or none that is known, means all."""
    bed.read(1)
    bed.sampled(1, cpu=CpuStats(time_ns=2_000_000_000, user_ns=1_000_000_000))
    (row,) = bed.ask("ListDomainStats", query_pb2.ListDomainStatsRequest(groups=[query_pb2.STATS_GROUP_CPU])).stats
    assert (row.cpu.cpu_time.seconds, row.cpu.user_time.seconds, row.cpu.HasField("system_time")) == (2, 1, False)
    assert not row.HasField("memory")
    (row,) = bed.ask("ListDomainStats", query_pb2.ListDomainStatsRequest(groups=[query_pb2.STATS_GROUP_UNSPECIFIED])).stats
    assert row.HasField("memory")


@on_bed
async def test_devices_are_told_in_the_full_view_alone(bed: Bed) -> None:
    """BASIC has no devices, FULL has disks, interfaces and screens, of one domain and in lists."""
    disks = (DiskConfig(target="sda", device="cdrom", bus="sata", readonly=True), DiskConfig(target="vda", place=DiskPlace(kind="nvme")))
    graphics = (GraphicsConfig(kind="vnc", listen_address="127.0.0.1"),)
    bed.read(1, disks=disks, interfaces=(InterfaceConfig(mac="52:54:00:00:00:01", kind="network", source="default", link="down"),), graphics=graphics)
    one = query_pb2.GetDomainRequest(domain=Ref(uuid=uuid(1)))
    assert bed.ask("GetDomain", one).domain.disks == []
    one.view = types_pb2.DOMAIN_VIEW_FULL
    full = bed.ask("GetDomain", one).domain
    assert [(disk.target, disk.device, disk.readonly, disk.source.WhichOneof("source")) for disk in full.disks] == [
        ("sda", devices_pb2.DISK_DEVICE_CDROM, True, "empty"),
        ("vda", devices_pb2.DISK_DEVICE_DISK, False, "other"),
    ]
    assert (full.interfaces[0].network, full.interfaces[0].link_state) == ("default", devices_pb2.LINK_STATE_DOWN)
    assert (full.graphics[0].type, full.graphics[0].HasField("port")) == (devices_pb2.GRAPHICS_TYPE_VNC, False)
    (row,) = bed.ask("ListDomains", query_pb2.ListDomainsRequest(view=types_pb2.DOMAIN_VIEW_FULL)).domains
    assert row == full


@on_bed
async def test_one_disk_or_interface_by_any_of_its_names(bed: Bed) -> None:
    """Target, source, name on the host, hardware address; a name that nothing has is DEVICE_NOT_FOUND."""
    disks = (DiskConfig(target="vda", source="/a.img"), DiskConfig(target="vdb", source="/b.img"))
    bed.read(1, disks=disks, interfaces=(InterfaceConfig(mac="52:54:00:00:00:01", target="vnet0"),))
    bed.sampled(
        1, block=(BlockStats(target="vda", path="/a.img", read_bytes=7),), interfaces=(InterfaceStats(target="vnet0", mac="52:54:00:00:00:01"),)
    )

    def found(method: str, device: str) -> list[str]:
        request = getattr(query_pb2, f"{method}Request")(domain=Ref(uuid=uuid(1)), device=device)
        return [stats.device for stats in bed.ask(method, request).stats.devices]

    assert found("GetBlockStats", "") == found("GetBlockStats", "vda") == found("GetBlockStats", "/a.img") == ["vda"]
    assert found("GetBlockStats", "vdb") == []
    assert found("GetInterfaceStats", "vnet0") == found("GetInterfaceStats", "52:54:00:00:00:01".upper()) == ["vnet0"]
    for method in ("GetBlockStats", "GetInterfaceStats"):
        request = getattr(query_pb2, f"{method}Request")(domain=Ref(uuid=uuid(1)), device="hdz")
        assert bed.refused(method, request) == "DEVICE_NOT_FOUND"


@on_bed
async def test_cpu_time_is_that_of_the_newest_reading(bed: Bed) -> None:
    """Be it the state's or a sample's; a domain that is off has none."""

    def told() -> int:
        message = bed.ask("GetDomain", query_pb2.GetDomainRequest(domain=Ref(uuid=uuid(1)))).domain
        return int(message.cpu_time.seconds) if message.HasField("cpu_time") else -1

    bed.read(1, cpu_time_ns=1_000_000_000)
    seen = [told()]
    await asyncio.sleep(1)
    bed.sampled(1, cpu=CpuStats(time_ns=2_000_000_000))
    seen.append(told())
    await asyncio.sleep(1)
    bed.read(1, cpu_time_ns=3_000_000_000)
    seen.append(told())
    await asyncio.sleep(1)
    bed.read(1, state=State.SHUTOFF, cpu_time_ns=3_000_000_000)
    bed.sampled(1, cpu=CpuStats(time_ns=4_000_000_000))
    assert [*seen, told()] == [1, 2, 3, -1]


@on_bed
async def test_virtual_cpus_in_pages(bed: Bed) -> None:
    """In order of number, whatever order the hypervisor tells them in."""
    bed.read(1)
    bed.sampled(1, vcpus=tuple(VcpuStats(number=number, state="running", time_ns=5, cpu=3) for number in (2, 0, 1)))
    first = bed.ask("ListVcpus", query_pb2.ListVcpusRequest(domain=Ref(uuid=uuid(1)), page_size=2))
    rest = bed.ask("ListVcpus", query_pb2.ListVcpusRequest(domain=Ref(uuid=uuid(1)), page_size=2, page_token=first.next_page_token))
    assert [vcpu.number for vcpu in (*first.vcpus, *rest.vcpus)] == [0, 1, 2]
    assert (first.vcpus[0].state, first.vcpus[0].host_cpu, rest.next_page_token) == (query_pb2.VCPU_STATE_RUNNING, 3, "")


@on_bed
async def test_what_a_hypervisor_lacks_is_refused(bed: Bed) -> None:
    """A query of what the hypervisor does not tell is UNSUPPORTED_BY_HYPERVISOR; without word from the host, nothing is refused."""
    bed.read(1)
    bed.ask("GetMemoryStats", query_pb2.GetMemoryStatsRequest(domain=Ref(uuid=uuid(1))))
    bed.drivers["a"].up(hypervisor="vmware", verbs=support.table("vmware"))
    for rpc in ("ListVcpus", "GetBlockStats", "GetInterfaceStats", "GetMemoryStats"):
        assert bed.refused(rpc, getattr(query_pb2, f"{rpc}Request")(domain=Ref(uuid=uuid(1)))) == "UNSUPPORTED_BY_HYPERVISOR"


@on_bed
async def test_a_host_says_what_it_is_and_can_do(bed: Bed) -> None:
    """Verbs by RPC, sizes in the contract's units, its XML on request, and never its credentials."""
    rows = (VerbSupport(verb="ManagedSave", progress=True, abortable=True), VerbSupport(verb="Destroy", slot=Slot.DESTROY))
    driver = bed.drivers["a"]
    driver.up(uri="fake:///", hypervisor="qemu", cpu_mhz=2400, memory_bytes=1 << 40, capabilities_xml="<capabilities/>", verbs=rows)
    await asyncio.sleep(1.0)
    host = bed.ask("GetHost", query_pb2.GetHostRequest(host="a")).host
    assert (host.name, host.hypervisor, host.node.cpu_frequency_hertz, host.reachable, host.state) == ("a", "QEMU", 2_400_000_000, True, LIVE)
    assert host.state_updates == query_pb2.STATE_UPDATES_PUSHED
    assert [(verb.method, verb.kind, verb.slot) for verb in host.verbs] == [
        ("virtrpc.v1.JobService/ManagedSaveDomain", types_pb2.JOB_KIND_MANAGED_SAVE_DOMAIN, query_pb2.VERB_SLOT_CONDITION),
        ("virtrpc.v1.JobService/DestroyDomain", types_pb2.JOB_KIND_DESTROY_DOMAIN, query_pb2.VERB_SLOT_PREEMPT),
    ]
    assert not host.capabilities_xml
    assert bed.ask("GetHost", query_pb2.GetHostRequest(host="a", include_capabilities_xml=True)).host.capabilities_xml == "<capabilities/>"
    assert bed.refused("GetHost", query_pb2.GetHostRequest()) == "INVALID_ARGUMENT"
    assert bed.refused("GetHost", query_pb2.GetHostRequest(host="mars")) == "HOST_NOT_CONFIGURED"


@on_bed
async def test_the_process_and_the_budget_of_a_host(bed: Bed) -> None:
    """Who talks to the hypervisor, how often it had to be restarted, and what of the daemon is in use."""
    driver = cast("SimpleNamespace", bed.drivers["a"])
    driver.pid, driver.restarts, driver.started, driver.last_exit = 42, 3, 1_000.0, "was ended by SIGKILL"
    bed.drivers["a"].up(daemon="/run/libvirt-sock", min_workers=5)
    bed.hosts["a"].budget.take("job-1")
    host = bed.ask("GetHost", query_pb2.GetHostRequest(host="a")).host
    process = host.driver_process
    assert (process.pid, process.restarts, process.start_time.seconds, process.last_exit) == (42, 3, 1_000, "was ended by SIGKILL")
    assert (host.budget.daemon, host.budget.places, host.budget.used, host.budget.waiting) == ("/run/libvirt-sock", 3, 1, 0)


def test_hosts_are_listed_before_they_were_reached() -> None:
    """By name, UNKNOWN, without a word of their credentials and without counts that nobody knows."""

    async def work() -> None:
        bed = Bed("b", "a")
        answer = bed.ask("ListHosts", query_pb2.ListHostsRequest(page_size=1))
        (host,) = answer.hosts
        assert (host.name, host.state, host.reachable, host.HasField("domains")) == ("a", UNKNOWN, False, False)
        assert host.unreachable.freshness == UNKNOWN
        assert "secret" not in str(host)
        rest = bed.ask("ListHosts", query_pb2.ListHostsRequest(page_size=1, page_token=answer.next_page_token))
        assert [host.name for host in rest.hosts] == ["b"]
        assert bed.refused("GetDomain", query_pb2.GetDomainRequest(domain=Ref(name="x"))) == "HOST_UNREACHABLE"

    virtual_time.run(work())


def test_a_large_server_is_paged_without_losing_a_domain() -> None:
    """10,000 domains, each once, in pages of 1,000."""

    async def work() -> None:
        bed = Bed("a")
        bed.domains.listed("a", listing(1.0, range(10_000)))
        seen: list[str] = []
        token = ""
        while not seen or token:
            answer = bed.ask("ListDomains", query_pb2.ListDomainsRequest(page_size=1000, page_token=token))
            seen += [domain.uuid for domain in answer.domains]
            token = answer.next_page_token
        assert len(seen) == len(set(seen)) == 10_000

    virtual_time.run(work())


def test_a_page_that_is_made_while_domains_come_and_go_has_those_that_stay() -> None:
    """A long page is made in slices: each domain that is there all the time is in it once, in order, as of the moment of its slice."""

    async def work() -> None:
        bed = Bed("a")
        bed.domains.listed("a", listing(1.0, range(1000), {number: f"n{number:04}" for number in range(1000)}))
        making = bed.query.ListDomains(query_pb2.ListDomainsRequest(page_size=1000), cast("Any", None))
        making.send(None)
        for number in (0, 50, 500, 999):
            bed.domains.missing("a", Missing(uuid=uuid(number), stamp=stamp(2.0)))
        for number in (1001, 1002):
            bed.domains.read("a", reading(number, 3.0, f"n{number - 1000:04}b"))
        answer = at_once(making)
        names = [domain.name for domain in answer.domains]
        assert names == sorted(set(names))
        assert {f"n{number:04}" for number in range(1000)} - {*names} == {"n0500", "n0999"}

    virtual_time.run(work())


def test_the_stream_of_domains_is_served() -> None:
    """WatchDomains gives batches of the contract's kind."""

    async def work() -> None:
        async with Bed() as bed:
            bed.read(1, "web")
            stream = bed.query.WatchDomains(query_pb2.WatchDomainsRequest(), cast("Any", None))
            batch = query_pb2.WatchDomainsResponse.FromString(cast("bytes", await anext(stream)))
            assert [change.current.name for change in batch.changes] == ["web"]
            await stream.aclose()  # type: ignore[attr-defined] # it is a generator

    virtual_time.run(work())
