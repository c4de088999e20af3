"""VMware on a desktop with doubles of its commands: what libvirt's driver can do there, by itself and in a driver process of ours."""

from __future__ import annotations

import uuid as uuids
from collections.abc import AsyncIterator, Iterator

import libvirt
import pytest

from tests.beds.vmware import VmwareDesktop
from tests.drivers.bed import Bed, Kind
from virtrpc_drivers import operations as ops
from virtrpc_drivers.errors import Reason
from virtrpc_drivers.values import State

pytestmark = [pytest.mark.matrix, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def desktop() -> Iterator[VmwareDesktop]:
    """The doubles, first in PATH."""
    with VmwareDesktop() as started:
        yield started


@pytest.fixture
def direct(desktop: VmwareDesktop) -> Iterator[libvirt.virConnect]:
    """A connection of our own."""
    libvirt.registerErrorHandler(lambda _context, _error: None, None)
    connection = libvirt.open(desktop.uri)
    yield connection
    for domain in connection.listAllDomains(0):
        if domain.isActive():
            domain.destroy()
    connection.close()


def test_the_life_of_a_machine(desktop: VmwareDesktop, direct: libvirt.virConnect) -> None:
    """Start, suspend, resume, reboot, shutdown, destroy and undefine do what they say, by way of vmrun."""
    domain = direct.defineXML(desktop.domain_xml("alive", str(uuids.uuid4())))
    states = []
    for verb in ("create", "suspend", "resume", "reboot", "shutdown", "create", "destroy"):
        getattr(domain, verb)()
        states.append((domain.state()[0], len(desktop.running())))
    running, paused, off = (libvirt.VIR_DOMAIN_RUNNING, 1), (libvirt.VIR_DOMAIN_PAUSED, 1), (libvirt.VIR_DOMAIN_SHUTOFF, 0)
    assert states == [running, paused, running, running, off, running, off]
    domain.undefine()
    assert direct.listAllDomains(0) == []


def test_a_transient_machine(desktop: VmwareDesktop, direct: libvirt.virConnect) -> None:
    """A machine that is created is gone once it is off."""
    domain = direct.createXML(desktop.domain_xml("brief", str(uuids.uuid4())))
    assert (domain.isPersistent(), domain.isActive(), len(desktop.running())) == (0, 1, 1)
    domain.destroy()
    assert direct.listAllDomains(0) == []


def test_domains_live_with_their_connection(desktop: VmwareDesktop, direct: libvirt.virConnect) -> None:
    """Why all lanes share one: another connection knows what ran when it was opened, and nothing else."""
    direct.defineXML(desktop.domain_xml("kept", str(uuids.uuid4())))
    direct.defineXML(desktop.domain_xml("runs", str(uuids.uuid4()))).create()
    another = libvirt.open(desktop.uri)
    assert [domain.name() for domain in another.listAllDomains(0)] == ["runs"]
    another.close()


class DesktopKind(Kind):
    """A desktop as the drivers' tests see it."""

    def __init__(self, desktop: VmwareDesktop) -> None:
        self._desktop = desktop

    @property
    def uri(self) -> str:
        return self._desktop.uri

    def xml(self, name: str, uuid: str, **_: object) -> str:
        return self._desktop.domain_xml(name, uuid)


@pytest.fixture
async def bed(desktop: VmwareDesktop) -> AsyncIterator[Bed]:
    """A driver process of ours on it, connected."""
    opened = await Bed.open(DesktopKind(desktop))
    yield opened
    for row in (await opened.driver.list()).domains:
        if row.id is not None and row.id >= 0:
            await opened.run(ops.Destroy(uuid=row.uuid))
    await opened.close()


async def test_a_driver_process_does_all_of_it(desktop: VmwareDesktop, bed: Bed) -> None:
    """The verbs that the table says it has, over whichever lane, each with the state that follows, all without an event."""
    assert not bed.info.pushes_events
    uuid = await bed.started()
    for operation, state in (
        (ops.Suspend(uuid=uuid), State.PAUSED),
        (ops.Resume(uuid=uuid), State.RUNNING),
        (ops.Reboot(uuid=uuid), State.RUNNING),
        (ops.Shutdown(uuid=uuid), State.SHUTOFF),
        (ops.Start(uuid=uuid), State.RUNNING),
        (ops.Destroy(uuid=uuid), State.SHUTOFF),
    ):
        await bed.run(operation)
        assert (await bed.state(uuid)).state is state, operation
    await bed.run(ops.Undefine(uuid=uuid))
    assert await bed.gone(uuid)
    assert desktop.running() == set()


async def test_a_transient_domain_goes_with_its_end(bed: Bed) -> None:
    """Create makes a running domain; destroyed, it is gone."""
    uuid, name, xml = bed.new()
    await bed.run(ops.Create(uuid=uuid, name=name, xml=xml))
    assert (await bed.config(uuid)).config.persistent is False
    await bed.run(ops.Destroy(uuid=uuid))
    assert await bed.gone(uuid)


async def test_what_it_lacks_is_refused_before_a_call(bed: Bed) -> None:
    """Sizes, snapshots, managed save and devices are not this driver's."""
    uuid = await bed.defined()
    for operation in (
        ops.SetMemory(uuid=uuid, memory_bytes=1 << 20),
        ops.CreateSnapshot(uuid=uuid, name="x", xml="<domainsnapshot/>"),
        ops.ManagedSave(uuid=uuid),
        ops.AttachDevice(uuid=uuid, xml="<disk/>"),
    ):
        assert await bed.refused(operation) is Reason.UNSUPPORTED
