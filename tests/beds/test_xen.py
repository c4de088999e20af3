"""The Xen bed: what its host and its guests do, through libvirt itself and through the project's driver."""

from __future__ import annotations

import uuid as uuids
from collections.abc import AsyncIterator, Iterator

import libvirt
import pytest
import pytest_asyncio

from tests.beds.wait import wait_until
from tests.beds.xen import XenHost
from tests.drivers.bed import Bed, Kind, eventually
from virtrpc_drivers import operations as ops
from virtrpc_drivers.protocol import Change
from virtrpc_drivers.values import State

pytestmark = [
    pytest.mark.hypervisor,
    pytest.mark.matrix,
    pytest.mark.timeout(400),  # the first run ever builds the host
    pytest.mark.skipif(XenHost.missing() is not None, reason=str(XenHost.missing())),
]


@pytest.fixture(scope="module")
def host() -> Iterator[XenHost]:
    """One host for all of them."""
    with XenHost() as up:
        yield up


class Xen(Kind):
    """The driver's view of it."""

    name = "xen"

    def __init__(self, host: XenHost) -> None:
        self.host = host

    @property
    def uri(self) -> str:
        return self.host.uri

    def xml(self, name: str, uuid: str, **_: object) -> str:
        return self.host.domain_xml(name, uuid)

    def disk_xml(self, name: str) -> str:
        return self.host.disk_xml()

    async def booted(self, name: str) -> None:
        await eventually(lambda: _async(self.host.is_up(name)), f"{name} to be up")


async def _async(value: bool) -> bool:
    return value


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def connected(host: XenHost) -> AsyncIterator[Bed]:
    """The project's driver, connected."""
    bed = await Bed.open(Xen(host))
    yield bed
    await bed.close()


@pytest_asyncio.fixture(loop_scope="module")
async def bed(connected: Bed) -> AsyncIterator[Bed]:
    """The same; what a test makes is removed after it."""
    yield connected
    await connected.clean()


def test_a_guest_lives_through_libvirt(host: XenHost) -> None:
    """A guest is defined, started, paused, saved to a file, restored from it, shut down and undefined."""
    connection = libvirt.open(host.uri)
    domain = connection.defineXML(host.domain_xml("direct", str(uuids.uuid4())))
    domain.create()
    host.wait_up("direct")
    domain.suspend()
    assert domain.state()[0] == libvirt.VIR_DOMAIN_PAUSED
    domain.resume()
    domain.save(f"{host.scratch}/direct")
    assert not domain.isActive()
    connection.restore(f"{host.scratch}/direct")
    host.wait_up("direct")
    domain.shutdown()
    wait_until(lambda: not domain.isActive(), "the guest to be off")
    domain.undefine()
    assert "direct" not in [domain.name() for domain in connection.listAllDomains()]
    connection.close()


def test_two_starts_share_nothing(host: XenHost) -> None:
    """A host that is started begins as the kept state is, whatever another one does meanwhile."""
    host.run("echo spoilt > /etc/spoilt; sync")
    with XenHost() as another:
        assert another.run("ls /etc").count("spoilt") == 0
        assert another.uri != host.uri


@pytest.mark.asyncio(loop_scope="module")
async def test_a_guest_lives_through_the_driver(bed: Bed) -> None:
    """A domain is defined, started, paused, resumed, saved, started again from its image and destroyed, and each event arrives."""
    uuid = await bed.defined()
    mark = len(bed.notices.seen)
    await bed.run(ops.Start(uuid=uuid))
    await bed.notices.event(uuid, Change.LIFECYCLE, mark)
    await bed.kind.booted((await bed.config(uuid)).name)
    await bed.run(ops.Suspend(uuid=uuid))
    assert (await bed.state(uuid)).state is State.PAUSED
    await bed.run(ops.Resume(uuid=uuid))
    assert (await bed.state(uuid)).state is State.RUNNING
    await bed.run(ops.ManagedSave(uuid=uuid))
    assert (await bed.state(uuid)).state is State.SHUTOFF
    await bed.run(ops.Start(uuid=uuid))
    mark = len(bed.notices.seen)
    await bed.run(ops.Destroy(uuid=uuid))
    await bed.notices.event(uuid, Change.LIFECYCLE, mark)
    assert (await bed.state(uuid)).state is State.SHUTOFF


@pytest.mark.asyncio(loop_scope="module")
async def test_a_guest_is_asked_to_shut_down(bed: Bed) -> None:
    """A shutdown ends once the guest is off."""
    uuid = await bed.booted()
    await bed.run(ops.Shutdown(uuid=uuid))
    assert (await bed.state(uuid)).state is State.SHUTOFF


@pytest.mark.asyncio(loop_scope="module")
async def test_listing_has_dom0_and_guests(bed: Bed) -> None:
    """dom0 is listed beside the guests, and runs."""
    uuid = await bed.started()
    listed = {domain.uuid: domain.name for domain in (await bed.driver.list()).domains}
    assert {"Domain-0", (await bed.config(uuid)).name} <= set(listed.values())
    dom0 = next(found for found, name in listed.items() if name == "Domain-0")
    assert (await bed.state(dom0)).state is State.RUNNING
