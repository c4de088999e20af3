"""Settings, metadata, keys, sleep and sizes on real QEMU guests: what each verb did is read back through libvirt, past virtrpc."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from xml.etree import ElementTree

import libvirt
import pytest
from google.protobuf.duration_pb2 import Duration

from tests.e2e.server import Guest, QemuHost, ended, eventually, running, xml_of
from virtrpc import AlreadyExists, AsyncClient, InvalidArgument, NotFound, RunTimeout, VirtrpcError, WrongState
from virtrpc.v1 import job_pb2 as j
from virtrpc.v1 import types_pb2 as t

pytestmark = pytest.mark.hypervisor

MIB = 1 << 20
CONFIG, LIVE, BOTH = t.CHANGE_SCOPE_CONFIG, t.CHANGE_SCOPE_LIVE, t.CHANGE_SCOPE_BOTH
URI = "http://example.org/app"


@pytest.fixture(scope="module")
def shared_guest(qemu_host: QemuHost) -> Iterator[Guest]:
    """A guest that most tests here can share."""
    with qemu_host.guest(name="set", disk_mib=16, vcpus=1, max_vcpus=2, interface=True) as guest:
        guest.wait_for_agent()
        yield guest


@pytest.fixture
def guest(shared_guest: Guest, qemu_host: QemuHost) -> Guest:
    """The same, running."""
    return running(shared_guest, qemu_host)


@pytest.fixture
def idle(qemu_host: QemuHost) -> Iterator[Guest]:
    """A guest of a test's own, off."""
    with qemu_host.guest(start=False) as guest:
        yield guest


async def test_reset_domain(client: AsyncClient, guest: Guest, idle: Guest) -> None:
    """A reset boots the guest again in the domain that it is, with the same number; one that is off is refused."""
    number, boots = guest.domain.ID(), guest.console.read_text().count("READY")
    await ended(client.reset_domain(guest.name))
    await eventually(lambda: guest.console.read_text().count("READY") == boots + 1, "the guest to boot again")
    assert guest.domain.ID() == number
    with pytest.raises(WrongState):
        await ended(client.reset_domain(idle.name))


async def test_rename_domain(client: AsyncClient, idle: Guest, guest: Guest) -> None:
    """A domain that is off has another name at once, under the same uuid; a name that is taken, and a domain that runs, are refused."""
    job = await ended(client.rename_domain(idle.name, name="renamed"))
    assert job.domain_result.domain.name == idle.domain.name() == "renamed"
    assert (await client.get_domain("renamed")).uuid == idle.uuid
    with pytest.raises(NotFound):
        await client.get_domain(idle.name)
    with pytest.raises(AlreadyExists):
        await ended(client.rename_domain("renamed", name=guest.name))
    with pytest.raises(WrongState):
        await ended(client.rename_domain(guest.name, name="never"))
    with pytest.raises(InvalidArgument):
        await ended(client.rename_domain("renamed", name="a/b"))


async def test_set_vcpus(client: AsyncClient, guest: Guest) -> None:
    """Virtual CPUs are plugged into the running guest and stored; more than the maximum is refused; the maximum is set for the next start."""
    await ended(client.set_vcpus(guest.name, vcpus=2, scope=BOTH))
    assert guest.domain.vcpusFlags(libvirt.VIR_DOMAIN_VCPU_LIVE) == guest.domain.vcpusFlags(libvirt.VIR_DOMAIN_VCPU_CONFIG) == 2
    assert (await client.get_domain(guest.name)).vcpus.live == 2
    with pytest.raises(InvalidArgument):
        await ended(client.set_vcpus(guest.name, vcpus=3))
    await ended(client.set_vcpus(guest.name, vcpus=4, maximum=True, scope=CONFIG))
    assert guest.domain.vcpusFlags(libvirt.VIR_DOMAIN_VCPU_CONFIG | libvirt.VIR_DOMAIN_VCPU_MAXIMUM) == 4
    await ended(client.set_vcpus(guest.name, vcpus=3, scope=CONFIG))
    assert guest.domain.vcpusFlags(libvirt.VIR_DOMAIN_VCPU_CONFIG) == 3


async def test_unplug_vcpus(client: AsyncClient, qemu_host: QemuHost) -> None:
    """A virtual CPU that was plugged in is taken from the guest, and its agent switches one off; without an agent that is AGENT_UNRESPONSIVE."""
    with qemu_host.guest(name="unplug", vcpus=1, max_vcpus=2) as guest:
        guest.wait_for_agent()
        await ended(client.set_vcpus(guest.name, vcpus=2, scope=LIVE))
        await eventually(lambda: len(guest.agent("guest-get-vcpus")) == 2, "the guest to see its second virtual CPU")
        # What was plugged in comes up offline in a guest without udev: it is switched on by the agent too.
        await ended(client.set_vcpus(guest.name, vcpus=2, guest=True))
        await ended(client.set_vcpus(guest.name, vcpus=1, guest=True))
        assert [row["online"] for row in guest.agent("guest-get-vcpus")].count(True) == 1
        assert guest.domain.vcpusFlags(libvirt.VIR_DOMAIN_VCPU_LIVE) == 2
        # QEMU without KVM takes the virtual CPU from the guest, and libvirt never hears that it is gone.
        with suppress(RunTimeout):
            await ended(client.set_vcpus(guest.name, vcpus=1, scope=LIVE))
        await eventually(lambda: len(guest.agent("guest-get-vcpus")) == 1, "the guest to lose its second virtual CPU")
    with qemu_host.guest(name="mute", agent=False) as guest:
        with pytest.raises(VirtrpcError) as caught:
            await ended(client.set_vcpus(guest.name, vcpus=1, guest=True))
        assert caught.value.reason == "AGENT_UNRESPONSIVE"


async def test_set_autostart(client: AsyncClient, idle: Guest) -> None:
    """A domain is started with its host, and no longer; libvirt raises no event, and it is seen all the same."""
    for wanted in (True, False):
        await ended(client.set_autostart(idle.name, autostart=wanted))
        assert bool(idle.domain.autostart()) is wanted
        assert (await client.get_domain(idle.name)).autostart is wanted


async def test_set_and_get_metadata(client: AsyncClient, guest: Guest) -> None:
    """Title, description and an application's element are set, read back, and removed; what is not there is NOT_FOUND."""
    await ended(client.set_metadata(guest.name, title="a guest", scope=BOTH))
    await ended(client.set_metadata(guest.name, description="of many words"))
    await ended(client.set_metadata(guest.name, element=t.MetadataElement(uri=URI, key="app", xml="<owner team='x'/>")))
    assert guest.domain.metadata(libvirt.VIR_DOMAIN_METADATA_TITLE, None) == "a guest"
    found = await client.get_metadata(guest.name)
    assert (found.title, found.description, [element.uri for element in found.elements]) == ("a guest", "of many words", [URI])
    assert ElementTree.fromstring(found.elements[0].xml).get("team") == "x"
    stored = await client.get_metadata(guest.name, inactive=True)
    assert (stored.title, stored.description) == ("a guest", "")
    await ended(client.set_metadata(guest.name, element=t.MetadataElement(uri=URI)))
    with pytest.raises(NotFound) as caught:
        await client.get_metadata(guest.name, uri=URI)
    assert caught.value.reason == "METADATA_NOT_FOUND"


async def test_bad_metadata(client: AsyncClient, guest: Guest) -> None:
    """A title of two lines, an element without namespace or key, and what is no XML are refused."""
    for wrong in (
        {"title": "a\nb"},
        {"element": t.MetadataElement(key="app", xml="<a/>")},
        {"element": t.MetadataElement(uri=URI, xml="<a/>")},
        {"element": t.MetadataElement(uri=URI, key="app", xml="<a>")},
        {},
    ):
        with pytest.raises(InvalidArgument):
            await ended(client.set_metadata(guest.name, **wrong))


async def test_set_memory_stats_period(client: AsyncClient, guest: Guest) -> None:
    """The balloon's period is set in the running guest and in what is stored."""
    await ended(client.set_memory_stats_period(guest.name, stats_period=Duration(seconds=7), scope=BOTH))
    for flags in (0, libvirt.VIR_DOMAIN_XML_INACTIVE):
        stats = xml_of(guest.domain, flags).find("devices/memballoon/stats")
        assert stats is not None
        assert stats.get("period") == "7"
    with pytest.raises(InvalidArgument):
        await ended(client.set_memory_stats_period(guest.name, stats_period=Duration(seconds=-1)))


async def test_send_key(client: AsyncClient, guest: Guest) -> None:
    """Keys reach the guest's keyboard, which counts them as interrupts; no key at all is refused."""

    def interrupts() -> int:
        lines = [line.split() for line in guest.read_file("/proc/interrupts").splitlines() if "i8042" in line]
        return sum(int(word) for line in lines for word in line[1:] if word.isdigit())

    before = interrupts()
    await ended(client.send_key(guest.name, keycodes=[30, 48], hold_duration=Duration(nanos=50_000_000)))
    await eventually(lambda: interrupts() > before, "the guest to count the keys")
    with pytest.raises(InvalidArgument):
        await ended(client.send_key(guest.name, keycodes=[]))
    with pytest.raises(InvalidArgument):
        await ended(client.send_key(guest.name, keycodes=[30], keycode_set=j.KEYCODE_SET_LINUX, hold_duration=Duration(seconds=3600)))


async def test_inject_nmi(client: AsyncClient, guest: Guest) -> None:
    """The guest counts a non-maskable interrupt."""

    def interrupts() -> int:
        line = next(line for line in guest.read_file("/proc/interrupts").splitlines() if "NMI:" in line)
        return sum(int(word) for word in line.split() if word.isdigit())

    before = interrupts()
    await ended(client.inject_nmi(guest.name))
    await eventually(lambda: interrupts() > before, "the guest to count the interrupt")


async def test_power_management(client: AsyncClient, guest: Guest, qemu_host: QemuHost) -> None:
    """A guest puts itself to sleep in memory and is woken; one that does not sleep is not woken."""
    with pytest.raises(WrongState):
        await ended(client.power_management_wakeup(guest.name))
    await ended(client.power_management_suspend(guest.name, target=j.SUSPEND_TARGET_MEMORY))
    await eventually(lambda: guest.state == libvirt.VIR_DOMAIN_PMSUSPENDED, "the guest to sleep")
    qemu_host.wait_known(guest)
    await ended(client.power_management_wakeup(guest.name))
    assert guest.state == libvirt.VIR_DOMAIN_RUNNING


async def test_resize_block(client: AsyncClient, guest: Guest) -> None:
    """A disk grows while its guest runs, and the statistics tell the new size; a disk that is not there is DEVICE_NOT_FOUND."""
    await ended(client.resize_block(guest.name, device="vda", capacity_bytes=24 * MIB))
    assert guest.domain.blockInfo("vda")[0] == 24 * MIB

    async def told() -> bool:
        return (await client.get_block_stats(guest.name, device="vda")).stats.devices[0].capacity_bytes == 24 * MIB

    await eventually(told, "the new size to be sampled")
    with pytest.raises(VirtrpcError) as caught:
        await ended(client.resize_block(guest.name, device="vdz", capacity_bytes=MIB))
    assert caught.value.reason in ("DEVICE_NOT_FOUND", "INVALID_ARGUMENT")
    with pytest.raises(InvalidArgument):
        await ended(client.resize_block(guest.name, device="vda", capacity_bytes=0))


async def test_messages(client: AsyncClient, guest: Guest) -> None:
    """What libvirt has to say about a domain is told with it."""
    assert list((await client.get_domain(guest.name)).messages) == guest.domain.messages(0)


async def test_host_stats(client: AsyncClient, direct: libvirt.virConnect) -> None:
    """The host's processor time grows and its memory is libvirt's."""

    async def sampled() -> bool:
        return (await client.get_host_stats(host="kvm")).observation.freshness == t.FRESHNESS_LIVE

    await eventually(sampled, "the host to be sampled")
    first = await client.get_host_stats(host="kvm")
    assert first.memory_bytes == direct.getMemoryStats(libvirt.VIR_NODE_MEMORY_STATS_ALL_CELLS, 0)["total"] * 1024
    assert 0 < first.free_bytes < first.memory_bytes

    async def grew() -> bool:
        return (await client.get_host_stats(host="kvm")).user_time.ToNanoseconds() > first.user_time.ToNanoseconds()

    await eventually(grew, "the host's processor time to grow")
