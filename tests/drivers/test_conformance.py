"""What every driver does, whatever is behind it: the protocol's promises, one test each."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from functools import partial

import pytest

from tests.drivers.bed import GUARD, KINDS, Bed, call_of, eventually
from virtrpc_drivers import operations as ops
from virtrpc_drivers import support
from virtrpc_drivers.errors import DriverError, Reason
from virtrpc_drivers.migration import Tuning
from virtrpc_drivers.protocol import Call, Change, DomainChanged, HostDown, HostUp, Report
from virtrpc_drivers.proxy import ProcessDriver
from virtrpc_drivers.sim import control
from virtrpc_drivers.sim.driver import SimDriver
from virtrpc_drivers.sim.faults import Rule
from virtrpc_drivers.values import Control, Group, State

pytestmark = pytest.mark.asyncio(loop_scope="module")

SNAPSHOT = "<domainsnapshot><description>for a test</description></domainsnapshot>"
GIB = 1 << 30
MIB = 1 << 20
NOBODY = "00000000-0000-4000-8000-00000000dead"

# One minimal operation of each verb, to be refused.
EXAMPLES: dict[str, Callable[[str], ops.AnyOperation]] = {
    "Create": lambda uuid: ops.Create(uuid=uuid, name="x", xml="<domain/>"),
    "Define": lambda uuid: ops.Define(uuid=uuid, name="x", xml="<domain/>"),
    "AttachDevice": lambda uuid: ops.AttachDevice(uuid=uuid, xml="<disk/>"),
    "DetachDevice": lambda uuid: ops.DetachDevice(uuid=uuid, xml="<disk/>"),
    "UpdateDevice": lambda uuid: ops.UpdateDevice(uuid=uuid, xml="<disk/>"),
    "SetUserPassword": lambda uuid: ops.SetUserPassword(uuid=uuid, user="root", password="x"),
    "SetMemory": lambda uuid: ops.SetMemory(uuid=uuid, memory_bytes=MIB),
    "CreateSnapshot": lambda uuid: ops.CreateSnapshot(uuid=uuid, name="x", xml=SNAPSHOT),
    "RevertToSnapshot": lambda uuid: ops.RevertToSnapshot(uuid=uuid, name="x"),
    "DeleteSnapshot": lambda uuid: ops.DeleteSnapshot(uuid=uuid, name="x"),
    "Save": lambda uuid: ops.Save(uuid=uuid, path="/x"),
    "Restore": lambda uuid: ops.Restore(uuid=uuid, name="x", path="/x"),
    "DumpCore": lambda uuid: ops.DumpCore(uuid=uuid, path="/x"),
    "DefineSaveImage": lambda uuid: ops.DefineSaveImage(uuid=uuid, name="x", path="/x", xml="<domain/>"),
    "DefineManagedSaveImage": lambda uuid: ops.DefineManagedSaveImage(uuid=uuid, xml="<domain/>"),
    "SetGuestVcpus": lambda uuid: ops.SetGuestVcpus(uuid=uuid, vcpus=(0,), online=True),
    "SetAuthorizedSshKeys": lambda uuid: ops.SetAuthorizedSshKeys(uuid=uuid, user="root", keys=("x",)),
    "Rename": lambda uuid: ops.Rename(uuid=uuid, name="x"),
    "SetMetadata": lambda uuid: ops.SetMetadata(uuid=uuid, kind="title", value="x"),
    "SetAutostart": lambda uuid: ops.SetAutostart(uuid=uuid, autostart=True),
    "SetVcpus": lambda uuid: ops.SetVcpus(uuid=uuid, vcpus=1),
    "SetMemoryStatsPeriod": lambda uuid: ops.SetMemoryStatsPeriod(uuid=uuid, seconds=1),
    "SendKey": lambda uuid: ops.SendKey(uuid=uuid, keycodes=(30,)),
    "PinVcpu": lambda uuid: ops.PinVcpu(uuid=uuid, number=0, host_cpus=(0,)),
    "PinEmulator": lambda uuid: ops.PinEmulator(uuid=uuid, host_cpus=(0,)),
    "AddIoThread": lambda uuid: ops.AddIoThread(uuid=uuid, number=1),
    "DeleteIoThread": lambda uuid: ops.DeleteIoThread(uuid=uuid, number=1),
    "PinIoThread": lambda uuid: ops.PinIoThread(uuid=uuid, number=1, host_cpus=(0,)),
    "SetBlockIoTune": lambda uuid: ops.SetBlockIoTune(uuid=uuid, device="vda", limits={"total_iops_sec": 1}),
    "SetInterfaceParameters": lambda uuid: ops.SetInterfaceParameters(uuid=uuid, device="vnet0", inbound=ops.Bandwidth(average=1)),
    "SetLifecycleAction": lambda uuid: ops.SetLifecycleAction(uuid=uuid, event="crash", action="destroy"),
    "SetSchedulerParameters": lambda uuid: ops.SetSchedulerParameters(uuid=uuid, parameters={"cpu_shares": 1}),
    "SetMemoryParameters": lambda uuid: ops.SetMemoryParameters(uuid=uuid, limits={"hard_limit": MIB}),
    "SetNumaParameters": lambda uuid: ops.SetNumaParameters(uuid=uuid, mode="strict"),
    "SetBlkioParameters": lambda uuid: ops.SetBlkioParameters(uuid=uuid, weight=100),
    "SetIoThreadParameters": lambda uuid: ops.SetIoThreadParameters(uuid=uuid, number=1, parameters={"poll_grow": 1}),
    "SetVcpu": lambda uuid: ops.SetVcpu(uuid=uuid, vcpus=(1,), enabled=True),
    "StartDirtyRateCalculation": lambda uuid: ops.StartDirtyRateCalculation(uuid=uuid, seconds=1),
    "SetPerfEvents": lambda uuid: ops.SetPerfEvents(uuid=uuid, events={"cpu_clock": True}),
    "SetBlockThreshold": lambda uuid: ops.SetBlockThreshold(uuid=uuid, device="vda", threshold_bytes=MIB),
    "SendProcessSignal": lambda uuid: ops.SendProcessSignal(uuid=uuid, pid=1, signal=15),
    "CreateCheckpoint": lambda uuid: ops.CreateCheckpoint(uuid=uuid, name="x", xml="<domaincheckpoint/>"),
    "DeleteCheckpoint": lambda uuid: ops.DeleteCheckpoint(uuid=uuid, name="x"),
    "PullBlock": lambda uuid: ops.PullBlock(uuid=uuid, disk="vda"),
    "CopyBlock": lambda uuid: ops.CopyBlock(uuid=uuid, disk="vda", xml="<disk/>"),
    "Backup": lambda uuid: ops.Backup(uuid=uuid, xml="<domainbackup><disks><disk name='vda'><target file='/b'/></disk></disks></domainbackup>"),
    "CommitBlock": lambda uuid: ops.CommitBlock(uuid=uuid, disk="vda"),
    "ResizeBlock": lambda uuid: ops.ResizeBlock(uuid=uuid, device="vda", capacity_bytes=MIB),
    "Migrate": lambda uuid: ops.Migrate(uuid=uuid, destination_uri="sim://b/"),
}


def example(verb: str, uuid: str) -> ops.AnyOperation:
    """A minimal operation of that verb."""
    make: Callable[..., ops.AnyOperation] = EXAMPLES.get(verb) or partial(_bare, verb)
    return make(uuid)


def _bare(verb: str, uuid: str) -> ops.AnyOperation:
    made: ops.AnyOperation = getattr(ops, verb)(uuid=uuid)
    return made


async def test_first_notice_is_host_up(bed: Bed) -> None:
    """A driver's first notice is HostUp, and its table has a row for every verb and read."""
    assert isinstance(bed.notices.seen[0], HostUp)
    assert {row.verb for row in bed.info.verbs} == set(support.NAMES)
    assert bed.info.uri == bed.kind.uri


async def test_list_has_every_domain(bed: Bed) -> None:
    """A listing has domains that run and domains that are off."""
    off, running = await bed.defined(), await bed.started()
    assert {off, running} <= {row.uuid for row in (await bed.driver.list()).domains}


async def test_later_calls_have_later_stamps(bed: Bed) -> None:
    """Stamps grow from call to call, and inside one answer from domain to domain."""
    uuids = [await bed.defined(), await bed.defined()]
    before = (await bed.driver.list()).stamp
    stamps = [reading.stamp for reading in (await bed.driver.read(uuids, Group.STATE)).found]
    after = (await bed.driver.list()).stamp
    assert [before, *stamps, after] == sorted({before, *stamps, after})


async def test_read_of_an_unknown_domain_says_missing(bed: Bed) -> None:
    """A uuid that no domain has is in `missing`, and does not keep the others from being read."""
    uuid = await bed.defined()
    answer = await bed.driver.read([NOBODY, uuid], Group.CONFIG)
    assert [missing.uuid for missing in answer.missing] == [NOBODY]
    assert [reading.uuid for reading in answer.found] == [uuid]


@pytest.mark.parametrize("group", Group)
async def test_read_gives_the_group_asked_for(bed: Bed, group: Group) -> None:
    """A reading has the group that was asked for."""
    uuid = await bed.defined()
    reading = (await bed.driver.read([uuid], group)).found[0]
    assert (reading.state if group is Group.STATE else reading.config) is not None


async def test_define_makes_a_domain(bed: Bed) -> None:
    """A defined domain is there with its definition, off and persistent, and an event says so."""
    mark = len(bed.notices.seen)
    uuid = await bed.defined()
    named = await bed.config(uuid)
    assert f"<name>{named.name}</name>" in named.config.xml
    assert (named.config.persistent, named.config.max_memory_bytes, named.config.memory_bytes) == (True, 256 * MIB, 128 * MIB)
    assert [disk.target for disk in named.config.disks] == ["vda"]
    assert (await bed.state(uuid)).state is State.SHUTOFF
    await bed.notices.event(uuid, Change.DEFINED, mark)


async def test_secrets_are_not_read(bed: Bed) -> None:
    """A password in a definition is in none of the XML texts."""
    uuid, name, xml = bed.new()
    xml = xml.replace("</devices>", "<graphics type='vnc' port='-1' autoport='yes' passwd='hunter2'/></devices>")
    await bed.run(ops.Define(uuid=uuid, name=name, xml=xml))
    config = (await bed.config(uuid)).config
    assert "graphics" in config.xml
    assert not any("hunter2" in (text or "") for text in (config.xml, config.inactive_xml, config.migratable_xml))


async def test_bad_xml_changes_nothing(bed: Bed) -> None:
    """A definition that is not XML is XML_INVALID and makes no domain."""
    before = {row.uuid for row in (await bed.driver.list()).domains}
    assert await bed.refused(ops.Define(uuid=NOBODY, name="x", xml="<domain><name>x")) is Reason.XML_INVALID
    assert {row.uuid for row in (await bed.driver.list()).domains} == before


async def test_undefine_removes_a_domain(bed: Bed) -> None:
    """An undefined domain that is off is gone, and an event says so."""
    uuid = await bed.defined()
    await bed.run(ops.Undefine(uuid=uuid))
    assert await bed.gone(uuid)
    await bed.notices.event(uuid, Change.UNDEFINED)


async def test_undefine_of_a_running_domain_leaves_it_transient(bed: Bed) -> None:
    """Undefining a running domain leaves it listed, not persistent; when it ends it is gone."""
    uuid = await bed.started()
    await bed.run(ops.Undefine(uuid=uuid))
    assert (await bed.config(uuid)).config.persistent is False
    await bed.run(ops.Destroy(uuid=uuid))
    assert await bed.gone(uuid)


async def test_start_and_destroy(bed: Bed) -> None:
    """A started domain runs and has an id; a destroyed one is off; both raise events."""
    mark = len(bed.notices.seen)
    uuid = await bed.started()
    state = await bed.state(uuid)
    assert (state.state, state.active, state.reason) == (State.RUNNING, True, "booted")
    assert state.id is not None
    await bed.run(ops.Destroy(uuid=uuid))
    state = await bed.state(uuid)
    assert (state.state, state.active, state.reason) == (State.SHUTOFF, False, "destroyed")
    await bed.notices.event(uuid, Change.LIFECYCLE, mark)


async def test_wrong_state_is_refused(bed: Bed) -> None:
    """What makes no sense in a domain's state fails with WRONG_STATE."""
    off, running = await bed.defined(), await bed.started()
    for operation in (ops.Start(uuid=running), ops.Destroy(uuid=off), ops.Suspend(uuid=off), ops.Resume(uuid=off), ops.Shutdown(uuid=off)):
        assert await bed.refused(operation) is Reason.WRONG_STATE, operation


async def test_unknown_domain_is_refused(bed: Bed) -> None:
    """An operation on a domain that is not there fails with DOMAIN_NOT_FOUND."""
    for operation in (ops.Start(uuid=NOBODY), ops.Suspend(uuid=NOBODY), ops.Undefine(uuid=NOBODY), ops.Destroy(uuid=NOBODY)):
        assert await bed.refused(operation) is Reason.DOMAIN_NOT_FOUND, operation


async def test_suspend_and_resume(bed: Bed) -> None:
    """A suspended domain is paused by a user, a resumed one runs."""
    uuid = await bed.started()
    await bed.run(ops.Suspend(uuid=uuid))
    assert ((await bed.state(uuid)).state, (await bed.state(uuid)).reason) == (State.PAUSED, "user")
    await bed.run(ops.Resume(uuid=uuid))
    assert (await bed.state(uuid)).state is State.RUNNING


async def test_create_makes_a_transient_domain(bed: Bed) -> None:
    """A created domain runs, is not persistent, and is gone when it ends."""
    bed.need("Create")
    uuid, name, xml = bed.new()
    await bed.run(ops.Create(uuid=uuid, name=name, xml=xml))
    assert (await bed.config(uuid)).config.persistent is False
    assert (await bed.state(uuid)).state is State.RUNNING
    await bed.run(ops.Destroy(uuid=uuid))
    assert await bed.gone(uuid)


async def test_set_memory(bed: Bed) -> None:
    """The stored memory and its maximum can be set; above the maximum is INVALID_ARGUMENT."""
    uuid = await bed.defined()
    await bed.run(ops.SetMemory(uuid=uuid, memory_bytes=192 * MIB, scope=ops.Scope.CONFIG))
    assert (await bed.config(uuid)).config.memory_bytes == 192 * MIB
    assert await bed.refused(ops.SetMemory(uuid=uuid, memory_bytes=GIB, scope=ops.Scope.CONFIG)) is Reason.INVALID_ARGUMENT
    await bed.run(ops.SetMemory(uuid=uuid, memory_bytes=512 * MIB, scope=ops.Scope.CONFIG, maximum=True))
    config = (await bed.config(uuid)).config
    assert (config.memory_bytes, config.max_memory_bytes) == (192 * MIB, 512 * MIB)


async def test_managed_save_and_restore(bed: Bed) -> None:
    """A saved domain is off with an image; starting it uses the image up."""
    bed.need("ManagedSave")
    uuid = await bed.started()
    await bed.run(ops.ManagedSave(uuid=uuid))
    state = await bed.state(uuid)
    assert (state.state, state.reason, state.has_managed_save) == (State.SHUTOFF, "saved", True)
    await bed.run(ops.Start(uuid=uuid))
    state = await bed.state(uuid)
    assert (state.state, state.has_managed_save) == (State.RUNNING, False)


async def test_managed_save_image_can_be_removed(bed: Bed) -> None:
    """A domain with an image cannot be undefined as it is; without the image it can."""
    bed.need("ManagedSave", "RemoveManagedSave")
    uuid = await bed.started()
    await bed.run(ops.ManagedSave(uuid=uuid))
    assert await bed.refused(ops.Undefine(uuid=uuid)) is Reason.WRONG_STATE
    await bed.run(ops.RemoveManagedSave(uuid=uuid))
    assert (await bed.state(uuid)).has_managed_save is False
    await bed.run(ops.Undefine(uuid=uuid))
    assert await bed.gone(uuid)


async def test_undefine_can_take_the_image_along(bed: Bed) -> None:
    """Undefining with `managed_save` removes domain and image."""
    bed.need("ManagedSave")
    uuid = await bed.started()
    await bed.run(ops.ManagedSave(uuid=uuid))
    await bed.run(ops.Undefine(uuid=uuid, managed_save=True))
    assert await bed.gone(uuid)


async def test_shutdown_ends_when_the_guest_is_off(bed: Bed) -> None:
    """A shutdown returns when the guest has shut itself down."""
    uuid = await bed.booted()
    await bed.run(ops.Shutdown(uuid=uuid))
    state = await bed.state(uuid)
    assert (state.state, state.reason) == (State.SHUTOFF, "shutdown")


async def test_reboot_leaves_the_guest_running(bed: Bed) -> None:
    """A reboot returns with the guest running."""
    uuid = await bed.booted()
    await bed.run(ops.Reboot(uuid=uuid))
    await eventually(lambda: _is(bed, uuid, State.RUNNING), "the guest to run")


async def test_devices_come_and_go(bed: Bed) -> None:
    """A device attached to a running guest is in its configuration; once detached it is not."""
    bed.need("AttachDevice", "DetachDevice")
    uuid = await bed.booted()
    xml = bed.kind.disk_xml(uuid)
    await bed.run(ops.AttachDevice(uuid=uuid, xml=xml))
    assert [disk.target for disk in (await bed.config(uuid)).config.disks] == ["vda", "vdb"]
    await bed.run(ops.DetachDevice(uuid=uuid, xml=xml))
    assert [disk.target for disk in (await bed.config(uuid)).config.disks] == ["vda"]


async def test_devices_of_the_stored_definition(bed: Bed) -> None:
    """With scope CONFIG the stored definition alone changes; a device that is not there is DEVICE_NOT_FOUND."""
    bed.need("AttachDevice", "DetachDevice")
    uuid = await bed.started()
    xml = bed.kind.disk_xml(uuid)
    await bed.run(ops.AttachDevice(uuid=uuid, xml=xml, scope=ops.Scope.CONFIG))
    config = (await bed.config(uuid)).config
    assert "vdb" in (config.inactive_xml or "")
    assert "vdb" not in config.xml
    await bed.run(ops.DetachDevice(uuid=uuid, xml=xml, scope=ops.Scope.CONFIG))
    assert await bed.refused(ops.DetachDevice(uuid=uuid, xml=xml, scope=ops.Scope.CONFIG)) is Reason.DEVICE_NOT_FOUND


async def test_update_device(bed: Bed) -> None:
    """A device of the stored definition can be replaced."""
    bed.need("AttachDevice", "UpdateDevice")
    uuid = await bed.defined()
    await bed.run(ops.AttachDevice(uuid=uuid, xml=bed.kind.disk_xml(uuid), scope=ops.Scope.CONFIG))
    other = bed.kind.disk_xml(f"{uuid}-other")
    await bed.run(ops.UpdateDevice(uuid=uuid, xml=other, scope=ops.Scope.CONFIG))
    assert f"{uuid}-other" in ((await bed.config(uuid)).config.inactive_xml or "")


async def test_set_user_password(bed: Bed) -> None:
    """A password is set through the guest's agent; a domain that is off has none."""
    bed.need("SetUserPassword")
    uuid = await bed.booted()

    async def done() -> bool:
        try:
            await bed.run(ops.SetUserPassword(uuid=uuid, user="root", password="secret"))
        except DriverError as error:
            if error.reason is not Reason.AGENT_UNRESPONSIVE:
                raise
            return False  # it is still starting
        return True

    await eventually(done, "the agent to answer")
    await bed.run(ops.Destroy(uuid=uuid))
    assert await bed.refused(ops.SetUserPassword(uuid=uuid, user="root", password="secret")) is Reason.WRONG_STATE


async def test_snapshot_tree(bed: Bed) -> None:
    """Snapshots form a tree with one current; reverting moves it, deleting with children takes the branch."""
    bed.need("CreateSnapshot", "RevertToSnapshot", "DeleteSnapshot")
    uuid = await bed.started()
    assert await bed.driver.current_snapshot(uuid) is None
    for name in ("a", "b"):
        xml = SNAPSHOT.replace("<description>", f"<name>{name}</name><description>")
        outcome = await bed.run(ops.CreateSnapshot(uuid=uuid, name=name, xml=xml))
        assert outcome.snapshot is not None
        assert (outcome.snapshot.name, outcome.snapshot.state) == (name, "running")
    listed = (await bed.driver.snapshots(uuid)).snapshots
    assert [(one.name, one.parent, one.current, one.children) for one in listed] == [("a", None, False, 1), ("b", "a", True, 0)]
    assert "for a test" in await bed.driver.snapshot_xml(uuid, "a")
    await bed.run(ops.RevertToSnapshot(uuid=uuid, name="a"))
    assert await bed.driver.current_snapshot(uuid) == "a"
    await bed.run(ops.DeleteSnapshot(uuid=uuid, name="a", children=True))
    assert (await bed.driver.snapshots(uuid)).snapshots == ()


async def test_deleting_a_snapshot_leaves_its_children(bed: Bed) -> None:
    """Deleting a snapshot gives its children to its parent; its descendants alone can go too."""
    bed.need("CreateSnapshot", "DeleteSnapshot")
    uuid = await bed.defined()
    for name in ("a", "b", "c"):
        await bed.run(ops.CreateSnapshot(uuid=uuid, name=name, xml=f"<domainsnapshot><name>{name}</name></domainsnapshot>"))
    await bed.run(ops.DeleteSnapshot(uuid=uuid, name="b"))
    assert [(one.name, one.parent) for one in (await bed.driver.snapshots(uuid)).snapshots] == [("a", None), ("c", "a")]
    await bed.run(ops.DeleteSnapshot(uuid=uuid, name="a", children_only=True))
    assert [one.name for one in (await bed.driver.snapshots(uuid)).snapshots] == ["a"]


async def test_unknown_snapshot_is_refused(bed: Bed) -> None:
    """Reading, deleting or reverting to a snapshot that is not there fails with SNAPSHOT_NOT_FOUND."""
    bed.need("CreateSnapshot", "RevertToSnapshot", "DeleteSnapshot")
    uuid = await bed.defined()
    assert await bed.refused(ops.DeleteSnapshot(uuid=uuid, name="none")) is Reason.SNAPSHOT_NOT_FOUND
    assert await bed.refused(ops.RevertToSnapshot(uuid=uuid, name="none")) is Reason.SNAPSHOT_NOT_FOUND
    with pytest.raises(DriverError) as caught:
        await bed.driver.snapshot_xml(uuid, "none")
    assert caught.value.reason is Reason.SNAPSHOT_NOT_FOUND


async def test_snapshot_outside_the_roots_is_refused(bed: Bed) -> None:
    """A snapshot that would write a file outside the configured directories is PATH_NOT_ALLOWED."""
    bed.need("CreateSnapshot")
    uuid = await bed.started()
    xml = "<domainsnapshot><name>x</name><memory snapshot='external' file='/etc/x'/></domainsnapshot>"
    assert await bed.refused(ops.CreateSnapshot(uuid=uuid, name="x", xml=xml)) is Reason.PATH_NOT_ALLOWED
    assert (await bed.driver.snapshots(uuid)).snapshots == ()


async def test_sample_has_what_runs(bed: Bed) -> None:
    """A sweep has the running domains that were asked for, with their processor time."""
    one, other = await bed.started(), await bed.started()
    stats = (await bed.driver.sample([one, other])).stats
    assert {reading.uuid for reading in stats if reading.cpu is not None} == {one, other}


async def test_statistics_move(bed: Bed) -> None:
    """A later sweep has a later stamp and no less processor time."""
    uuid = await bed.started()
    first = (await bed.driver.sample([uuid])).stats[0]
    second = (await bed.driver.sample([uuid])).stats[0]
    assert second.stamp > first.stamp
    assert first.cpu is not None
    assert second.cpu is not None
    assert second.cpu.time_ns >= first.cpu.time_ns


async def test_pulses_of_healthy_domains(bed: Bed) -> None:
    """A healthy domain's monitor is OK, and its processor time grows (but for libvirt's mock); one that is off has no pulse."""
    uuid, off = await bed.booted(), await bed.defined()
    (before,) = (await bed.driver.pulses([uuid, off, NOBODY])).pulses
    assert (before.uuid, before.control) == (uuid, Control.OK)

    async def moved() -> bool:
        (now,) = (await bed.driver.pulses([uuid])).pulses
        return (now.cpu_time_ns or 0) > (before.cpu_time_ns or 0)

    if bed.kind.name != "test":
        await eventually(moved, "the guest to use its processor")


async def test_probe_of_an_idle_domain_returns(bed: Bed) -> None:
    """Where nothing is stuck a probe returns."""
    uuid = await bed.started()
    async with asyncio.timeout(GUARD):
        await bed.driver.probe(uuid)


async def test_nothing_is_tuned_that_is_not_out(bed: Bed) -> None:
    """A migration that nobody began cannot be tuned."""
    await bed.started()
    answer = await bed.driver.tune("nobody's", Tuning(bandwidth_bytes_per_second=MIB))
    assert (answer.sent, bool(answer.message)) == (False, True)


async def test_what_stands_in_the_way_of_a_migration(bed: Bed) -> None:
    """A running guest is described for its destination; its own host is none, since it runs there. Asking changes nothing."""
    uuid = await bed.started()
    operation = ops.Migrate(uuid=uuid, destination_uri="sim://b/")
    departure = await bed.driver.departure(operation)
    if departure.facts is None:
        assert [found.reason for found in departure.obstacles] == ["OPERATION_FAILED"]
        return
    assert (departure.facts.uuid, departure.facts.running) == (uuid, True)
    arrival = await bed.driver.arrival(operation, departure.facts)
    assert [found.reason for found in arrival.obstacles if found.fatal] == ["ALREADY_EXISTS"]
    assert (await bed.state(uuid)).state is State.RUNNING


async def test_unsupported_verbs_are_refused(bed: Bed) -> None:
    """What the table lacks fails with UNSUPPORTED."""
    uuid = await bed.defined()
    for row in bed.info.verbs:
        if not row.supported and row.verb in ops.VERBS:
            assert await bed.refused(example(row.verb, uuid)) is Reason.UNSUPPORTED, row.verb


async def test_save_reports_progress_and_can_be_cancelled(bed: Bed) -> None:
    """A save reports growing bytes; cancelled, it fails with ABORTED and the guest runs on."""
    uuid, call, saving = await _begin_save(bed, fill_mib=900)
    await bed.notices.until(Report, lambda report: report.call_id == call.id and bool(report.abortable) and bool(report.processed_bytes))

    async def cancelled() -> bool:
        return (await bed.driver.cancel(call.id)).sent or saving.done()

    await eventually(cancelled, "the abort to be sent")
    with pytest.raises(DriverError) as caught:
        await saving
    assert caught.value.reason is Reason.ABORTED
    await eventually(lambda: _is(bed, uuid, State.RUNNING), "the guest to run on")
    reports = [report for report in bed.notices.since(0, Report) if report.call_id == call.id and report.processed_bytes is not None]
    assert [report.processed_bytes for report in reports] == sorted(report.processed_bytes or 0 for report in reports)
    assert (await bed.driver.cancel(call.id)).sent is False


async def test_a_save_that_is_left_alone_ends(bed: Bed) -> None:
    """A save whose progress was watched ends, and its reports came before its end."""
    uuid, call, saving = await _begin_save(bed, fill_mib=900)  # long enough to be polled: one of 200 MiB can be over before
    async with asyncio.timeout(GUARD):
        await saving
    assert any(report.call_id == call.id for report in bed.notices.since(0, Report))
    assert (await bed.state(uuid)).reason == "saved"


async def test_cancel_of_nothing_is_not_sent(bed: Bed) -> None:
    """Cancelling a call that nobody made is answered, and nothing is sent."""
    assert (await bed.driver.cancel("no such call")).sent is False


async def test_cancel_never_touches_anothers_job(bed: Bed) -> None:
    """While another's job runs on a domain, cancelling our waiting call sends nothing, and that job ends by itself."""
    if not bed.kind.can_foreign:
        pytest.skip("nobody else can reach this hypervisor")
    assert isinstance(bed.driver, SimDriver | ProcessDriver)
    uuid = await bed.started()
    await bed.driver.simulate(control.BeginForeignJob(uuid=uuid))
    call = call_of(ops.ManagedSave(uuid=uuid))
    saving = asyncio.ensure_future(bed.driver.run(call))
    assert (await bed.driver.cancel(call.id)).sent is False
    assert await bed.driver.simulate(control.EndForeignJobs(uuid=uuid)) == 1
    async with asyncio.timeout(GUARD):
        await saving
    assert await bed.driver.simulate(control.Violations()) == []


async def test_a_caller_that_leaves_does_not_stop_the_call(bed: Bed) -> None:
    """A caller that stops awaiting abandons the answer; the operation goes on to its end."""
    bed.need("ManagedSave")
    uuid = await bed.started()
    caller = asyncio.ensure_future(bed.driver.run(call_of(ops.ManagedSave(uuid=uuid))))
    await eventually(lambda: _left(bed, uuid), "the save to begin")
    caller.cancel()
    await asyncio.wait({caller})
    await eventually(lambda: _is(bed, uuid, State.SHUTOFF), "the save to end")
    assert (await bed.state(uuid)).has_managed_save is True


async def test_resume_proves_what_it_can(bed: Bed) -> None:
    """A resumed call that was never made is INTERRUPTED; one whose effect is there is a success."""
    bed.need("ManagedSave")
    uuid = await bed.started()
    lost = call_of(ops.ManagedSave(uuid=uuid))
    with pytest.raises(DriverError) as caught:
        await bed.driver.resume(lost)
    assert caught.value.reason is Reason.INTERRUPTED
    call = call_of(ops.ManagedSave(uuid=uuid))
    await bed.driver.run(call)
    async with asyncio.timeout(GUARD):
        await bed.driver.resume(call)


async def test_read_only_host_refuses_changes() -> None:
    """A host that is configured read-only is read, and changed by nobody."""
    for name in ("sim", "sim-process", "test"):
        bed = await Bed.open(KINDS[name](), read_only=True)
        uuid = (await bed.driver.list()).domains[0].uuid
        assert bed.info.read_only
        assert await bed.refused(ops.Suspend(uuid=uuid)) is Reason.HOST_READ_ONLY
        assert (await bed.state(uuid)).state is State.RUNNING
        await bed.close()


async def test_death_of_the_process(own_bed: Bed) -> None:
    """When its process dies, calls that are out fail with DRIVER_LOST, HostDown says so, and it comes back under a later number."""
    bed = own_bed
    assert isinstance(bed.driver, SimDriver | ProcessDriver)
    uuid = (await bed.driver.list()).domains[0].uuid if bed.kind.name != "qemu" else await bed.started()
    stamp = (await bed.driver.list()).stamp
    calls = [asyncio.ensure_future(bed.driver.run(call_of(ops.Suspend(uuid=uuid)))), asyncio.ensure_future(bed.driver.list())]
    await asyncio.sleep(0)
    bed.driver.kill()
    for ended in await asyncio.gather(*calls, return_exceptions=True):
        # On a hypervisor that answers at once they may have been faster.
        assert not isinstance(ended, DriverError) or ended.reason is Reason.DRIVER_LOST
    down = await bed.notices.until(HostDown)
    assert down.process_lost
    await bed.notices.until(HostUp, since=bed.notices.seen.index(down))
    assert bed.driver.restarts == 1
    assert (await bed.driver.list()).stamp > stamp


async def test_calls_that_hang_are_lost_with_the_process() -> None:
    """A call that the hypervisor never answers fails with DRIVER_LOST when the process dies, and so does a read."""
    for name in ("sim", "sim-process"):
        bed = await Bed.open(KINDS[name]())
        assert isinstance(bed.driver, SimDriver | ProcessDriver)
        uuid = (await bed.driver.list()).domains[0].uuid
        await bed.driver.simulate(control.AddFault(rule=Rule(wedge=True)))
        calls = [asyncio.ensure_future(bed.driver.run(call_of(ops.Suspend(uuid=uuid)))), asyncio.ensure_future(bed.driver.list())]
        await asyncio.sleep(0)
        if isinstance(bed.driver, ProcessDriver):
            bed.driver.kill(signal.SIGSEGV)
        else:
            bed.driver.kill()
        ended = await asyncio.gather(*calls, return_exceptions=True)
        assert [error.reason for error in ended if isinstance(error, DriverError)] == [Reason.DRIVER_LOST] * 2
        await bed.close()


async def test_events_of_another_life_are_not_mixed_up(bed: Bed) -> None:
    """Events name the domain that changed."""
    mark = len(bed.notices.seen)
    one, other = await bed.defined(), await bed.defined()
    await bed.run(ops.Undefine(uuid=one))
    await bed.notices.event(one, Change.UNDEFINED, mark)
    undefined = {event.uuid for event in bed.notices.since(mark, DomainChanged) if event.change is Change.UNDEFINED}
    assert other not in undefined


async def _begin_save(bed: Bed, fill_mib: int) -> tuple[str, Call, asyncio.Future[object]]:
    row = bed.info.support("ManagedSave")
    if row is None or not row.progress or not row.abortable:
        pytest.skip(f"{bed.info.hypervisor} cannot watch or abort a save")
    uuid = await bed.started(fill_mib=fill_mib)
    await bed.kind.filled((await bed.config(uuid)).name)
    call = call_of(ops.ManagedSave(uuid=uuid))
    return uuid, call, asyncio.ensure_future(bed.driver.run(call))


async def _is(bed: Bed, uuid: str, state: State) -> bool:
    return (await bed.state(uuid)).state is state


async def _left(bed: Bed, uuid: str) -> bool:
    return not await _is(bed, uuid, State.RUNNING)
