"""Queries about real QEMU guests: every answer is compared with what libvirt itself says, past virtrpc."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from xml.etree import ElementTree

import libvirt
import pytest
import pytest_asyncio

from tests.e2e.behaviour import let_go_on, save_held_midway
from tests.e2e.server import GUARD, Guest, QemuHost, Server, contract_state, ended, eventually, writer_of
from virtrpc import AmbiguousName, AsyncClient, AsyncJobHandle, DomainMirror, InvalidArgument, JobMirror, NotFound
from virtrpc.v1 import query_pb2 as q
from virtrpc.v1 import types_pb2 as t
from virtrpc.v1.job_pb2 import JobFilter

pytestmark = pytest.mark.hypervisor

MIB = 1 << 20
SECRET = "sesame42"
GRAPHICS = f'<graphics type="vnc" port="-1" autoport="yes" listen="127.0.0.1" passwd="{SECRET}"/><video><model type="vga"/></video>'


@pytest.fixture(scope="module")
def guest(qemu_host: QemuHost) -> Iterator[Guest]:
    """A guest with all that there is to ask about: two of three CPUs, a disk in use, a tap device, a display with a password, an agent."""
    with qemu_host.guest(
        name="watched",
        memory_mib=192,
        current_memory_mib=160,
        vcpus=2,
        max_vcpus=3,
        disk_mib=16,
        mount_disk=True,
        tap="virtrpc0",
        more_devices=GRAPHICS,
    ) as guest:
        guest.wait_for_agent()
        guest.agent("guest-exec", path="/bin/busybox", arg=["ip", "link", "set", "eth0", "up"])
        yield guest


@pytest.fixture(scope="module")
def off(qemu_host: QemuHost) -> Iterator[Guest]:
    """A guest that is off, and starts with its host."""
    with qemu_host.guest(start=False, name="wanted") as guest:
        guest.domain.setAutostart(1)
        titled = guest.domain.XMLDesc().replace("</name>", "</name><title>off</title>")
        guest.direct.defineXML(titled)  # which libvirt announces, unlike autostart
        yield guest


@pytest.fixture
def transient(qemu_host: QemuHost, guest: Guest) -> Iterator[Guest]:
    """A transient guest, paused."""
    made = qemu_host.define(name="passing")
    xml = made.domain.XMLDesc()
    made.domain.undefine()
    qemu_host.direct.createXML(xml, libvirt.VIR_DOMAIN_START_PAUSED)
    try:
        qemu_host.wait_known(made)
        yield made
    finally:
        made.remove()


@pytest_asyncio.fixture
async def save(client: AsyncClient, big_guest: Guest) -> AsyncIterator[AsyncJobHandle]:
    """A save that is held midway, and is not let finish."""
    async with save_held_midway(client, big_guest.name) as handle:
        yield handle
        await handle.cancel()
    await eventually(lambda: _is_over(client, handle.job_id), "the save to be over")


async def _is_over(client: AsyncClient, job_id: str) -> bool:
    return (await client.get_job(job_id=job_id)).HasField("end_time")


async def test_get_domain(client: AsyncClient, guest: Guest, off: Guest) -> None:
    """A domain by uuid, name or id says what libvirt's own calls say of it."""
    domain = guest.domain
    told = await client.get_domain(guest.uuid)
    assert (told.host, told.uuid, told.name, told.id) == ("kvm", domain.UUIDString(), domain.name(), domain.ID())
    assert (told.state, told.state_reason, told.active) == (contract_state(domain.state()[0]), "booted", bool(domain.isActive()))
    assert (told.persistent, told.updated, told.autostart) == (bool(domain.isPersistent()), bool(domain.isUpdated()), bool(domain.autostart()))
    assert told.has_managed_save == bool(domain.hasManagedSaveImage())
    assert (told.os_type, told.max_memory_bytes, told.max_vcpus) == (domain.OSType(), domain.maxMemory() * 1024, domain.maxVcpus())
    await eventually(lambda: _is_free(client, guest), "the control channel to be told free")
    counts = [domain.vcpusFlags(flags) for flags in (libvirt.VIR_DOMAIN_AFFECT_LIVE, libvirt.VIR_DOMAIN_AFFECT_CONFIG)]
    assert [told.vcpus.live, told.vcpus.config, told.vcpus.maximum] == [*counts, domain.maxVcpus()] == [2, 2, 3]
    assert 0 < told.cpu_time.ToNanoseconds() <= domain.info()[4]
    assert told.state_observation.freshness == told.configuration_observation.freshness == t.FRESHNESS_LIVE
    await eventually(lambda: _memory_is(client, guest, domain.info()[2] * 1024), "the balloon's size to be told")
    assert (await client.get_domain(f"kvm/{guest.name}")).uuid == guest.uuid
    assert (await client.get_domain_by_id(host_domain_id=q.HostDomainId(host="kvm", id=domain.ID()))).uuid == guest.uuid
    await eventually(lambda: _is_autostarted(client, off), "the definition to be read again")
    assert not (await client.get_domain(off.name)).HasField("id")
    with pytest.raises(NotFound) as caught:
        await client.get_domain("nobody")
    assert "nobody" in caught.value.message


async def _is_free(client: AsyncClient, guest: Guest) -> bool:
    # The server's own samples occupy the channel for a moment now and then.
    told = (await client.get_domain(guest.uuid)).control_state
    return (told, guest.domain.controlInfo()[0]) == (t.CONTROL_STATE_OK, libvirt.VIR_DOMAIN_CONTROL_OK)


async def _memory_is(client: AsyncClient, guest: Guest, size: int) -> bool:
    return (await client.get_domain(guest.uuid)).memory_bytes == size


async def _is_autostarted(client: AsyncClient, guest: Guest) -> bool:
    return (await client.get_domain(guest.name)).autostart


async def test_list_domains(client: AsyncClient, guest: Guest, off: Guest, transient: Guest, direct: libvirt.virConnect) -> None:
    """All domains that libvirt lists, each filter, and pages that are bound to their filter."""
    await eventually(lambda: _is_autostarted(client, off), "the definition to be read again")

    async def names(**fields: object) -> set[str]:
        return {domain.name async for domain in client.list_domains(filter=t.DomainFilter(**fields))}  # type: ignore[arg-type] # by the test's own reading

    everyone = {domain.name() for domain in direct.listAllDomains()}
    assert await names() == everyone >= {guest.name, off.name, transient.name}
    assert await names(active=True) == {domain.name() for domain in direct.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE)}
    assert await names(persistent=False) == {transient.name}
    assert await names(autostart=True) == {off.name}
    assert await names(states=[t.DOMAIN_STATE_PAUSED, t.DOMAIN_STATE_SHUTOFF]) >= {off.name, transient.name}
    assert guest.name not in await names(states=[t.DOMAIN_STATE_PAUSED])
    assert await names(has_managed_save=True) == set()
    assert await names(name_glob="wa?ted", hosts=["kvm"]) == await names(uuids=[off.uuid]) == {off.name}
    pages = [page async for page in client.list_domains(page_size=1).pages()]
    assert [len(page.domains) for page in pages] == [1] * len(everyone)
    assert [page.domains[0].name for page in pages] == sorted(everyone)
    with pytest.raises(InvalidArgument) as caught:
        await client.list_domains(page_size=1, page_token=pages[0].next_page_token, filter=t.DomainFilter(active=True)).all()
    assert caught.value.reason == "PAGE_TOKEN_INVALID"


async def test_get_domain_xml(client: AsyncClient, guest: Guest) -> None:
    """Each form of the XML is libvirt's own, without the password that libvirt would tell."""
    assert SECRET in guest.domain.XMLDesc(libvirt.VIR_DOMAIN_XML_SECURE)
    live = await client.get_domain_xml(guest.name)
    stored = await client.get_domain_xml(guest.name, inactive=True)
    migratable = await client.get_domain_xml(guest.name, migratable=True)
    assert (live.inactive, stored.inactive, migratable.inactive) == (False, True, False)
    assert _same(live.xml, guest.domain.XMLDesc())
    assert stored.xml == guest.domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
    assert SECRET not in live.xml + stored.xml + migratable.xml
    assert _same(migratable.xml.replace("*****", SECRET), guest.domain.XMLDesc(libvirt.VIR_DOMAIN_XML_MIGRATABLE))
    assert live.domain.uuid == guest.uuid
    assert live.observation.freshness == t.FRESHNESS_LIVE


def _same(ours: str, theirs: str) -> bool:
    # The balloon moves between two looks.
    return [line for line in ours.splitlines() if "currentMemory" not in line] == [
        line for line in theirs.splitlines() if "currentMemory" not in line
    ]


async def test_list_vcpus(client: AsyncClient, guest: Guest) -> None:
    """The virtual CPUs that libvirt lists, with the time that they used and where they may run."""
    await eventually(lambda: _has_vcpus(client, guest), "a sample of the CPUs")
    ours = await client.list_vcpus(guest.name).all()
    infos, maps = guest.domain.vcpus()
    assert [vcpu.number for vcpu in ours] == [info[0] for info in infos] == [0, 1]
    assert {vcpu.state for vcpu in ours} <= {q.VCPU_STATE_RUNNING, q.VCPU_STATE_BLOCKED}
    assert all(0 < vcpu.cpu_time.ToNanoseconds() <= info[2] for vcpu, info in zip(ours, infos, strict=True))
    assert all(0 <= vcpu.host_cpu < len(maps[0]) for vcpu in ours)
    assert [_cpus(vcpu.affinity) for vcpu in ours] == [{cpu for cpu, may in enumerate(row) if may} for row in maps]
    pages = [page async for page in client.list_vcpus(guest.name, page_size=1).pages()]
    assert [page.vcpus[0].number for page in pages] == [0, 1]
    assert pages[0].observation.freshness == t.FRESHNESS_LIVE


async def _has_vcpus(client: AsyncClient, guest: Guest) -> bool:
    return bool(await client.list_vcpus(guest.name).all())


def _cpus(affinity: str) -> set[int]:
    ranges = [part.split("-") for part in affinity.split(",")]
    return {cpu for ends in ranges for cpu in range(int(ends[0]), int(ends[-1]) + 1)}


async def test_get_block_stats(client: AsyncClient, guest: Guest) -> None:
    """A disk's counters and sizes are those of libvirt's own calls, by the disk's name or its file."""
    assert guest.disk is not None
    counters = ("rd_operations", "rd_bytes", "wr_operations", "wr_bytes", "flush_operations")

    async def agree() -> bool:
        theirs = guest.domain.blockStatsFlags("vda")
        told = (await client.get_block_stats(guest.name, device="vda")).stats
        ours = [
            (disk.read_requests, disk.read_bytes, disk.write_requests, disk.write_bytes, disk.flush_requests, disk.write_time.ToNanoseconds())
            for disk in told.devices
        ]
        return ours == [(*(theirs[name] for name in counters), theirs["wr_total_times"])] and theirs["wr_bytes"] > 0

    await eventually(agree, "the counters to be libvirt's")
    told = (await client.get_block_stats(guest.name, device=str(guest.disk.path))).stats
    assert told.observation.freshness == t.FRESHNESS_LIVE
    ((_, bulk),) = guest.direct.domainListGetStats([guest.domain], libvirt.VIR_DOMAIN_STATS_BLOCK)
    sizes = [(disk.capacity_bytes, disk.allocation_bytes, disk.physical_bytes) for disk in told.devices]
    assert sizes == [tuple(bulk[f"block.0.{size}"] for size in ("capacity", "allocation", "physical"))]
    assert (told.devices[0].capacity_bytes, told.devices[0].path) == (guest.domain.blockInfo("vda")[0], str(guest.disk.path))
    assert [disk.device for disk in (await client.get_block_stats(guest.name)).stats.devices] == ["vda"]
    with pytest.raises(NotFound) as caught:
        await client.get_block_stats(guest.name, device="vdz")
    assert caught.value.reason == "DEVICE_NOT_FOUND"


async def test_get_interface_stats(client: AsyncClient, guest: Guest) -> None:
    """An interface's counters are libvirt's, by its name on the host or its hardware address."""

    async def agree() -> bool:
        theirs = guest.domain.interfaceStats("virtrpc0")
        told = (await client.get_interface_stats(guest.name, device="virtrpc0")).stats
        ours = [
            (nic.rx_bytes, nic.rx_packets, nic.rx_errors, nic.rx_drops, nic.tx_bytes, nic.tx_packets, nic.tx_errors, nic.tx_drops)
            for nic in told.devices
        ]
        return ours == [theirs] and theirs[4] > 0

    await eventually(agree, "the counters to be libvirt's")
    by_address = (await client.get_interface_stats(guest.name, device="52:54:00:00:00:01")).stats
    assert [(nic.device, nic.mac_address) for nic in by_address.devices] == [("virtrpc0", "52:54:00:00:00:01")]
    assert by_address.observation.freshness == t.FRESHNESS_LIVE
    with pytest.raises(NotFound):
        await client.get_interface_stats(guest.name, device="virtrpc9")


async def test_get_memory_stats(client: AsyncClient, guest: Guest) -> None:
    """What the balloon's driver in the guest reports, and what its process occupies, as libvirt tells it."""

    async def agree() -> bool:
        theirs = guest.domain.memoryStats()
        told = (await client.get_memory_stats(guest.name)).stats
        ours = {
            "actual": told.balloon_bytes, "available": told.available_bytes, "unused": told.unused_bytes, "usable": told.usable_bytes,
            "disk_caches": told.disk_caches_bytes, "swap_in": told.swap_in_bytes, "swap_out": told.swap_out_bytes,
        }  # fmt: skip
        return all(theirs[name] * 1024 == size for name, size in ours.items()) and told.guest_update_time.seconds <= theirs["last_update"]

    await eventually(agree, "the numbers to be libvirt's")
    told = (await client.get_memory_stats(guest.name)).stats
    assert told.rss_bytes > 64 * MIB
    assert told.available_bytes > told.unused_bytes > 0
    assert told.observation.freshness == t.FRESHNESS_LIVE


async def test_list_domain_stats(client: AsyncClient, guest: Guest, off: Guest, direct: libvirt.virConnect) -> None:
    """Statistics of many domains at once agree with libvirt's bulk call; only the groups that are asked for, a page at a time."""

    async def agree() -> bool:
        theirs = next(record for domain, record in direct.getAllDomainStats() if domain.name() == guest.name)
        (told,) = await client.list_domain_stats(filter=t.DomainFilter(name_glob=guest.name)).all()
        ours = (told.block.devices[0].write_bytes, told.interface.devices[0].device, told.memory.balloon_bytes)
        wanted = (theirs["block.0.wr.bytes"], theirs["net.0.name"], theirs["balloon.current"] * 1024)
        spent = [(told.cpu.cpu_time, "cpu.time"), (told.cpu.user_time, "cpu.user"), (told.cpu.system_time, "cpu.system")]
        return ours == wanted and all(0 < part.ToNanoseconds() <= theirs[key] for part, key in spent)

    await eventually(agree, "the statistics to be libvirt's")
    rows = {row.domain.name: row async for row in client.list_domain_stats(groups=[q.STATS_GROUP_CPU], page_size=1)}
    assert set(rows) == {domain.name() for domain in direct.listAllDomains()}
    assert rows[guest.name].HasField("cpu")
    assert not rows[guest.name].HasField("block")
    assert rows[off.name].state == t.DOMAIN_STATE_SHUTOFF
    assert rows[off.name].cpu.observation.freshness == t.FRESHNESS_UNKNOWN


async def test_watch_domains(client: AsyncClient, qemu_host: QemuHost) -> None:
    """What is done to a domain past virtrpc reaches a watch, and a watch that resumes is told only what changed since."""
    watch = client.watch_domains(filter=t.DomainFilter(name_glob="seen*"))
    batches, mirror = watch.batches(), DomainMirror()

    async def until(state: t.DomainState.ValueType | None, uuid: str = "") -> None:
        async with asyncio.timeout(GUARD):
            while not mirror.caught_up or (held := mirror.domains.get(("kvm", uuid))) is None or held.state != state:
                mirror.apply(await anext(batches))
                if state is None and mirror.caught_up and ("kvm", uuid) not in mirror.domains:
                    return

    await until(None)
    guest = qemu_host.define(name="seen")
    try:
        await until(t.DOMAIN_STATE_SHUTOFF, guest.uuid)
        guest.start(ready=False)
        await until(t.DOMAIN_STATE_RUNNING, guest.uuid)
        guest.domain.suspend()
        await until(t.DOMAIN_STATE_PAUSED, guest.uuid)
        token = watch.resume_token
        watch.close()
        guest.domain.destroy()
        qemu_host.wait_known(guest)
        async for batch in client.watch_domains(filter=t.DomainFilter(name_glob="seen*"), resume_token=token):
            assert not batch.reset
            mirror.apply(batch)
            if mirror.domains["kvm", guest.uuid].state == t.DOMAIN_STATE_SHUTOFF:
                break
        batches = client.watch_domains(filter=t.DomainFilter(name_glob="seen*")).batches()
        await until(t.DOMAIN_STATE_SHUTOFF, guest.uuid)
    finally:
        guest.remove()
    await until(None, guest.uuid)
    await batches.aclose()


async def test_get_host(client: AsyncClient, direct: libvirt.virConnect, qemu_host: QemuHost) -> None:
    """A host is described as libvirt describes it, and says who talks to it."""
    host = await client.get_host(include_capabilities_xml=True, include_sysinfo_xml=True)
    assert (host.name, host.state, host.reachable) == ("kvm", t.FRESHNESS_LIVE, True)
    assert host.uri.split("?")[0] == "qemu+unix:///system"
    assert (host.hostname, host.hypervisor) == (direct.getHostname(), direct.getType())
    versions = [(number // 1_000_000, number // 1000 % 1000, number % 1000) for number in (direct.getVersion(), direct.getLibVersion())]
    assert [host.hypervisor_version, host.libvirt_version] == [".".join(map(str, version)) for version in versions]
    _, mib, cpus, mhz, nodes, sockets, cores, threads = direct.getInfo()
    assert (host.node.cpus, host.node.numa_nodes, host.node.sockets_per_node) == (cpus, nodes, sockets)
    assert (host.node.cores_per_socket, host.node.threads_per_core) == (cores, threads)
    assert host.node.cpu_model == ElementTree.fromstring(direct.getCapabilities()).findtext("host/cpu/model")
    assert host.node.memory_bytes == mib * MIB
    assert host.node.cpu_frequency_hertz == mhz * 1_000_000
    assert host.capabilities_xml == direct.getCapabilities()
    try:
        sysinfo = direct.getSysinfo()
    except libvirt.libvirtError:  # no SMBIOS on this machine
        sysinfo = ""
    assert host.sysinfo_xml == sysinfo
    assert host.driver_process.driver == "libvirt"
    assert host.driver_process.pid == qemu_host.server.driver_pid("kvm") != qemu_host.server.pid
    verbs = {verb.method: verb for verb in host.verbs}
    assert verbs["virtrpc.v1.JobService/ManagedSaveDomain"].abortable
    assert not verbs["virtrpc.v1.JobService/StartDomain"].abortable
    assert verbs["virtrpc.v1.JobService/SetUserPassword"].slot == q.VERB_SLOT_AGENT
    with pytest.raises(NotFound):
        await client.get_host(host="nowhere")


async def test_list_hosts(qemu_host: QemuHost, guest: Guest, direct: libvirt.virConnect) -> None:
    """Hosts come by name, a page at a time; one that cannot be reached is named and takes nothing from the others."""
    uri = qemu_host.daemon.uri
    with Server({"b": uri, "a": "test:///default", "c": "qemu+unix:///system?socket=/nowhere", "d": uri}) as server:
        server.wait_live("a", "b", "d")
        async with server.client() as client:
            pages = [page async for page in client.list_hosts(page_size=1).pages()]
            hosts = {page.hosts[0].name: page.hosts[0] for page in pages}
            assert list(hosts) == ["a", "b", "c", "d"]
            assert (hosts["b"].node.cpus, hosts["b"].domains) == (direct.getInfo()[2], len(direct.listAllDomains()))
            assert hosts["b"].active_domains == len(direct.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE))
            assert (hosts["c"].state, hosts["c"].unreachable.reason) == (t.FRESHNESS_UNKNOWN, "HOST_UNREACHABLE")
            listing = client.list_domains()
            assert {(domain.host, domain.name) async for domain in listing} >= {("a", "test"), ("b", guest.name), ("d", guest.name)}
            assert [host.host for host in listing.unreachable] == ["c"]
            with pytest.raises(AmbiguousName) as caught:
                await client.get_domain(guest.name)
            assert {match.split("/")[0] for match in caught.value.metadata["matches"].replace(",", " ").split()} == {"b", "d"}


async def test_get_job(client: AsyncClient, save: AsyncJobHandle, big_guest: Guest) -> None:
    """A running job's progress is that of libvirt's own job on the domain."""
    job = await client.get_job(job_id=save.job_id)
    assert (job.kind, job.state, job.domain.uuid, job.owner) == (t.JOB_KIND_MANAGED_SAVE_DOMAIN, t.JOB_STATE_RUNNING, big_guest.uuid, "unix")
    before, theirs = job.progress, big_guest.domain.jobStats()
    assert theirs["operation"] == libvirt.VIR_DOMAIN_JOB_OPERATION_SAVE
    assert before.total_bytes == theirs["data_total"] == big_guest.domain.jobInfo()[3]
    assert before.processed_bytes <= theirs["data_processed"]
    assert 0 < before.elapsed.ToMilliseconds() <= theirs["time_elapsed"]
    with pytest.raises(NotFound) as caught:
        await client.get_job(job_id="nonsense")
    assert caught.value.reason == "JOB_NOT_FOUND"


async def test_watch_job(client: AsyncClient, save: AsyncJobHandle, big_guest: Guest) -> None:
    """Somebody else attaches to a running job and sees it as libvirt does, to its end, which is OK for the watch whatever became of the job."""
    watch = client.watch_job(save.job_id)
    seen: list[t.Job] = []
    async with asyncio.timeout(GUARD):
        async for job in watch:
            seen.append(job)
            if len(seen) == 1:
                assert big_guest.domain.jobStats()["data_total"] == job.progress.total_bytes
                await client.cancel_job(job_id=save.job_id)
                let_go_on(writer_of(big_guest))
    assert (seen[0].state, seen[-1].state) == (t.JOB_STATE_RUNNING, t.JOB_STATE_CANCELLED)
    assert [job.revision for job in seen] == sorted({job.revision for job in seen})
    assert big_guest.domain.jobInfo()[0] == libvirt.VIR_DOMAIN_JOB_NONE


async def test_list_jobs(client: AsyncClient, guest: Guest, big_guest: Guest, save: AsyncJobHandle) -> None:
    """Jobs come newest first, by domain, kind, state, owner and host, a page at a time."""
    for verb in (client.suspend_domain, client.resume_domain):
        await ended(verb(guest.name))

    async def kinds(**fields: object) -> list[t.JobKind.ValueType]:
        return [job.kind async for job in client.list_jobs(filter=_filter(**fields), page_size=1)]

    ours = [t.JOB_KIND_RESUME_DOMAIN, t.JOB_KIND_SUSPEND_DOMAIN]
    assert (await kinds(domain=t.DomainRef(name=guest.name)))[:2] == ours
    assert (await kinds())[:3] == [*ours, t.JOB_KIND_MANAGED_SAVE_DOMAIN]
    assert await kinds(states=[t.JOB_STATE_RUNNING]) == [t.JOB_KIND_MANAGED_SAVE_DOMAIN]
    assert set(await kinds(kinds=ours)) == set(ours)
    assert await kinds(owner="nobody") == []
    newest = await anext(aiter(client.list_jobs(page_size=1)))
    assert await kinds(created_after=newest.create_time) == ours[:1]
    assert (await kinds(created_before=newest.create_time))[0] == ours[1]
    assert await kinds(ended_after=newest.end_time) == ours[:1]
    assert (await kinds(hosts=["kvm"], owner="unix", domain=t.DomainRef(uuid=big_guest.uuid)))[0] == t.JOB_KIND_MANAGED_SAVE_DOMAIN


async def test_watch_jobs(client: AsyncClient, big_guest: Guest, save: AsyncJobHandle) -> None:
    """A watch of the running jobs holds one that runs, and lets it go when it ends; a watch of all keeps its end."""
    mine = t.DomainRef(uuid=big_guest.uuid)
    running, everything = JobMirror(), JobMirror()
    async with asyncio.timeout(GUARD):
        watch = client.watch_jobs(filter=_filter(domain=mine, states=[t.JOB_STATE_RUNNING])).batches()
        while save.job_id not in running.jobs:
            running.apply(await anext(watch))
        await client.cancel_job(job_id=save.job_id)
        let_go_on(writer_of(big_guest))
        while running.jobs:
            running.apply(await anext(watch))
        await watch.aclose()
        async for batch in client.watch_jobs(filter=_filter(domain=mine)):
            everything.apply(batch)
            if everything.caught_up:
                break
    assert everything.jobs[save.job_id].state == t.JOB_STATE_CANCELLED


def _filter(**fields: object) -> JobFilter:
    return JobFilter(**fields)  # type: ignore[arg-type] # by the tests' own reading
