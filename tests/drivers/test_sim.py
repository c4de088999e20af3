"""The simulated hypervisor on virtual time: what it does when all is well, and what it does not let pass."""

from __future__ import annotations

import asyncio

import pytest

from tests.drivers.simulated import reason, world
from tests.virtual_time import on_virtual_time
from virtrpc_drivers import operations as ops
from virtrpc_drivers.errors import DriverError, Reason
from virtrpc_drivers.protocol import Change, DomainChanged, DriverSettings, Report
from virtrpc_drivers.sim import control
from virtrpc_drivers.sim.driver import SimDriver
from virtrpc_drivers.sim.options import from_uri
from virtrpc_drivers.values import Group, Phase, Slot, State
from virtrpc_drivers.xml import LARGEST, MAX_XML_DEPTH

HUGE = "9" * 5000
DISK = "<disk type='file' device='disk'><source file='/b.img'/><target dev='vda'/></disk>"


@on_virtual_time
async def test_concurrent_edits_are_a_race() -> None:
    """Two operations at once on one domain's handle: the second fails, and the violation is on record."""
    async with world(latency=0.0) as sim:
        _, saving = sim.begin(ops.ManagedSave(uuid=sim.uuid))
        await asyncio.sleep(0.5)
        assert await sim.refused(ops.SetMemory(uuid=sim.uuid, memory_bytes=1 << 20)) is Reason.FAILED
        assert "concurrent edit" in sim.hypervisor.violations[0]
        await saving


@on_virtual_time
async def test_different_domains_do_not_race() -> None:
    """Operations on two domains run side by side."""
    async with world(running=2, save_seconds=10) as sim:
        began = asyncio.get_running_loop().time()
        await asyncio.gather(*(sim.run(ops.ManagedSave(uuid=uuid)) for uuid in list(sim.hypervisor.domains)[:2]))
        assert asyncio.get_running_loop().time() - began < 11
        assert sim.hypervisor.violations == []


@pytest.mark.parametrize(
    "odd",
    [
        pytest.param("<memory>1024</memory><vcpu>x</vcpu>", id="virtual CPUs that are no number"),
        pytest.param("<memory>1024</memory><vcpu>0</vcpu>", id="no virtual CPU"),
        pytest.param("<memory>1024</memory><vcpu current='x'>2</vcpu>", id="present virtual CPUs that are no number"),
        pytest.param(f"<memory>1024</memory><vcpu>{2**40}</vcpu>", id="too many virtual CPUs"),
        pytest.param("<memory>x</memory>", id="memory that is no number"),
        pytest.param("<memory>-1</memory>", id="negative memory"),
        pytest.param(f"<memory unit='TiB'>{2**40}</memory>", id="too much memory"),
        *(
            pytest.param(f"<memory>1024</memory>{text.format(HUGE)}", id=text[:40])
            for text in (
                "<memtune><hard_limit unit='EiB'>{}</hard_limit></memtune>",
                "<memtune><soft_limit>-{}</soft_limit></memtune>",
                "<numatune><memory nodeset='0-{}'/></numatune>",
                "<vcpu cpuset='0-{}'>1</vcpu>",
                "<cputune><emulatorpin cpuset='0-{}'/></cputune>",
                "<cputune><shares>{}</shares></cputune>",
                "<cputune><quota>-{}</quota></cputune>",
                "<blkiotune><weight>{}</weight></blkiotune>",
                "<blkiotune><device><path>/dev/sda</path><read_bytes_sec>{}</read_bytes_sec></device></blkiotune>",
                "<iothreads>{}</iothreads>",
                "<vcpus><vcpu id='{}' enabled='yes'/></vcpus>",
                "<devices><graphics type='vnc' port='{}'/></devices>",
                "<devices><disk><boot order='{}'/></disk></devices>",
                "<devices><disk><iotune><total_bytes_sec>{}</total_bytes_sec></iotune></disk></devices>",
                "<devices><disk><source><host name='h' port='{}'/></source></disk></devices>",
                "<devices><interface><mtu size='{}'/></interface></devices>",
                "<devices><interface><bandwidth><inbound average='{}'/></bandwidth></interface></devices>",
                "<devices><memballoon><stats period='{}'/></memballoon></devices>",
            )
        ),
    ],
)
@on_virtual_time
async def test_odd_numbers_in_a_definition(odd: str) -> None:
    """A definition with numbers that cannot be is XML_INVALID, to define and to create, and changes nothing."""
    async with world() as sim:
        before = set(sim.hypervisor.domains)
        xml = f"<domain type='sim'><name>odd</name>{odd}</domain>"
        assert await sim.refused(ops.Define(uuid="odd", name="odd", xml=xml)) is Reason.XML_INVALID
        assert await sim.refused(ops.Create(uuid="odd", name="odd", xml=xml)) is Reason.XML_INVALID
        assert set(sim.hypervisor.domains) == before


@on_virtual_time
async def test_a_device_with_odd_numbers() -> None:
    """It is refused when it is attached, and the domain stays readable."""
    async with world() as sim:
        device = DISK.replace("<target dev='vda'", f"<boot order='{HUGE}'/><target dev='vdb'")
        assert await sim.refused(ops.AttachDevice(uuid=sim.uuid, xml=device)) is Reason.XML_INVALID
        assert (await sim.driver.read([sim.uuid], Group.CONFIG)).found


@on_virtual_time
async def test_sizes_that_no_definition_can_have() -> None:
    """They are INVALID_ARGUMENT, and the definition can be read and set as before; memory is rounded up to whole KiB."""
    async with world(running=0) as sim:
        for odd in (ops.SetVcpus(uuid=sim.uuid, vcpus=1 << 16, maximum=True), ops.SetMemory(uuid=sim.uuid, memory_bytes=LARGEST, maximum=True)):
            assert await sim.refused(odd) is Reason.INVALID_ARGUMENT
        await sim.run(ops.SetVcpus(uuid=sim.uuid, vcpus=3, maximum=True))
        await sim.run(ops.SetMemory(uuid=sim.uuid, memory_bytes=1025, maximum=True))
        config = sim.hypervisor.domain(sim.uuid).document.config
        assert (config.vcpus_maximum, config.max_memory_bytes) == (3, 2048)


@on_virtual_time
async def test_a_device_that_makes_the_definition_too_deep() -> None:
    """It is refused when it is attached, and the domain stays readable."""
    async with world() as sim:
        deep = "<rng>" + "<a>" * (MAX_XML_DEPTH - 1) + "</a>" * (MAX_XML_DEPTH - 1) + "</rng>"
        assert await sim.refused(ops.AttachDevice(uuid=sim.uuid, xml=deep)) is Reason.XML_INVALID
        assert (await sim.driver.read([sim.uuid], Group.CONFIG)).found


@on_virtual_time
async def test_an_asking_verb_lets_go_while_it_waits() -> None:
    """While a shutdown waits for the guest, another operation may use the handle; the report says when."""
    async with world(shutdown_seconds=60) as sim:
        _, shutdown = sim.begin(ops.Shutdown(uuid=sim.uuid))
        await sim.notices.until(Report, lambda report: report.phase is Phase.WAITING_GUEST and report.abortable is True)
        await sim.run(ops.SetMemory(uuid=sim.uuid, memory_bytes=512 << 20))
        assert not shutdown.done()
        await shutdown
        assert (await sim.state()).reason == "shutdown"
        assert sim.hypervisor.violations == []


@on_virtual_time
async def test_a_deaf_guest_times_out() -> None:
    """A guest that ignores its power button ends a shutdown with GUEST_TIMEOUT and stays up; the wait can be given up too."""
    async with world() as sim:
        sim.hypervisor.domain(sim.uuid).deaf = True
        assert await sim.refused(ops.Shutdown(uuid=sim.uuid), wait_guest=30) is Reason.GUEST_TIMEOUT
        call, shutdown = sim.begin(ops.Shutdown(uuid=sim.uuid))
        await asyncio.sleep(1)
        assert (await sim.driver.cancel(call.id)).sent
        assert await reason(shutdown) is Reason.ABORTED
        assert (await sim.state()).state is State.RUNNING


@on_virtual_time
async def test_a_guest_that_ends_otherwise_is_off_too() -> None:
    """A shutdown ends well when the guest is destroyed meanwhile; a reboot fails."""
    async with world(running=2, shutdown_seconds=60) as sim:
        one, other = list(sim.hypervisor.domains)[:2]
        _, shutdown = sim.begin(ops.Shutdown(uuid=one))
        _, reboot = sim.begin(ops.Reboot(uuid=other))
        await asyncio.sleep(1)
        await sim.run(ops.Destroy(uuid=one))
        await sim.run(ops.Destroy(uuid=other))
        await shutdown
        assert await reason(reboot) is Reason.FAILED


@on_virtual_time
async def test_destroy_goes_by_a_running_save() -> None:
    """Destroy does not wait: the save fails, the guest is off without an image."""
    async with world(save_seconds=60) as sim:
        _, saving = sim.begin(ops.ManagedSave(uuid=sim.uuid))
        await asyncio.sleep(1)
        await sim.run(ops.Destroy(uuid=sim.uuid))
        assert await reason(saving) is Reason.FAILED
        state = await sim.state()
        assert (state.reason, state.has_managed_save) == ("destroyed", False)


@on_virtual_time
async def test_destroy_ends_a_start() -> None:
    """A guest that is still starting can be destroyed; its start fails."""
    async with world(start_seconds=60) as sim:
        _, starting = sim.begin(ops.Start(uuid=sim.off))
        await asyncio.sleep(1)
        assert (await sim.state(sim.off)).reason == "starting_up"
        await sim.run(ops.Destroy(uuid=sim.off))
        assert await reason(starting) is Reason.FAILED
        assert (await sim.state(sim.off)).state is State.SHUTOFF


@on_virtual_time
async def test_restore_keeps_a_pause() -> None:
    """A guest saved while paused is restored paused; `after_restore` and `force_boot` decide otherwise."""
    async with world() as sim:
        await sim.run(ops.Suspend(uuid=sim.uuid))
        await sim.run(ops.ManagedSave(uuid=sim.uuid))
        await sim.run(ops.Start(uuid=sim.uuid))
        assert (await sim.state()).state is State.PAUSED
        await sim.run(ops.ManagedSave(uuid=sim.uuid, after_restore="running"))
        await sim.run(ops.Start(uuid=sim.uuid))
        assert ((await sim.state()).state, (await sim.state()).reason) == (State.RUNNING, "restored")
        await sim.run(ops.ManagedSave(uuid=sim.uuid))
        await sim.run(ops.Start(uuid=sim.uuid, force_boot=True))
        assert ((await sim.state()).reason, (await sim.state()).has_managed_save) == ("booted", False)


@on_virtual_time
async def test_identities_exclude_each_other() -> None:
    """A name that another domain has, and a uuid under another name, are ALREADY_EXISTS."""
    async with world() as sim:
        other = "00000000-0000-4000-8000-000000000001"
        xml = f"<domain><name>guest-1</name><uuid>{other}</uuid><memory>1024</memory></domain>"
        assert await sim.refused(ops.Define(uuid=other, name="guest-1", xml=xml)) is Reason.ALREADY_EXISTS
        xml = f"<domain><name>new</name><uuid>{sim.uuid}</uuid><memory>1024</memory></domain>"
        assert await sim.refused(ops.Create(uuid=sim.uuid, name="new", xml=xml)) is Reason.ALREADY_EXISTS


@on_virtual_time
async def test_a_transient_domain_ends_with_stopped_only() -> None:
    """A transient domain that ends sends STOPPED and no UNDEFINED."""
    async with world(transient=1) as sim:
        await sim.run(ops.Destroy(uuid=sim.uuid))
        await asyncio.sleep(1)
        assert sim.events() == [("lifecycle", "stopped destroyed")]
        assert len(sim.hypervisor.domains) == 2


@on_virtual_time
async def test_a_rename_is_announced_as_undefined_and_defined() -> None:
    """Somebody else's rename sends UNDEFINED and DEFINED for the same uuid, which stays listed."""
    async with world() as sim:
        await sim.driver.simulate(control.Stranger(action="rename", uuid=sim.off, name="other"))
        await asyncio.sleep(1)
        assert sorted(sim.events()) == [("defined", "renamed"), ("undefined", "renamed")]
        assert "other" in {row.name for row in (await sim.driver.list()).domains}


@on_virtual_time
async def test_what_libvirt_does_not_announce_is_not_announced() -> None:
    """Autostart, live memory and changes of the stored definition alone raise no event."""
    async with world() as sim:
        await sim.driver.simulate(control.Stranger(action="autostart", uuid=sim.uuid))
        await sim.run(ops.SetMemory(uuid=sim.uuid, memory_bytes=512 << 20))
        await sim.run(ops.UpdateDevice(uuid=sim.uuid, xml=DISK, scope=ops.Scope.CONFIG))
        await asyncio.sleep(1)
        assert sim.events() == []
        config = (await sim.driver.read([sim.uuid], Group.CONFIG)).found[0].config
        assert config is not None
        assert (config.autostart, "/b.img" in (config.inactive_xml or ""), "/b.img" in config.xml) == (True, True, False)
        assert (await sim.state()).memory_bytes == 512 << 20


@on_virtual_time
async def test_the_agent_has_a_slot_of_its_own() -> None:
    """A password can be set while a save runs; an agent that is away is AGENT_UNRESPONSIVE after a while."""
    async with world(save_seconds=60) as sim:
        _, saving = sim.begin(ops.ManagedSave(uuid=sim.uuid))
        await asyncio.sleep(1)
        await sim.run(ops.SetUserPassword(uuid=sim.uuid, user="root", password="x"))
        assert sim.hypervisor.domain(sim.uuid).passwords == {"root": "x"}
        sim.hypervisor.domain(sim.uuid).agent = False
        assert await sim.refused(ops.SetUserPassword(uuid=sim.uuid, user="root", password="y")) is Reason.AGENT_UNRESPONSIVE
        await saving
        assert sim.hypervisor.violations == []


@on_virtual_time
async def test_external_snapshots_can_be_watched_and_aborted() -> None:
    """A snapshot that writes memory to a file has progress and hears an abort; an internal one does neither."""
    async with world(snapshot_seconds=10, save_seconds=10, settings=DriverSettings(uri="sim:", path_roots=("/snapshots",))) as sim:
        call, taking = sim.begin(ops.CreateSnapshot(uuid=sim.uuid, name="in", xml="<domainsnapshot/>"))
        await asyncio.sleep(1)
        answer = await sim.driver.cancel(call.id)
        assert (answer.sent, answer.final) == (False, False)
        await taking
        xml = "<domainsnapshot><memory snapshot='external' file='/snapshots/x'/></domainsnapshot>"
        call, taking = sim.begin(ops.CreateSnapshot(uuid=sim.uuid, name="out", xml=xml))
        await sim.notices.until(Report, lambda report: report.call_id == call.id and bool(report.processed_bytes))
        assert (await sim.driver.cancel(call.id)).sent
        assert await reason(taking) is Reason.ABORTED
        assert [one.name for one in (await sim.driver.snapshots(sim.uuid)).snapshots] == ["in"]


@on_virtual_time
async def test_readings_of_one_moment_have_different_stamps() -> None:
    """On virtual time many calls share a moment; their stamps are in order all the same."""
    async with world() as sim:
        stamps = [(await sim.driver.list()).stamp for _ in range(3)]
        assert stamps == sorted(set(stamps))


@on_virtual_time
async def test_progress_counts_up() -> None:
    """Reports of a save have growing bytes, a rate and a remaining time."""
    async with world(save_seconds=10, memory_mib=1024) as sim:
        await sim.run(ops.ManagedSave(uuid=sim.uuid))
        reports = sim.notices.since(0, Report)
        assert len(reports) > 50
        assert [report.processed_bytes for report in reports] == sorted(report.processed_bytes or 0 for report in reports)
        half = reports[len(reports) // 2]
        assert half.total_bytes == 1024 << 20
        assert half.rate_bytes_per_second == half.total_bytes // 10
        assert half.remaining_seconds == pytest.approx(5.0, abs=0.2)


@on_virtual_time
async def test_vz_shape() -> None:
    """Virtuozzo's shape: progress in per cent, everything abortable, asking verbs hold the handle, snapshot deletion holds nothing."""
    async with world(shape="vz", shutdown_seconds=10) as sim:
        table = {row.verb: row for row in sim.info.verbs}
        assert (table["DeleteSnapshot"].slot, table["Shutdown"].slot, table["SetUserPassword"].slot) == (Slot.NONE, Slot.CONDITION, Slot.CONDITION)
        await sim.run(ops.CreateSnapshot(uuid=sim.uuid, name="a", xml="<domainsnapshot/>"))
        call, saving = sim.begin(ops.ManagedSave(uuid=sim.uuid))
        report = await sim.notices.until(Report, lambda report: report.call_id == call.id and bool(report.percent))
        assert report.processed_bytes is None
        await sim.run(ops.DeleteSnapshot(uuid=sim.uuid, name="a"))
        await saving
        await sim.run(ops.Start(uuid=sim.uuid))
        _, shutdown = sim.begin(ops.Shutdown(uuid=sim.uuid))
        await asyncio.sleep(1)
        assert sim.hypervisor.violations == []
        assert await sim.refused(ops.Suspend(uuid=sim.uuid)) is Reason.FAILED
        await shutdown


@on_virtual_time
async def test_vz_waits_can_be_aborted() -> None:
    """On Virtuozzo a shutdown that waits for its guest hears an abort."""
    async with world(shape="vz", shutdown_seconds=60) as sim:
        call, shutdown = sim.begin(ops.Shutdown(uuid=sim.uuid))
        await asyncio.sleep(1)
        assert (await sim.driver.cancel(call.id)).sent
        assert await reason(shutdown) is Reason.ABORTED
        assert (await sim.state()).state is State.RUNNING


@on_virtual_time
async def test_signals_of_a_container() -> None:
    """LXC's shape: a signal reaches the first process of a running container, and nothing else."""
    async with world(shape="lxc") as sim:
        await sim.run(ops.SendProcessSignal(uuid=sim.uuid, pid=1, signal=10))
        assert sim.hypervisor.domains[sim.uuid].signals == (10,)
        assert await sim.refused(ops.SendProcessSignal(uuid=sim.uuid, pid=2, signal=10)) is Reason.UNSUPPORTED
        assert await sim.refused(ops.SendProcessSignal(uuid=sim.off, pid=1, signal=10)) is Reason.WRONG_STATE


async def test_esx_shape() -> None:
    """ESX's shape: no events, no progress, verbs missing, and calls that end with the process that carries them."""
    async with world(shape="esx", start_seconds=60) as sim:
        assert not sim.info.pushes_events
        assert await sim.refused(ops.ManagedSave(uuid=sim.uuid)) is Reason.UNSUPPORTED
        await sim.run(ops.Suspend(uuid=sim.uuid))
        assert sim.events() == []
        call, starting = sim.begin(ops.Start(uuid=sim.off))
        await asyncio.sleep(1)
        sim.driver.kill()
        assert await reason(starting) is Reason.DRIVER_LOST
        await asyncio.sleep(1)
        assert sim.hypervisor.jobs[call.id].done
        assert (await sim.state(sim.off)).state is State.SHUTOFF


@on_virtual_time
async def test_a_daemon_has_only_so_many_workers() -> None:
    """With `workers` set, more calls than that wait inside the hypervisor, and the host names its daemon."""
    async with world(workers=1, running=2, save_seconds=10) as sim:
        assert (sim.info.daemon, sim.info.min_workers) == ("sim:sim", 1)
        one, other = list(sim.hypervisor.domains)[:2]
        _, saving = sim.begin(ops.ManagedSave(uuid=one))
        await asyncio.sleep(1)
        _, suspending = sim.begin(ops.Suspend(uuid=other))
        await asyncio.sleep(1)
        assert not suspending.done()
        await saving
        await suspending


@on_virtual_time
async def test_ten_thousand_domains() -> None:
    """Ten thousand domains can be made, listed and read."""
    async with world(domains=10_000, running=10_000) as sim:
        uuids = [row.uuid for row in (await sim.driver.list()).domains]
        assert len((await sim.driver.read(uuids, Group.STATE)).found) == 10_000


@on_virtual_time
async def test_a_connected_driver_delivers_every_event_in_order_of_its_thread() -> None:
    """With the default deliverer, events come from a thread, in the order in which things happened."""
    seen: list[object] = []
    driver = SimDriver(DriverSettings(uri="sim:///?running=1"))
    await driver.start(seen.append)
    await asyncio.sleep(1)
    uuid = (await driver.list()).domains[0].uuid
    for action in ("pause", "unpause", "stop"):
        await driver.simulate(control.Stranger(action=action, uuid=uuid))
    while len(events := [item for item in seen if isinstance(item, DomainChanged)]) < 3:  # noqa: ASYNC110 - a thread adds to it
        await asyncio.sleep(0)  # real time has to pass for the thread
    assert [event.detail for event in events] == ["suspended paused", "resumed unpaused", "stopped destroyed"]
    assert {event.change for event in events} == {Change.LIFECYCLE}
    await driver.close()


def test_uri_parameters() -> None:
    """A URI sets options; one that does not exist, or does not fit, is INVALID_ARGUMENT."""
    options = from_uri("sim://a/?domains=25&running=5&latency=0.05&save_seconds=3&seed=1&shape=vz&events=false")
    assert (options.host, options.domains, options.running, options.latency, options.shape, options.events) == ("a", 25, 5, 0.05, "vz", False)
    for uri in ("sim:///?domians=1", "sim:///?domains=many", "sim:///?shape=none", "qemu:///system", "sim://me:secret@a/"):
        with pytest.raises(DriverError) as caught:
            from_uri(uri)
        assert caught.value.reason is Reason.INVALID_ARGUMENT
