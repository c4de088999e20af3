"""Where threads run, what devices may carry, and what becomes of a domain, on real QEMU guests: read back through libvirt, past virtrpc."""

from __future__ import annotations

from collections.abc import Iterator

import libvirt
import pytest

from tests.e2e.server import Guest, QemuHost, ended, eventually, running, xml_of
from virtrpc import AsyncClient, InvalidArgument, VirtrpcError, WrongState
from virtrpc.v1 import job_pb2 as j
from virtrpc.v1 import spec_pb2
from virtrpc.v1 import types_pb2 as t

pytestmark = pytest.mark.hypervisor

MIB = 1 << 20
CONFIG, LIVE, BOTH = t.CHANGE_SCOPE_CONFIG, t.CHANGE_SCOPE_LIVE, t.CHANGE_SCOPE_BOTH
MAC = "52:54:00:00:00:01"


@pytest.fixture(scope="module")
def shared_guest(qemu_host: QemuHost) -> Iterator[Guest]:
    """A guest that most tests here can share."""
    with qemu_host.guest(name="tune", disk_mib=16, tap="vtune0") as guest:
        guest.wait_for_agent()
        yield guest


@pytest.fixture
def guest(shared_guest: Guest, qemu_host: QemuHost) -> Guest:
    """The same, running."""
    return running(shared_guest, qemu_host)


async def test_pins(client: AsyncClient, guest: Guest) -> None:
    """Threads of a running guest keep to one of the host's processors; none, and one that the host lacks, are refused."""
    await ended(client.pin_vcpu(guest.name, number=0, host_cpus=[1], scope=BOTH))
    await ended(client.pin_emulator(guest.name, host_cpus=[0], scope=LIVE))
    for flags in (libvirt.VIR_DOMAIN_AFFECT_LIVE, libvirt.VIR_DOMAIN_AFFECT_CONFIG):
        assert [number for number, may in enumerate(guest.domain.vcpuPinInfo(flags)[0]) if may] == [1]
    assert [number for number, may in enumerate(guest.domain.emulatorPinInfo(libvirt.VIR_DOMAIN_AFFECT_LIVE)) if may] == [0]
    for wrong in ([], [0, 5000], [-1]):
        with pytest.raises(InvalidArgument):
            await ended(client.pin_vcpu(guest.name, number=0, host_cpus=wrong))
    with pytest.raises(InvalidArgument):
        await ended(client.pin_vcpu(guest.name, number=7, host_cpus=[0]))


async def test_io_threads(client: AsyncClient, guest: Guest) -> None:
    """A thread for disks is plugged into a running guest, pinned, and taken away; what is there, or not there, is refused."""
    await ended(client.add_io_thread(guest.name, number=4, scope=LIVE))
    await ended(client.pin_io_thread(guest.name, number=4, host_cpus=[1], scope=LIVE))
    ((number, may),) = guest.domain.ioThreadInfo(libvirt.VIR_DOMAIN_AFFECT_LIVE)
    assert (number, [cpu for cpu, allowed in enumerate(may) if allowed]) == (4, [1])
    with pytest.raises(InvalidArgument):
        await ended(client.add_io_thread(guest.name, number=4, scope=LIVE))
    await ended(client.delete_io_thread(guest.name, number=4, scope=LIVE))
    assert not guest.domain.ioThreadInfo(libvirt.VIR_DOMAIN_AFFECT_LIVE)
    for wrong in (client.delete_io_thread(guest.name, number=4, scope=LIVE), client.add_io_thread(guest.name, number=0)):
        with pytest.raises(InvalidArgument):
            await ended(wrong)


async def test_block_io_tune(client: AsyncClient, guest: Guest) -> None:
    """A running guest's disk is limited, and no longer; what contradicts itself, and a disk that is not there, are refused."""
    await ended(client.set_block_io_tune(guest.name, device="vda", read_bytes_per_second=MIB, total_operations_per_second=100, scope=LIVE))
    found = guest.domain.blockIoTune("vda", libvirt.VIR_DOMAIN_AFFECT_LIVE)
    assert (found["read_bytes_sec"], found["write_bytes_sec"], found["total_iops_sec"]) == (MIB, 0, 100)
    await ended(client.set_block_io_tune(guest.name, device="vda", read_bytes_per_second=0, scope=LIVE))
    found = guest.domain.blockIoTune("vda", libvirt.VIR_DOMAIN_AFFECT_LIVE)
    assert (found["read_bytes_sec"], found["total_iops_sec"]) == (0, 100)
    with pytest.raises(InvalidArgument):
        await ended(client.set_block_io_tune(guest.name, device="vda", total_bytes_per_second=1, read_bytes_per_second=1))
    with pytest.raises(InvalidArgument):
        await ended(client.set_block_io_tune(guest.name, device="vda"))
    with pytest.raises(VirtrpcError) as caught:
        await ended(client.set_block_io_tune(guest.name, device="vdz", read_bytes_per_second=MIB))
    assert caught.value.reason in ("DEVICE_NOT_FOUND", "INVALID_ARGUMENT")


async def test_interface_parameters(client: AsyncClient, guest: Guest) -> None:
    """An interface's limits are stored, in KiB rounded up, and taken away; what makes no sense is refused."""
    limit = j.Bandwidth(average_bytes_per_second=MIB + 1, peak_bytes_per_second=2 * MIB, burst_bytes=MIB)
    await ended(client.set_interface_parameters(guest.name, device=MAC, inbound=limit, outbound=limit, scope=CONFIG))
    found = guest.domain.interfaceParameters(MAC, libvirt.VIR_DOMAIN_AFFECT_CONFIG)
    assert (found["inbound.average"], found["inbound.peak"], found["outbound.burst"]) == (1025, 2048, 1024)
    await ended(client.set_interface_parameters(guest.name, device=MAC, inbound=j.Bandwidth(), scope=CONFIG))
    found = guest.domain.interfaceParameters(MAC, libvirt.VIR_DOMAIN_AFFECT_CONFIG)
    assert (found["inbound.average"], found["outbound.average"]) == (0, 1025)
    nothing, peak, floor = None, j.Bandwidth(peak_bytes_per_second=MIB), j.Bandwidth(floor_bytes_per_second=MIB)
    for inbound, outbound in ((nothing, nothing), (peak, nothing), (nothing, floor)):
        with pytest.raises(InvalidArgument):
            await ended(client.set_interface_parameters(guest.name, device=MAC, inbound=inbound, outbound=outbound))


async def test_lifecycle_action(client: AsyncClient, qemu_host: QemuHost) -> None:
    """A guest that reboots ends where that was asked for; the stored definition keeps what it says; no event and no action are refused."""
    with qemu_host.guest(name="ends") as guest:
        guest.wait_for_agent()
        await ended(client.set_lifecycle_action(guest.name, event=j.LIFECYCLE_EVENT_REBOOT, action=spec_pb2.LIFECYCLE_ACTION_DESTROY, scope=LIVE))
        stored = xml_of(guest.domain, libvirt.VIR_DOMAIN_XML_INACTIVE)
        assert (xml_of(guest.domain).findtext("on_reboot"), stored.findtext("on_reboot")) == ("destroy", "restart")
        guest.domain.reboot(libvirt.VIR_DOMAIN_REBOOT_GUEST_AGENT)
        await eventually(lambda: guest.state == libvirt.VIR_DOMAIN_SHUTOFF, "the guest to end instead of rebooting")
        qemu_host.wait_known(guest)
        with pytest.raises(WrongState):
            await ended(client.set_lifecycle_action(guest.name, event=j.LIFECYCLE_EVENT_CRASH, action=spec_pb2.LIFECYCLE_ACTION_PRESERVE, scope=LIVE))
        for event, action in (
            (j.LIFECYCLE_EVENT_UNSPECIFIED, spec_pb2.LIFECYCLE_ACTION_DESTROY),
            (j.LIFECYCLE_EVENT_CRASH, spec_pb2.LIFECYCLE_ACTION_UNSPECIFIED),
            (j.LIFECYCLE_EVENT_REBOOT, spec_pb2.LIFECYCLE_ACTION_COREDUMP_RESTART),
        ):
            with pytest.raises(InvalidArgument):
                await ended(client.set_lifecycle_action(guest.name, event=event, action=action))
