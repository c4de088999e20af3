"""ESX and vCenter against their simulator: what libvirt's driver can do there, by itself and in a driver process of ours."""

from __future__ import annotations

import signal
import subprocess
import sys
import uuid as uuids
from collections.abc import AsyncIterator, Iterator

import libvirt
import pytest

from tests.beds.esx import EsxHost, VcenterHost, missing
from tests.drivers.bed import Bed, Kind
from virtrpc_drivers import operations as ops
from virtrpc_drivers.errors import DriverError, Reason
from virtrpc_drivers.protocol import HostDown, HostUp
from virtrpc_drivers.proxy import ProcessDriver
from virtrpc_drivers.values import State

pytestmark = [
    pytest.mark.matrix,
    pytest.mark.timeout(300),
    pytest.mark.skipif(missing() is not None, reason=missing() or "it can be built"),
]
KIB_PER_MIB = 1024
DEFINE = "import libvirt, sys; libvirt.open(sys.argv[1]).defineXML(sys.argv[2])"


@pytest.fixture(scope="module", params=[EsxHost, VcenterHost], ids=["esx", "vpx"])
def host(request: pytest.FixtureRequest) -> Iterator[EsxHost]:
    """Both ways to a host."""
    with request.param() as started:
        yield started


@pytest.fixture
def direct(host: EsxHost) -> Iterator[libvirt.virConnect]:
    """A connection of our own; the machines that a test makes end with it."""
    libvirt.registerErrorHandler(lambda _context, _error: None, None)
    connection = libvirt.open(host.uri)
    yield connection
    for domain in connection.listAllDomains(0):
        if domain.name() != host.existing:
            if domain.isActive():
                domain.destroy()
            domain.undefine()
    connection.close()


def made(host: EsxHost, direct: libvirt.virConnect, name: str) -> libvirt.virDomain:
    """A machine, off."""
    direct.defineXML(host.domain_xml(name, str(uuids.uuid4())))
    return direct.lookupByName(name)


def test_a_machine_is_there_from_the_start(host: EsxHost, direct: libvirt.virConnect) -> None:
    """The machines of the simulator have definitions, of which it stores none itself."""
    domain = direct.lookupByName(host.existing)
    assert domain.state()[0] == libvirt.VIR_DOMAIN_RUNNING
    assert domain.UUIDString() in domain.XMLDesc(0)


def test_a_definition_is_taken_at_its_word(host: EsxHost, direct: libvirt.virConnect) -> None:
    """A machine has the name, uuid and sizes that its definition says, and its XML tells what was changed since."""
    uuid = str(uuids.uuid4())
    domain = direct.defineXML(host.domain_xml("defined", uuid))
    assert (domain.UUIDString(), domain.info()[1:4]) == (uuid, [256 * KIB_PER_MIB, 256 * KIB_PER_MIB, 1])
    domain.setMemory(128 * KIB_PER_MIB)
    domain.setVcpus(2)
    assert domain.info()[1:4] == [256 * KIB_PER_MIB, 128 * KIB_PER_MIB, 2]
    assert f"<currentMemory unit='KiB'>{128 * KIB_PER_MIB}</currentMemory>" in domain.XMLDesc(0)


def test_the_life_of_a_machine(host: EsxHost, direct: libvirt.virConnect) -> None:
    """Start, suspend, resume, reboot, shutdown, destroy and undefine do what they say."""
    domain = made(host, direct, "alive")
    states = []
    for verb in ("create", "suspend", "resume", "reboot", "shutdown", "create", "destroy"):
        getattr(domain, verb)()
        states.append(domain.state()[0])
    running, paused, off = libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_SHUTOFF
    assert states == [running, paused, running, running, off, running, off]
    domain.undefine()
    assert [found.name() for found in direct.listAllDomains(0)] == [host.existing]


def test_what_the_tools_and_the_host_tell(host: EsxHost, direct: libvirt.virConnect) -> None:
    """Autostart, the guest's name and addresses, and a screenshot."""
    domain = made(host, direct, "told")
    domain.setAutostart(1)
    assert domain.autostart() == 1
    domain.setAutostart(0)
    assert domain.autostart() == 0
    domain.create()
    assert domain.hostname() == "told.example"
    (interface,) = domain.interfaceAddresses(libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_AGENT).values()
    assert [address["addr"] for address in interface["addrs"]] == ["192.0.2.7"]
    assert domain.screenshot(direct.newStream(0), 0) == "image/png"


def test_snapshots(host: EsxHost, direct: libvirt.virConnect) -> None:
    """A snapshot has a parent, a machine goes back to it, and a deleted one is gone. libvirt's driver lists names only."""
    domain = made(host, direct, "kept")
    for name in ("first", "second"):
        domain.snapshotCreateXML(f"<domainsnapshot><name>{name}</name></domainsnapshot>")
    first, second = (domain.snapshotLookupByName(name) for name in domain.snapshotListNames())
    assert second.getParent().getName() == "first"
    domain.revertToSnapshot(first)
    assert domain.snapshotCurrent().getName() == "first"
    first.delete()
    assert domain.snapshotListNames() == ["second"]
    second.delete()
    assert domain.snapshotListNames() == []


def test_a_missing_path_kills_the_caller(host: EsxHost, direct: libvirt.virConnect) -> None:
    """What the beds' switch is for: libvirt's client dereferences NULL in the process that defines a domain."""
    command = [sys.executable, "-c", DEFINE, host.uri, host.domain_xml("never", str(uuids.uuid4()))]
    with host.without_mount_paths():
        assert subprocess.run(command, capture_output=True).returncode == -signal.SIGSEGV
        assert [domain.name() for domain in direct.listAllDomains(0)] == [host.existing]
    assert subprocess.run(command, capture_output=True).returncode == 0


class EsxKind(Kind):
    """An ESX host as the drivers' tests see it."""

    def __init__(self, host: EsxHost) -> None:
        self._host = host

    @property
    def uri(self) -> str:
        return self._host.uri

    def xml(self, name: str, uuid: str, **_: object) -> str:
        return self._host.domain_xml(name, uuid)


@pytest.fixture
async def bed(host: EsxHost, direct: libvirt.virConnect) -> AsyncIterator[Bed]:
    """A driver process of ours on it, connected."""
    opened = await Bed.open(EsxKind(host))
    yield opened
    await opened.close()


async def test_a_driver_process_does_all_of_it(bed: Bed) -> None:
    """The verbs that the table says it has, each with the state that follows, all without an event."""
    assert not bed.info.pushes_events
    uuid = await bed.started()
    for operation, state in (
        (ops.Suspend(uuid=uuid), State.PAUSED),
        (ops.Resume(uuid=uuid), State.RUNNING),
        (ops.Reboot(uuid=uuid), State.RUNNING),
        (ops.CreateSnapshot(uuid=uuid, name="kept", xml="<domainsnapshot><name>kept</name></domainsnapshot>"), State.RUNNING),
        (ops.RevertToSnapshot(uuid=uuid, name="kept"), State.RUNNING),
        (ops.DeleteSnapshot(uuid=uuid, name="kept"), State.RUNNING),
        (ops.Shutdown(uuid=uuid), State.SHUTOFF),
        (ops.SetMemory(uuid=uuid, memory_bytes=128 << 20), State.SHUTOFF),
        (ops.SetMemory(uuid=uuid, memory_bytes=512 << 20, maximum=True, scope=ops.Scope.CONFIG), State.SHUTOFF),
        (ops.SetVcpus(uuid=uuid, vcpus=2, scope=ops.Scope.CONFIG), State.SHUTOFF),
        (ops.SetAutostart(uuid=uuid, autostart=True), State.SHUTOFF),
        (ops.Start(uuid=uuid), State.RUNNING),
        (ops.Destroy(uuid=uuid), State.SHUTOFF),
    ):
        await bed.run(operation)
        assert (await bed.state(uuid)).state is state, operation
    read = await bed.state(uuid)
    assert (read.memory_bytes, read.max_memory_bytes, read.vcpus) == (128 << 20, 512 << 20, 2)
    assert (await bed.config(uuid)).config.autostart
    await bed.run(ops.Undefine(uuid=uuid))
    assert await bed.gone(uuid)


async def test_there_is_one_definition(bed: Bed) -> None:
    """Sizes are changed without a scope: what would change the stored definition of a running domain alone is refused."""
    uuid = await bed.started()
    assert await bed.refused(ops.SetVcpus(uuid=uuid, vcpus=2, scope=ops.Scope.CONFIG)) is Reason.UNSUPPORTED
    assert await bed.refused(ops.SetVcpus(uuid=uuid, vcpus=2, maximum=True)) is Reason.UNSUPPORTED
    await bed.run(ops.SetMemory(uuid=uuid, memory_bytes=128 << 20, scope=ops.Scope.BOTH))
    await bed.run(ops.Destroy(uuid=uuid))
    assert await bed.refused(ops.SetMemory(uuid=uuid, memory_bytes=64 << 20, scope=ops.Scope.LIVE)) is Reason.WRONG_STATE


async def test_what_it_lacks_is_refused_before_a_call(bed: Bed) -> None:
    """Managed save, devices, passwords and transient domains are not ESX's."""
    uuid = await bed.defined()
    for operation in (ops.ManagedSave(uuid=uuid), ops.AttachDevice(uuid=uuid, xml="<disk/>"), ops.Create(uuid=uuid, name="x", xml="<domain/>")):
        assert await bed.refused(operation) is Reason.UNSUPPORTED


async def test_a_host_that_vanishes_is_told(host: EsxHost, bed: Bed) -> None:
    """libvirt says of such a connection that it lives for ever; that the host does not answer is seen, and that it is back."""
    uuid = (await bed.driver.list()).domains[0].uuid
    mark = len(bed.notices.seen)
    host.vanish()
    try:
        assert await bed.refused(ops.Suspend(uuid=uuid)) in (Reason.DRIVER_LOST, Reason.HOST_UNREACHABLE)
        down = await bed.notices.until(HostDown, since=mark)
        assert (down.fault.reason, down.process_lost) == (Reason.HOST_UNREACHABLE, False)
        with pytest.raises(DriverError) as caught:
            await bed.driver.list()
        assert caught.value.reason is Reason.HOST_UNREACHABLE
    finally:
        host.appear()
    await bed.notices.until(HostUp, since=mark)
    assert [row.name for row in (await bed.driver.list()).domains] == [host.existing]


async def test_a_crash_of_the_client_library_is_a_lost_driver(host: EsxHost, bed: Bed) -> None:
    """The call ends DRIVER_LOST, and the process is started again: it lists what there is."""
    assert isinstance(bed.driver, ProcessDriver)
    uuid, name, xml = bed.new()
    mark = len(bed.notices.seen)
    with host.without_mount_paths():
        assert await bed.refused(ops.Define(uuid=uuid, name=name, xml=xml)) is Reason.DRIVER_LOST
    assert (await bed.notices.until(HostDown, since=mark)).process_lost
    await bed.notices.until(HostUp, since=mark)
    assert bed.driver.restarts == 1
    assert [row.name for row in (await bed.driver.list()).domains] == [host.existing]
